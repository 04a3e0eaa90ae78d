"""The nodes of the foreign cluster, as far as the virtual node is their sum.

Needs the right to list and watch nodes there, which nothing else of farlet does: without it the
settings say what fits. While the foreign API server is silent, what was seen last counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from farlet import errors
from farlet.client import reflector, resources
from farlet.client.api_client import ApiClient
from farlet.forge import capacity
from farlet.k8s_types import Node

REFUSALS = 3
"""An API server that has only just started may refuse what it allows: it has not read all Roles."""
REFUSED_SECONDS = 1.0
LOOK_SECONDS = 0.25

log = structlog.get_logger()


class ForeignNodes:
    """Follows the nodes abroad. All methods run in the engine's loop."""

    def __init__(self, foreign: ApiClient, *, on_change: Callable[[], None]) -> None:
        self._machines: dict[str, capacity.ForeignNode] = {}
        self._listed = False
        self._foreign = foreign
        self._on_change = on_change
        self._reflector = reflector.Reflector(foreign, resources.NODES, self, on_state=self._told)
        self.settled = asyncio.Event()
        """They were listed, or it was told why that is not possible."""

    async def run(self) -> None:
        """Follow for ever."""
        await self._reflector.run()

    async def insist(self) -> None:
        """Return once they were listed. Raises `StartError` where that is not allowed."""
        while not self._listed:
            if self.forbidden:
                await self._ask_whether_allowed()
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask_whether_allowed(self) -> None:
        """Return at the first answer other than 403."""
        for _ in range(REFUSALS):
            try:
                await self._foreign.list(resources.NODES, limit=1)
            except errors.Forbidden as err:
                refusal = err
                await asyncio.sleep(REFUSED_SECONDS)
            except errors.FarletError:
                return  # the watch will tell
            else:
                return
        raise errors.StartError(
            f"how much fits on the node is not known: {refusal}. Say it by --capacity, such as "
            "--capacity cpu=8,memory=32Gi,pods=110; or allow farlet to list and watch the nodes of "
            "the foreign cluster (manifests/foreign)"
        )

    @property
    def forbidden(self) -> bool:
        """They were never listed, for lack of a right."""
        return isinstance(self._reflector.error, errors.Forbidden) and not self._listed

    @property
    def room(self) -> capacity.Resources | None:
        """What fits on all of them; `None` while they are not known."""
        return capacity.room(self._machines.values()) if self._listed else None

    @property
    def kind(self) -> capacity.Platform:
        """What they agree on."""
        return capacity.kind(self._machines.values())

    def replaced(self, objects: Sequence[Node], version: int) -> None:  # noqa: ARG002
        """A complete list."""
        self._machines = {}
        for node in objects:
            self._take(node)
        self._listed = True
        self.settled.set()
        self._on_change()

    def changed(self, kind: str, obj: Node) -> None:
        """One event."""
        before = self._machines.pop(obj["metadata"]["name"], None)
        if kind != "DELETED":
            self._take(obj)
        # Most events are heartbeats, or lists of images.
        if before != self._machines.get(obj["metadata"]["name"]):
            self._on_change()

    def _take(self, node: Node) -> None:
        name = node["metadata"]["name"]
        try:
            machine = capacity.machine(node)
        except ValueError as err:
            log.warning("foreign node was left out", foreign_node=name, err=str(err))
            return
        if machine is not None:
            self._machines[name] = machine

    def _told(self) -> None:
        if self._reflector.error is not None:
            self.settled.set()
