"""The problem of each part, in a few words and from memory, for probes and the `up` metrics."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from farlet.client.cluster import Cluster
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.home.pods import HomePods
from farlet.node.virtual_node import VirtualNode
from farlet.telemetry import probes


class Phase(StrEnum):
    """Where the process is between its start and its end."""

    STARTING = "starting"
    STANDING_BY = "standing by"
    """Another process leads. That is not a failure, but a standby that cannot lead is one: a
    rollout must not replace processes that work by it."""
    SERVING = "serving"
    STOPPING = "stopping"


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

    def restart(self) -> None:
        """Watch anew: the watch shows nothing any more."""
        ...


class HostedWatch:
    """Kopf runs this process (`kopf run`), which ends with it."""

    alive = True
    problem = None

    def restart(self) -> None:
        """End the process: nothing in it can restart Kopf, and its supervisor restarts both."""
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Health:
    """Reads the state of the engine. Each `*_problem` is `None` while there is none."""

    home: Cluster
    foreign: Cluster
    watch: HomeWatch
    phase: Callable[[], Phase]
    identify_problem: Callable[[], str | None]
    """Why the home cluster is not identified yet."""
    pods: Callable[[], HomePods | None]
    namespaces: Callable[[], ForeignNamespaces | None]
    node: Callable[[], VirtualNode | None]
    standby_problem: Callable[[], str | None]
    """Why this process, while it is on standby, would not be able to lead."""

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
        """Why changes of home pods do not arrive."""
        if self.phase() is Phase.STANDING_BY:
            return self.home.problem
        pods = self.pods()
        if pods is None:
            return "not started"
        return (
            self.home.problem
            or pods.error
            or (None if pods.has_synced else "the list of home pods has not been read yet")
        )

    def foreign_problem(self) -> str | None:
        """Why pods cannot run in the foreign cluster."""
        if self.phase() is Phase.STANDING_BY:
            return self.foreign.problem if self.standby_problem() else None
        namespaces = self.namespaces()
        if namespaces is None:
            return "not started"
        if namespaces.refused is not None:
            return namespaces.refused.message
        if self.foreign.problem is not None:
            return self.foreign.problem
        return None if namespaces.loaded.is_set() else "the inventory has not been read yet"

    def _node_problem(self) -> str | None:
        if self.phase() is Phase.STANDING_BY:
            return None
        node = self.node()
        return "not started" if node is None else node.problem

    def _start_problem(self) -> str | None:
        phase = self.phase()
        if phase is Phase.STANDING_BY:
            return self.standby_problem()
        if phase is Phase.SERVING:
            return None
        return self.identify_problem() or phase

    def _kopf_problem(self) -> str | None:
        serving = self.phase() is Phase.SERVING
        return "its thread has ended" if serving and not self.watch.alive else None
