"""The Lease of this node at home, and which of several farlet processes holds it."""
