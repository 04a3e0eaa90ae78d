module clusters/load

go 1.26.0
