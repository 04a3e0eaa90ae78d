"""Tests that break API servers, networks, permissions and farlet itself.

farlet runs as a process, as its users start it, without any test code in it. Faults come from a
proxy between farlet and an API server (`proxy.py`), from signals to processes, and from actions
that the administrators of the clusters can take.
"""
