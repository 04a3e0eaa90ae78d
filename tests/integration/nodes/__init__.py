"""The virtual node as seen by the controllers, the scheduler and kubectl of the home cluster.

The clusters have a node lifecycle controller with a short grace period: see `conftest.py`.
"""
