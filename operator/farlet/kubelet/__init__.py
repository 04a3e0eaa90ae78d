"""The kubelet API of the virtual node: what the home API server calls for logs, exec and so on.

Paths, permissions and texts are those of a kubelet's server (`pkg/kubelet/server` of Kubernetes
1.36), so that callers see no difference. A request passes through `server` (TLS and HTTP),
`authentication`, `authorization` (with the permission that `routes` determines) and
`request_handler`, which passes it to `logs`, `streams`, `pod_lists` or `usage`.
"""
