"""What probes and the `up` metrics say: the problem of each part, in a few words, from memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from farlet.client.cluster import Cluster
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.home.pods import HomePods
from farlet.node.virtual_node import VirtualNode
from farlet.telemetry import probes

STANDING_BY = "standing by"
"""Another process leads. That is no failure: a rollout must not wait for it to change."""


@dataclass(slots=True)
class Health:
    """Each `*_problem` is `None` while all is well. The engine fills in parts as they start."""

    home: Cluster
    foreign: Cluster
    phase: str | None = "starting"
    """What keeps pods from being served now; `None` while they are."""
    start_problem: Callable[[], str | None] = lambda: None
    """Why the start takes so long."""
    kopf_alive: Callable[[], bool] = lambda: True
    """Whether somebody keeps home pods watched; set by who runs Kopf beside the engine."""
    watch_problem: Callable[[], str | None] = lambda: None
    """Why they are not watched at the moment; set by who runs Kopf beside the engine."""
    pods: HomePods | None = None
    scopes: ForeignNamespaces | None = None
    node: VirtualNode | None = None

    def probes(self) -> probes.Probes:
        """The checks of `/livez` and `/readyz`."""
        ready: Mapping[str, probes.Check] = {
            "started": self._start_problem,
            "home": self.home_problem,
            "watch": lambda: self.watch_problem(),
            "foreign": self.foreign_problem,
            "node": self._node_problem,
        }
        return probes.Probes(live={"kopf": self._kopf_problem}, ready=ready)

    def home_problem(self) -> str | None:
        """Why pods at home are not followed."""
        if self.phase == STANDING_BY:
            return self.home.problem
        if self.pods is None:
            return "not started"
        return (
            self.home.problem
            or self.pods.error
            or (None if self.pods.listed else "home pods are being listed")
        )

    def foreign_problem(self) -> str | None:
        """Why pods cannot be served abroad."""
        if self.phase == STANDING_BY:
            return None
        if self.scopes is None:
            return "not started"
        if self.scopes.refused is not None:
            return self.scopes.refused.message
        if self.foreign.problem is not None:
            return self.foreign.problem
        return None if self.scopes.loaded.is_set() else "the registry is being read"

    def _node_problem(self) -> str | None:
        if self.phase == STANDING_BY:
            return None
        return "not started" if self.node is None else self.node.problem

    def _start_problem(self) -> str | None:
        if self.phase in {None, STANDING_BY}:
            return None
        return self.start_problem() or self.phase

    def _kopf_problem(self) -> str | None:
        return None if self.phase or self.kopf_alive() else "its thread has ended"
