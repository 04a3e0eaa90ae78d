"""The problem of each part, in a few words and from memory, for probes and the `up` metrics.

`StateReport` adds what readers of `/state` want to know.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from typing import Protocol
from urllib.parse import urlsplit

from farlet.client.cluster import Cluster
from farlet.constants import Reason
from farlet.context import Context, HomeAPI, OutOfReach, Refused, Unverified
from farlet.foreign.identity import ForeignIdentity
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.home.pods import HomePods
from farlet.node.virtual_node import VirtualNode
from farlet.pod_controller import PodController
from farlet.reconcile.reconciler import UsedNamespace
from farlet.telemetry import probes
from farlet.telemetry.state import (
    MAX_ENTRIES,
    Expiry,
    ForeignState,
    HomeAPIState,
    NamespaceState,
    State,
)


class Phase(StrEnum):
    """Where the process is between its start and its end."""

    STARTING = "starting"
    STANDING_BY = "standing by"
    """Another process leads. That is not a failure, but a standby that cannot lead is one: a
    rollout must not replace working processes with it."""
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

    def problems(self) -> dict[str, str]:
        """The failing checks of `/readyz` by name."""
        checks = self.probes()
        found = {name: check() for name, check in {**checks.live, **checks.ready}.items()}
        return {name: problem for name, problem in found.items() if problem is not None}

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


@dataclass(frozen=True, slots=True)
class StateReport:
    """Reads what `/state` shows."""

    node: str
    health: Health
    context: Callable[[], Context | None]
    pods: Callable[[], PodController | None]
    identity: Callable[[], ForeignIdentity | None]
    serving_certificate: Callable[[], float]
    """Seconds until it expires; infinite while there is none."""

    def __call__(self) -> State:
        phase, ctx, pods = self.health.phase(), self.context(), self.pods()
        leads = self.health.node() is not None and phase is not Phase.STOPPING
        counts = None if pods is None else pods.counts
        foreign = self._foreign(leads=leads)
        return State(
            node=self.node,
            version=metadata.version("farlet"),
            phase=phase.value,
            leader=leads,
            problems=self.health.problems(),
            home_api=HomeAPIState() if ctx is None else home_api_state(ctx.home_api),
            foreign=foreign,
            pods={} if counts is None else _nested(counts.pods()),
            waiting={} if counts is None else dict(counts.waiting()),
            namespaces=()
            if pods is None
            else _namespaces(pods.used_namespaces(), reachable=foreign.reachable),
            expires=self._expires(None if counts is None else counts.token_remaining),
        )

    def _foreign(self, *, leads: bool) -> ForeignState:
        foreign, identity = self.health.foreign, self.identity()
        problem = self.health.foreign_problem() if leads else foreign.problem
        reason = None if problem is None else self._foreign_reason(leads=leads)
        return ForeignState(
            reachable=problem is None,
            reason=None if reason is None else reason.value,
            problem=problem,
            server=_address(foreign.server) if foreign.logged_in else None,
            cluster=None if identity is None else identity.uid,
        )

    def _foreign_reason(self, *, leads: bool) -> Reason | None:
        """That of the Node's condition; without one, why the last request was not served."""
        node = self.health.node()
        if node is not None and node.foreign_refusal is not None:
            return node.foreign_refusal.reason
        if self.health.foreign.credentials_rejected:
            return Reason.FOREIGN_UNAUTHORIZED
        return None if leads else Reason.FOREIGN_UNREACHABLE

    def _expires(self, pod_token: Callable[[float], float] | None) -> Expiry:
        now = time.time()
        return Expiry(
            home_credentials=self.health.home.credentials_expire,
            foreign_credentials=self.health.foreign.credentials_expire,
            serving_certificate=_finite(now + self.serving_certificate()),
            pod_token=None if pod_token is None else _finite(now + pod_token(now)),
        )


def home_api_state(home_api: HomeAPI) -> HomeAPIState:
    """The home API endpoint as `/state` shows it."""
    endpoint = home_api.endpoint
    message = home_api.message if isinstance(home_api, Refused | Unverified | OutOfReach) else None
    return HomeAPIState(
        state=type(home_api).__name__,
        endpoint=None if endpoint is None else endpoint.netloc,
        reason=home_api.reason.value if isinstance(home_api, Refused) else None,
        message=message,
    )


_OF_THE_CLUSTER = frozenset({Reason.FOREIGN_UNREACHABLE, Reason.FOREIGN_UNAUTHORIZED})
"""Reasons of a whole cluster. A watch that has not been retried since keeps them after their end.
"""


def _namespaces(states: Sequence[UsedNamespace], *, reachable: bool) -> tuple[NamespaceState, ...]:
    if reachable:
        states = [
            one._replace(problem=None)
            if one.problem is not None and one.problem.reason in _OF_THE_CLUSTER
            else one
            for one in states
        ]
    return tuple(
        NamespaceState(
            home=one.home,
            foreign=one.foreign,
            reason=None if one.problem is None else one.problem.reason.value,
            problem=None if one.problem is None else one.problem.message,
        )
        for one in sorted(states, key=lambda one: one.problem is None)[:MAX_ENTRIES]
    )


def _address(server: str) -> str:
    """Scheme, host and port of a URL, which can contain a password: anyone can read `/state`."""
    url = urlsplit(server)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def _nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """By mode, then by phase."""
    result: dict[str, dict[str, int]] = {}
    for (phase, mode), number in counts.items():
        result.setdefault(mode, {})[phase] = number
    return result


def _finite(moment: float) -> float | None:
    return moment if math.isfinite(moment) else None
