"""`make demo` shows farlet in half a minute, on two real clusters and with real containers.

Nothing is simulated: the home scheduler places the pods, the output of a pod comes from its own
log, and the API server that a pod used is read from that server's audit log.
"""
