"""The home API server within reach of pods abroad, by nothing but farlet's own connection abroad.

A gateway pod in the foreign cluster listens for pods. farlet reaches it through the foreign API
server's port-forward and speaks SSH with it; each connection that a pod opens to the gateway
becomes a channel of that, and ends as a connection of farlet's to the home API server::

    pod ── gateway ══ SSH in a port-forward of the foreign API server ══ farlet ── home API server

Bytes of pods are never interpreted: TLS goes from the pod to the home API server. The gateway
accepts connections of farlet but is the SSH *client*, and farlet, which opens them, is the SSH
*server*: it alone decides what may be reached, and nothing can be opened towards the gateway.

`keys` (who believes whom), `link` (one SSH connection, either end), `splice` (one connection of a
pod, either end), `door` (the gateway's process), `tunnel` (farlet's end of one link), `upkeep` (one
tunnel for each gateway pod), `portforward` (bytes to a port of a pod abroad).
docs/decisions/0012-gateway.md says why SSH, and what was measured.
"""
