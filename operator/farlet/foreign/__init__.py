"""What farlet follows in the foreign cluster: its namespaces, and the objects in them."""
