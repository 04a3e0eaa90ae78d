"""What probes and the `up` metrics report: the problem of each part in a few words, from memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from farlet.client.cluster import Cluster
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.home.pods import HomePods
from farlet.node.virtual_node import VirtualNode
from farlet.telemetry import probes

STARTING = "starting"
STANDING_BY = "standing by"
"""Another process leads. This is not a failure: a rollout must not wait for it to change."""


class HomeWatch(Protocol):
    """What runs Kopf."""

    @property
    def alive(self) -> bool:
        """Whether Kopf runs or will be started again."""
        ...

    @property
    def problem(self) -> str | None:
        """Why home pods are not watched now."""
        ...


class HostedWatch:
    """Kopf runs this process (`kopf run`), which ends with it."""

    alive = True
    problem = None


@dataclass(frozen=True, slots=True)
class Health:
    """Each `*_problem` is `None` while all is well. A part that has not started yet is `None`."""

    home: Cluster
    foreign: Cluster
    watch: HomeWatch
    phase: Callable[[], str | None]
    """What keeps pods from being served now; `None` while they are."""
    start_problem: Callable[[], str | None]
    """Why the start has not ended yet."""
    pods: Callable[[], HomePods | None]
    namespaces: Callable[[], ForeignNamespaces | None]
    node: Callable[[], VirtualNode | None]

    def probes(self) -> probes.Probes:
        """The checks of `/livez` and `/readyz`."""
        ready: Mapping[str, probes.Check] = {
            "started": self._start_problem,
            "home": self.home_problem,
            "watch": lambda: self.watch.problem,
            "foreign": self.foreign_problem,
            "node": self._node_problem,
        }
        return probes.Probes(live={"kopf": self._kopf_problem}, ready=ready)

    def home_problem(self) -> str | None:
        """Why pods at home are not followed."""
        if self.phase() == STANDING_BY:
            return self.home.problem
        if (pods := self.pods()) is None:
            return "not started"
        return (
            self.home.problem
            or pods.error
            or (None if pods.has_synced else "home pods are being listed")
        )

    def foreign_problem(self) -> str | None:
        """Why pods cannot be served in the foreign cluster."""
        if self.phase() == STANDING_BY:
            return None
        if (namespaces := self.namespaces()) is None:
            return "not started"
        if namespaces.refused is not None:
            return namespaces.refused.message
        if self.foreign.problem is not None:
            return self.foreign.problem
        return (
            None if namespaces.loaded.is_set() else "the foreign namespace inventory is being read"
        )

    def _node_problem(self) -> str | None:
        if self.phase() == STANDING_BY:
            return None
        node = self.node()
        return "not started" if node is None else node.problem

    def _start_problem(self) -> str | None:
        if self.phase() in {None, STANDING_BY}:
            return None
        return self.start_problem() or self.phase()

    def _kopf_problem(self) -> str | None:
        return None if self.phase() or self.watch.alive else "its thread has ended"
