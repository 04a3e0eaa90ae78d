"""farlet under faults: what breaks here are API servers, networks, rights and farlet itself.

farlet is a process as its users start it, and knows nothing of these tests: faults come from a
proxy between it and an API server (`proxy.py`), from signals to processes, and from what the
clusters' administrators may do.
"""
