"""Kubernetes' own NodeConformance tests through a virtual node: `make conformance`.

The home cluster has no node but the virtual one, so each pod that a test creates runs in the
foreign cluster, on its real node. The tests speak to the home API server only and are unchanged,
and nothing in farlet knows of them.
"""
