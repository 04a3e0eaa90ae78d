"""The Node of this process in the home cluster, kept up to date by a watch of that one object.

A node identity is not allowed to list or watch other Nodes (`authorizeNode` in
`plugin/pkg/auth/authorizer/node/node_authorizer.go`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from farlet import store
from farlet.client import reflector, resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.k8s_types import Node


class HomeNode:
    """Calls `on_change` after every change. All methods run in the engine's loop."""

    def __init__(
        self,
        home: ApiClient,
        name: str,
        *,
        on_change: Callable[[], None],
        on_rewound: Callable[[], None],
        on_reconnected: Callable[[], None],
    ) -> None:
        """`on_rewound`: the home API server has another history, as after a restore.
        `on_reconnected`: its watch was lost and is open again, so that this is possible."""
        self._home = home
        self._name = name
        self._on_change = on_change
        self._on_rewound = on_rewound
        self._on_reconnected = on_reconnected
        self._version = 0
        self._reflector = reflector.Reflector(
            home,
            resources.NODES,
            self,
            on_state=self._state_changed,
            on_rewound=self._rewound,
            field_selector=f"metadata.name={name}",
        )
        self.node: Node | None = None
        """`None`: it does not exist."""

    async def run(self) -> None:
        await self._reflector.run()

    async def read(self) -> None:
        """GET the Node. Raises like `Cluster.call`."""
        self.update(await self._home.get(resources.NODES, self._name))

    async def create(self, node: JSON) -> None:
        """POST the Node. Raises like `Cluster.call`."""
        self.update(await self._home.create(resources.NODES, node))

    async def patch(
        self, body: JSON, *, resource: resources.Resource[Node] = resources.NODES
    ) -> None:
        """Strategic PATCH; `node` is then the server's answer. Raises like `Cluster.call`."""
        self.update(
            await self._home.patch(
                resource, self._name, body, content_type=resources.STRATEGIC_PATCH
            )
        )

    def update(self, node: Node) -> None:
        """Take over an answer of the server, unless it is older than the known Node."""
        version = store.version(node["metadata"])
        if version > self._version:
            self.node, self._version = node, version
            self._on_change()

    def replaced(self, objects: Sequence[Node], version: int) -> None:
        """A complete list, of at most one."""
        for node in objects:
            self.update(node)
        if not objects and version > self._version:
            self._deleted(version)

    def changed(self, kind: str, obj: Node) -> None:
        if kind != "DELETED":
            self.update(obj)
        elif store.version(obj["metadata"]) > self._version:
            self._deleted(store.version(obj["metadata"]))

    def _state_changed(self) -> None:
        if self._reflector.live:
            self._on_reconnected()
        self._on_change()

    def _rewound(self) -> None:
        self._version = 0
        self._on_rewound()

    def _deleted(self, version: int) -> None:
        self.node, self._version = None, version
        self._on_change()
