"""`make demo`: what farlet does, in half a minute, on two real clusters and with real containers.

Nothing is staged: pods go through home's scheduler, what a pod says comes from its own log, and
which API server it asked comes from that server's audit log.
"""
