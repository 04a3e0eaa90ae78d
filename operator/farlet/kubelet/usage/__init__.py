"""CPU and memory usage of pods: read from the foreign metrics API, served as by a kubelet."""
