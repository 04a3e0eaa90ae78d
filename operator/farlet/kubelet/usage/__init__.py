"""What pods use: read from the foreign metrics API, served as a kubelet serves it."""
