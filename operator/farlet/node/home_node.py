"""The Node of this process in the home cluster, kept up to date by a watch of that one object.

A node identity is not allowed to list or watch other Nodes (`authorizeNode` in
`plugin/pkg/auth/authorizer/node/node_authorizer.go`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from farlet import k8s_types, store
from farlet.client import cluster as clusters
from farlet.client import reflector
from farlet.constants import JSON


class HomeNode:
    """Calls `on_change` after every change. All methods run in the engine's loop."""

    def __init__(self, home: clusters.Cluster, name: str, *, on_change: Callable[[], None]) -> None:
        self._home = home
        self._path = f"/api/v1/nodes/{name}"
        self._on_change = on_change
        self._version = 0
        self._reflector = reflector.Reflector(
            home,
            "/api/v1/nodes",
            self,
            on_state=on_change,
            field_selector=f"metadata.name={name}",
        )
        self.node: k8s_types.Node | None = None
        """`None`: it does not exist."""

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._reflector.run()

    async def read(self) -> None:
        """GET the Node. Raises like `Cluster.call`."""
        self.update(await self._home.call("GET", self._path))

    async def create(self, node: JSON) -> None:
        """POST the Node. Raises like `Cluster.call`."""
        self.update(await self._home.call("POST", "/api/v1/nodes", body=node))

    async def patch(self, body: JSON, *, subresource: str = "") -> None:
        """Strategic PATCH; `node` is then the server's answer. Raises like `Cluster.call`."""
        path = f"{self._path}/{subresource}" if subresource else self._path
        content_type = clusters.STRATEGIC_PATCH
        self.update(await self._home.call("PATCH", path, body=body, content_type=content_type))

    def update(self, node: JSON) -> None:
        """Take over an answer of the server, unless it is older than the known Node."""
        version = store.version(node["metadata"])
        if version > self._version:
            self.node, self._version = cast("k8s_types.Node", node), version
            self._on_change()

    def replaced(self, objects: Sequence[JSON], version: int) -> None:
        """A complete list, of at most one."""
        for node in objects:
            self.update(node)
        if not objects and version > self._version:
            self._deleted(version)

    def changed(self, kind: str, obj: JSON) -> None:
        """One event."""
        if kind != "DELETED":
            self.update(obj)
        elif store.version(obj["metadata"]) > self._version:
            self._deleted(store.version(obj["metadata"]))

    def _deleted(self, version: int) -> None:
        self.node, self._version = None, version
        self._on_change()
