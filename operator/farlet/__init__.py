"""A foreign cluster as a node of the home cluster."""
