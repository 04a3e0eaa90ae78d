"""The nodes of the foreign cluster, as far as the virtual node is their sum.

Needs the right to list and watch nodes there, which nothing else of farlet does: without it the
settings say what fits. While the foreign API server is silent, what was seen last counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import structlog

from farlet import clusters, errors, watches, wire
from farlet.forge import capacity
from farlet.vocabulary import JSON

log = structlog.get_logger()


class ForeignNodes:
    """Follows the nodes abroad. All methods run in the engine's loop."""

    def __init__(self, foreign: clusters.Cluster, *, on_change: Callable[[], None]) -> None:
        self._machines: dict[str, capacity.Machine] = {}
        self._listed = False
        self._on_change = on_change
        self._reflector = watches.Reflector(foreign, "/api/v1/nodes", self, on_state=self._told)
        self.settled = asyncio.Event()
        """They were listed, or it was told why that is not possible."""

    async def run(self) -> None:
        """Follow for ever."""
        await self._reflector.run()

    @property
    def forbidden(self) -> errors.Forbidden | None:
        """Why they were never listed, if that is for lack of a right."""
        error = self._reflector.error
        return error if isinstance(error, errors.Forbidden) and not self._listed else None

    @property
    def room(self) -> capacity.Room | None:
        """What fits on all of them; `None` while they are not known."""
        return capacity.room(self._machines.values()) if self._listed else None

    @property
    def kind(self) -> capacity.Kind:
        """What they agree on."""
        return capacity.kind(self._machines.values())

    def replaced(self, objects: Sequence[JSON], version: int) -> None:  # noqa: ARG002
        """A complete list."""
        self._machines = {}
        for node in objects:
            self._take(node)
        self._listed = True
        self.settled.set()
        self._on_change()

    def changed(self, kind: str, obj: JSON) -> None:
        """One event."""
        before = self._machines.pop(obj["metadata"]["name"], None)
        if kind != "DELETED":
            self._take(obj)
        # Most events are heartbeats, or lists of images.
        if before != self._machines.get(obj["metadata"]["name"]):
            self._on_change()

    def _take(self, node: JSON) -> None:
        name = node["metadata"]["name"]
        try:
            machine = capacity.machine(cast("wire.Node", node))
        except ValueError as err:
            log.warning("foreign node was left out", foreign_node=name, err=str(err))
            return
        if machine is not None:
            self._machines[name] = machine

    def _told(self) -> None:
        if self._reflector.error is not None:
            self.settled.set()
