"""The Node object in the home cluster, maintained as a kubelet maintains its own.

`virtual_node` combines the parts: `registration` creates or adopts the Node, `home_node` watches
it, `heartbeat` renews its Lease, `foreign_nodes` determines its capacity, and `reachability` probes
the foreign API server. `forge` computes the Node's fields.
"""
