"""A foreign cluster as a node of the home cluster."""

__version__ = "0.2.0"
