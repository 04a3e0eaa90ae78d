"""One virtual node as an administrator wants it: what `farlet connect` installs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farlet.constants import JSON, ObjectKey
from farlet.context import NamespaceMap
from farlet.manager.virtual_node import (
    FARLET,
    INSTANCE_LABEL,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    Identity,
    object_name,
)

HOME_SYSTEM = FARLET
"""Namespace of the manager and of all virtual nodes in the home cluster."""

CONNECT = "farlet-connect"
"""Field manager of server-side apply, and value of the label `MANAGED_BY_LABEL`. On a namespace the
label means that `farlet connect` created it, so that `farlet disconnect` can delete it."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One virtual node, and the clusters that it connects."""

    node: str
    image: str
    namespaces: tuple[str, ...] = ()
    """Home namespaces whose pods run in the foreign cluster."""
    home_name: str = "home"
    """Name of the home cluster in the names of foreign namespaces."""
    foreign_system: str = ""
    """farlet's namespace in the foreign cluster; empty: the one named after the node."""
    capacity: tuple[tuple[str, str], ...] = ()
    """Resource and quantity; empty: the sum of the foreign nodes."""
    identity: Identity = Identity.NODE
    home_api_host: str | None = None
    home_api_port: int | None = None

    @property
    def system(self) -> str:
        """farlet's namespace in the foreign cluster."""
        return self.foreign_system or self.name

    @property
    def name(self) -> str:
        """Name and prefix of this virtual node's objects."""
        return object_name(self.node)

    @property
    def gateway(self) -> bool:
        """Whether pods reach the home API server through a gateway."""
        return self.home_api_host is None and self.home_api_port is None

    def foreign_namespace(self, namespace: str) -> str | None:
        """The foreign namespace of a home namespace; `None`: it cannot be offloaded."""
        return NamespaceMap(self.home_name, self.system).foreign(namespace)

    def home_namespace(self, foreign: str) -> str | None:
        """The home namespace of a foreign one; `None`: this is the foreign one of no other."""
        namespace = foreign.removesuffix(f"-{self.home_name}")
        return namespace if self.foreign_namespace(namespace) == foreign else None

    @property
    def foreign_namespaces(self) -> tuple[str, ...]:
        """Those of `namespaces`."""
        return tuple(filter(None, map(self.foreign_namespace, self.namespaces)))

    def secret(self, key: ObjectKey, items: Mapping[str, str]) -> JSON:
        """A Secret with these texts."""
        (secret,) = self.labelled(
            (
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": key.name, "namespace": key.namespace},
                    "type": "Opaque",
                    "data": {name: _base64(text) for name, text in items.items()},
                },
            )
        )
        return secret

    def labelled(self, objects: Sequence[JSON]) -> tuple[JSON, ...]:
        """The objects, with the labels by which `farlet disconnect` finds them."""
        return tuple(_labelled(one, marks(self.node)) for one in objects)


def owned_by(node: str) -> str:
    """Selects what the manager creates for a virtual node, its pods included."""
    return f"{NAME_LABEL}={FARLET},{INSTANCE_LABEL}={node}"


def marks(node: str) -> dict[str, str]:
    """The labels of all objects that `farlet connect` creates for a virtual node."""
    return {NAME_LABEL: FARLET, INSTANCE_LABEL: node, MANAGED_BY_LABEL: CONNECT}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _labelled(obj: JSON, labels: dict[str, str]) -> JSON:
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "labels": {**labels, **metadata.get("labels", {})}}}
