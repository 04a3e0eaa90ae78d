"""The kubelet API of the virtual node: what home's API server dials for logs, exec and the like.

Its words, paths and rights are those of a kubelet's server (`pkg/kubelet/server` of Kubernetes
1.36), since nobody who calls it should notice a difference.
"""
