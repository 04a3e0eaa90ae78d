"""Names of farlet's objects in the foreign cluster, and of users that are nodes or accounts.

Separate from `forge.pod`, since the access strategies need the names and must not import the
forge. A name is a contract between versions of farlet: changing one orphans objects.
"""

from __future__ import annotations

import hashlib
import re

from farlet.k8s_types import PodSpec

_SECRET_NAME = re.compile(r"farlet-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")

SUBDOMAIN_LENGTH = 253
"""Characters in the longest name of most objects (`DNS1123SubdomainMaxLength`)."""


NODES = "system:nodes"
"""The group of all nodes, the organization in their certificates."""

ACCOUNT_USER = "system:serviceaccount:"
"""Prefix of the user name of a ServiceAccount."""


def node_user(node: str) -> str:
    """The user name of a node."""
    return f"system:node:{node}"


def account_user(namespace: str, name: str) -> str:
    """The user name of a ServiceAccount."""
    return f"{ACCOUNT_USER}{namespace}:{name}"


def is_subdomain(name: str) -> bool:
    """Whether it can be the name of an object: a DNS-1123 subdomain."""
    return len(name) <= SUBDOMAIN_LENGTH and _SUBDOMAIN.fullmatch(name) is not None


def service_account(spec: PodSpec) -> str:
    """The pod's account; ServiceAccount admission writes `default` if none is given."""
    return spec.get("serviceAccountName") or "default"


def mirror_name(name: str) -> str:
    """The mirror's name: the home pod's own, so that `hostname` and `metadata.name` are equal.

    Both servers allow DNS-1123 subdomains of up to 253 characters.
    """
    return name


def secret_name(uid: str) -> str:
    """The Secret of one mirror, by home uid.

    The uid and not the pod's name: a token is valid only for the uid it was bound to, so that a
    Secret of an earlier pod of the same name must never be mounted.
    """
    return f"farlet-{uid}"


def is_secret_name(name: str) -> bool:
    """Whether a Secret of this name is one that farlet created for a mirror, of any home.

    Kubernetes creates uids as UUIDs, so names such as `farlet-settings` are free for users.
    """
    return _SECRET_NAME.fullmatch(name) is not None


def copy_name(name: str, *, home_id: str, namespace: str, kind: str) -> str:
    """The copy of a home ConfigMap or Secret: its name and a hash, so that it never clashes.

    Every namespace has objects of some names, such as trust bundles. And a pod that names an object
    of the foreign namespace gets the copy of its own. A name too long for the hash is cut; its hash
    includes the name then.
    """
    parts = [home_id, namespace, kind]
    copy = f"{name}-{_digest(*parts)[:16]}"
    if len(copy) <= SUBDOMAIN_LENGTH:
        return copy
    digest = _digest(*parts, name)[:32]
    return f"{name[: SUBDOMAIN_LENGTH - len(digest) - 1].rstrip('.-')}-{digest}"


def claim_name(name: str, *, home_id: str, namespace: str, uid: str) -> str:
    """The foreign PersistentVolumeClaim of a home claim.

    Its hash includes the uid: a claim that is recreated never gets the data of the one before it,
    which a reclaim policy may have retained.
    """
    return copy_name(
        name, home_id=home_id, namespace=namespace, kind=f"PersistentVolumeClaim/{uid}"
    )


def volume_name(uid: str) -> str:
    """The placeholder PersistentVolume of a home claim, by the claim's uid."""
    return f"farlet-{uid}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def event_name(pod: str, *, suffix: str) -> str:
    """The name of an Event: the pod's name and a suffix, as client-go's event recorder does.

    A DNS-1123 subdomain of at most 253 characters. A name that is cut can end in a character that
    must not be followed by a dot.
    """
    most = SUBDOMAIN_LENGTH - len(suffix) - 1
    return f"{pod[:most].rstrip('.-')}.{suffix}"
