"""Watches the nodes of the foreign cluster, whose sum is the capacity of the virtual node.

This requires the permission to list and watch nodes there, which nothing else in farlet needs;
without it the settings must contain the capacity. While the foreign API server does not answer, the
last known nodes count.
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
from farlet.planning import api_refusals

MAX_REFUSALS = 3
"""An API server that has just started may deny allowed requests until it has read all Roles."""
REFUSED_SECONDS = 1.0
CHECK_SECONDS = 0.25

log = structlog.get_logger()


class ForeignNodes:
    """The foreign nodes that count. All methods run in the engine's loop."""

    def __init__(self, foreign: ApiClient, *, on_change: Callable[[], None]) -> None:
        self._nodes: dict[str, capacity.ForeignNode] = {}
        self._listed = False
        self._foreign = foreign
        self._on_change = on_change
        self._reflector = reflector.Reflector(
            foreign, resources.NODES, self, on_state=self._state_changed
        )
        self.answered = asyncio.Event()
        """The nodes were listed, or the list failed."""

    async def run(self) -> None:
        await self._reflector.run()

    async def require_list(self) -> None:
        """Return once the nodes were listed. Raises `StartError` if that is not allowed."""
        while not self._listed:
            if self.forbidden:
                await self._check_allowed()
            await asyncio.sleep(CHECK_SECONDS)

    async def _check_allowed(self) -> None:
        """Return at the first answer other than 403."""
        for _ in range(MAX_REFUSALS):
            try:
                await self._foreign.list(resources.NODES, limit=1)
            except errors.Forbidden as err:
                refusal = err
                await asyncio.sleep(REFUSED_SECONDS)
            except errors.FarletError:
                return  # the watch reports it
            else:
                return
        raise capacity_unknown(refusal)

    @property
    def forbidden(self) -> bool:
        """Whether the nodes were never listed, because the permission is missing."""
        return isinstance(self._reflector.error, errors.Forbidden) and not self._listed

    @property
    def resources(self) -> capacity.Resources | None:
        """The sum of their allocatable resources; `None` until they were listed."""
        return capacity.total(self._nodes.values()) if self._listed else None

    @property
    def platform(self) -> capacity.Platform:
        """The properties that all of them share."""
        return capacity.common_platform(self._nodes.values())

    def replaced(self, objects: Sequence[Node], version: int) -> None:  # noqa: ARG002
        self._nodes = {}
        for node in objects:
            self._add(node)
        self._listed = True
        self.answered.set()
        self._on_change()

    def changed(self, kind: str, obj: Node) -> None:
        before = self._nodes.pop(obj["metadata"]["name"], None)
        if kind != "DELETED":
            self._add(obj)
        # Most events are heartbeats or lists of images.
        if before != self._nodes.get(obj["metadata"]["name"]):
            self._on_change()

    def _add(self, node: Node) -> None:
        name = node["metadata"]["name"]
        try:
            foreign_node = capacity.foreign_node(node)
        except ValueError as err:
            log.warning(
                "ignored foreign node with invalid resources", foreign_node=name, err=str(err)
            )
            return
        if foreign_node is not None:
            self._nodes[name] = foreign_node

    def _state_changed(self) -> None:
        if self._reflector.error is not None:
            self.answered.set()


def capacity_unknown(refusal: errors.Forbidden) -> errors.StartError:
    """The error for a node without a configured capacity whose foreign nodes are not readable."""
    by_hand = "In the foreign cluster: kubectl apply -f manifests/foreign/capacity.yaml"
    system = api_refusals.system_of(refusal.message)
    return errors.StartError(
        f"the capacity of the node is unknown: {refusal}. Set it, for example with "
        "--capacity cpu=8,memory=32Gi,pods=110 (spec.capacity of a VirtualNode); or allow farlet "
        "to list and watch the nodes of the foreign cluster. "
        + api_refusals.by_manifest(by_hand, system=system)
    )
