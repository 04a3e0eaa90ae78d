"""Certificates of the node: key pairs, signing requests in the home cluster, renewal."""
