"""`farlet explain`: why a pod waits, or what happened to it, in both clusters."""
