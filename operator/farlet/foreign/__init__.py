"""What farlet follows in the foreign cluster: which namespaces, and what it is told of them."""
