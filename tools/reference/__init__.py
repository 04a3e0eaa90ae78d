"""Generators of `docs/reference/`, the RBAC manifests and the dashboard; not part of the image."""
