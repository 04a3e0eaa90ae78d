"""What the commands other than `farlet run` and `farlet manager` do, one module or package each."""
