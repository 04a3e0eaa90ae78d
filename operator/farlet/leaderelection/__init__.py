"""The Lease of this node in the home cluster, and which of several farlet processes holds it."""
