"""The Node object at home, kept as a kubelet keeps that of its machine.

`virtualnode` puts the parts together: `registration` makes or adopts the Node, `homenode` follows
it, `heartbeat` renews its Lease, `foreignnodes` adds up what fits, and `reachability` watches over
the foreign API server. What the Node should look like is decided in `forge`.
"""
