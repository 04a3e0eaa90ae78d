"""Gateway: pods in the foreign cluster reach the home API server through farlet's own connection.

A gateway pod in the foreign cluster listens for pods. farlet reaches it through a port-forward of
the foreign API server and speaks SSH with it. Each connection that a pod opens to the gateway
becomes an SSH channel, and farlet connects that channel to the home API server::

    pod ── gateway ══ SSH in a port-forward of the foreign API server ══ farlet ── home API server

Neither end interprets the bytes: TLS goes from the pod to the home API server. The gateway accepts
the TCP connection of farlet but is the SSH *client*; farlet is the SSH *server*. So farlet alone
decides what is reachable, and nothing can be opened towards the gateway.

`keys` (the keys of both ends), `link` (one SSH connection, either end), `relay` (one connection of
a pod, either end), `server` and `process` (the gateway), `tunnel` (farlet's end of one link),
`tunnel_manager` (one tunnel to each gateway pod), `port_forward` (bytes to a port of a pod),
`home_dialer` (farlet's connection to the home API server).
docs/decisions/0012-gateway.md says why SSH, and what was measured.
"""
