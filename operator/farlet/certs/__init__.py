"""Certificates of the node: key pairs, requests to home's signers, renewal."""
