"""`farlet status`: virtual nodes, their processes, pods and credentials, from the home cluster."""
