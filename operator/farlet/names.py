"""What our objects abroad are called.

Kept apart from `pod.py` because the access strategies need the names and must not need the
forge. A name here is a contract between two starts of farlet: changing one orphans objects.
"""

from __future__ import annotations

from farlet.k8s_types import PodSpec


def service_account(spec: PodSpec) -> str:
    """The pod's account; ServiceAccount admission writes `default` where none is given."""
    return spec.get("serviceAccountName") or "default"


def mirror_name(name: str) -> str:
    """The mirror's name: the home pod's own, so that `hostname` and `metadata.name` are equal.

    Both servers allow DNS-1123 subdomains of up to 253 characters.
    """
    return name


def secret_name(uid: str) -> str:
    """The Secret of one mirror, by home uid.

    The uid and not the pod's name: a token dies with the uid it was bound to, so a Secret that
    an earlier pod of the same name left behind must never be mounted.
    """
    return f"farlet-{uid}"
