"""Ephemeral containers (`kubectl debug`): which one the mirror gets next, and why others wait.

API servers only ever add to the list of a pod, so containers are compared by name. What home shows
of one is the memory: one that has ended, or that was rejected, is never sent again, not even to
another mirror. A kubelet does not start an ephemeral container twice either. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from farlet import constants, errors, redaction
from farlet.access import AccessStrategy
from farlet.constants import Reason
from farlet.context import Context
from farlet.errors import FarletError, Refused
from farlet.forge import containers, copies, ephemeral, guards, merge, status
from farlet.k8s_types import Container, ContainerState, Pod, PodStatus
from farlet.planning import api_refusals
from farlet.planning.actions import AddEphemeralContainer
from farlet.planning.snapshot import Copied, Snapshot

EXIT_CODE = 128
"""The exit code of a container that was never started; container runtimes report the same."""

_POD_SECURITY = re.compile(r'violates PodSecurity "(?P<level>baseline|restricted):')
"""`EvaluatePod` in `k8s.io/pod-security-admission/admission`. The levels are profiles of `kubectl
debug`, too."""


_FIRST_CHARS = 900
"""Limit of the first reason in an Event for several containers: the rest of the Event must fit."""


@dataclass(frozen=True, slots=True)
class Held:
    """Why an ephemeral container of H is not in M."""

    name: str
    reason: Reason
    message: str
    rejected: bool = False
    """It will never be in M."""

    @property
    def state(self) -> ContainerState:
        """What home shows."""
        if self.rejected:
            ended = {"exitCode": EXIT_CODE, "reason": self.reason.value, "message": self.message}
            return cast("ContainerState", {"terminated": ended})
        return {"waiting": {"reason": self.reason.value, "message": self.message}}


def missing(home: Pod, mirror: Pod) -> list[Container]:
    """The ephemeral containers that M lacks, in the order of H.

    One that ran in an earlier mirror has ended as soon as H shows the status of M.
    """
    if "ephemeralContainers" not in home["spec"]:
        return []
    there = {c["name"] for c in mirror["spec"].get("ephemeralContainers") or ()}
    return [c for c in containers.unfinished_ephemeral(home) if c["name"] not in there]


def decide(
    s: Snapshot, home: Pod, mirror: Pod, *, ctx: Context
) -> tuple[AddEphemeralContainer | None, tuple[Held, ...]]:
    """The first one that can be added to M now, and those that cannot.

    A pod can have hundreds of them, and forging one takes time in proportion to the size of the
    pod. So only the first one is forged. What keeps it out is a fact of the pod, and keeps the
    others out, too.
    """
    found = [(c, _judged(s, home, c, ctx=ctx)) for c in missing(home, mirror)]
    held = [judged for _, judged in found if isinstance(judged, Held)]
    ready = [container for container, judged in found if judged is Copied.SETTLED]
    if not ready:
        return None, tuple(held)
    try:
        strategy = _of_mirror(s.access, mirror)
        forged = ephemeral.forge(home, ready[0], strategy=strategy, ctx=ctx)
    except Refused as refused:
        held += [Held(c["name"], refused.reason, refused.message) for c in ready]
        return None, tuple(held)
    return AddEphemeralContainer(home, mirror, forged), tuple(held)


def _judged(s: Snapshot, home: Pod, container: Container, *, ctx: Context) -> Held | Copied:
    """Why it is kept out of M, as far as that is its own; pending copies take a moment."""
    name = container["name"]
    try:
        guards.check_ephemeral(home, container, ctx)
    except Refused as refused:
        return Held(name, refused.reason, refused.message, rejected=True)
    for source in copies.sources_of(container, s.key.namespace):
        state = Copied.PENDING if s.copies is None else s.copies.get(source, Copied.PENDING)
        if isinstance(state, Refused):
            return Held(name, state.reason, state.message)
        if state is Copied.PENDING:
            return state
    return Copied.SETTLED


def _of_mirror(strategy: AccessStrategy | Refused | None, mirror: Pod) -> AccessStrategy:
    """The access mode in which M runs. Raises `Refused` where H selects another one by now."""
    if isinstance(strategy, Refused):
        raise Refused(strategy.reason, strategy.message)
    mode = mirror["metadata"].get("annotations", {}).get(constants.ACCESS)
    if strategy is None or strategy.name != mode:
        raise Refused(
            Reason.INVALID_API_SERVER_SUPPORT,
            f"the annotation {constants.API_SERVER_SUPPORT} of the pod was changed after the pod "
            "had started, so farlet does not know which API the ephemeral container may reach. "
            "Restore the value that the pod was created with",
        )
    return strategy


def rejected(
    action: AddEphemeralContainer, error: FarletError, refused: Refused | None
) -> Held | None:
    """What a failure means if the foreign cluster would answer the same each time.

    `refused` is its meaning by `api_refusals`. A missing permission, an outage and a change that
    came between are not final.
    """
    final = isinstance(error, Refused) or (
        isinstance(error, errors.ApiError) and api_refusals.rejects_for_good(error)
    )
    if not final or refused is None or refused.reason is not Reason.FOREIGN_REJECTED:
        return None
    name = action.container["name"]
    message = f"ephemeral container {name}: {refused.message}{_advice(action, refused.message)}"
    return Held(name, Reason.EPHEMERAL_CONTAINER_REJECTED, message, rejected=True)


def _advice(action: AddEphemeralContainer, text: str) -> str:
    """Which profile helps where Pod Security blames this container and no other one."""
    level = _POD_SECURITY.search(text)
    others = {
        c["name"] for group in containers.GROUPS for c in containers.of(action.home, group)
    } - {action.container["name"]}
    if level is None or any(f'"{name}"' in text for name in others):
        return ""
    return f". Add one with kubectl debug --profile={level['level']}"


def shown(
    home: Pod, desired: status.DesiredStatus, held: Iterable[Held]
) -> tuple[status.DesiredStatus, tuple[Reason, str] | None]:
    """The status that says why containers are not in M, and one Event for all that is new in it.

    It has the first new reason; a pod can have hundreds of them.
    """
    before = {
        name: one.get("state")
        for name, one in containers.statuses(home, containers.EPHEMERAL).items()
    }
    states = {one.name: one.state for one in held}
    if not states:
        return desired, None
    new = [one for one in held if not merge.same(before.get(one.name), one.state)]
    changed: PodStatus = {**desired.status}
    changed["ephemeralContainerStatuses"] = [
        {**row, "state": states.get(row["name"], row["state"])}
        for row in desired.status["ephemeralContainerStatuses"]
    ]
    return status.DesiredStatus(changed, desired.annotations), _event(new)


def _event(new: list[Held]) -> tuple[Reason, str] | None:
    if not new:
        return None
    first, others = new[0], len(new) - 1
    if not others:
        return first.reason, first.message
    more = f"{others} more ephemeral containers: see their statuses"
    return first.reason, f"{redaction.cut(first.message, _FIRST_CHARS)}; and {more}"
