"""Rows: ephemeral containers (`kubectl debug`) of H."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from farlet import errors
from farlet.constants import API_SERVER_SUPPORT, JSON, Reason
from farlet.context import Allowance
from farlet.errors import FarletError, Refused
from farlet.forge import copies
from farlet.k8s_types import Pod
from farlet.planning import plan
from farlet.planning.actions import (
    NOTHING,
    AddEphemeralContainer,
    Decision,
    DeleteMirror,
    FollowSources,
    PatchStatus,
    Step,
)
from farlet.planning.snapshot import Copied, Failure, Missing, Snapshot
from unit.planning import objects
from unit.planning.objects import MIRROR, RUNNING, exited, home, mirror, shown, snapshot
from unit.planning.rows.row import Expected, Row, creates, does, fails, within

_TRACER: JSON = {
    "name": "debug",
    "image": "busybox",
    "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
}
_READER: JSON = {
    "name": "debug",
    "image": "busybox",
    "envFrom": [{"configMapRef": {"name": "app"}}, {"secretRef": {"name": "login"}}],
}


def _container(name: str) -> JSON:
    return {"name": name, "image": "busybox"}


def _running(*containers: JSON, policy: str = "Always", **status: Any) -> Pod:
    """H, which runs, with these ephemeral containers."""
    pod = home(
        phase="Running",
        state=RUNNING,
        mirrored=MIRROR,
        policy=policy,
        spec={"ephemeralContainers": list(containers)},
    )
    return _reporting(shown(pod, mirror()), **status)


def _reporting(pod: Pod, **states: JSON) -> Pod:
    """With the state of each named ephemeral container."""
    rows = [{**row, "state": states.get(row["name"], row["state"])} for row in _rows(pod)]
    if rows:
        pod["status"]["ephemeralContainerStatuses"] = cast("Any", rows)
    return pod


def _rows(pod: Pod) -> Sequence[Any]:
    return pod["status"].get("ephemeralContainerStatuses", [])


def _mirror(*names: str, **changes: Any) -> Pod:
    """M, as the store keeps it, with ephemeral containers of these names."""
    pod = mirror(**changes)
    if names:
        pod["spec"]["ephemeralContainers"] = [{"name": name} for name in names]
    return pod


def _adds(name: str) -> Expected:
    """Adds the container of this name, and no other, to the mirror of the decision."""

    def check(given: Snapshot, got: Decision) -> bool:
        action = got.action
        return (
            isinstance(action, AddEphemeralContainer)
            and action.container["name"] == name
            and action.mirror == given.mirror
        )

    return check


def _says(state: str, reason: Reason, *texts: str, retry: bool = False) -> Expected:
    """The status of the container `debug`, the same Event, and nothing else changes."""

    def check(_: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, PatchStatus) or got.action.event is None:
            return False
        status = got.action.body["status"]
        [now] = [r["state"] for r in status["ephemeralContainerStatuses"] if r["name"] == "debug"]
        message = now.get(state, {}).get("message", "")
        return (
            set(status) == {"ephemeralContainerStatuses"}
            and now[state]["reason"] == reason
            and got.action.event == (reason, message)
            and all(text in message for text in texts)
            and got.retry is retry
        )

    return check


def _rejected(message: str, *, code: int = 403) -> FarletError:
    kind = {403: errors.Forbidden, 422: errors.Invalid, 409: errors.Conflict}[code]
    reason = {403: "Forbidden", 422: "Invalid", 409: "Conflict"}[code]
    return kind(
        cluster="foreign", request="PATCH", code=code, status_reason=reason, message=message
    )


def _after(err: FarletError, pod: Pod | None = None) -> Snapshot:
    """The container `debug` was sent, and this was the answer."""
    pod = _running(_container("debug")) if pod is None else pod
    add = AddEphemeralContainer(pod, mirror(), cast("Any", _container("debug")))
    failure = Failure(add, Step.EPHEMERAL_CONTAINER, err)
    return dataclasses.replace(snapshot(pod, mirror()), failure=failure)


def _said(given: Snapshot) -> Pod:
    """H once the status that a decision writes is there."""
    action = plan.decide(given, ctx=objects.CONTEXT).action
    assert isinstance(action, PatchStatus)
    assert not isinstance(given.home, Missing)
    pod = copy.deepcopy(given.home)
    pod["status"].update(cast("Any", action.body["status"]))
    return pod


def _reports_both(_: Snapshot, got: Decision) -> bool:
    if not isinstance(got.action, PatchStatus) or got.action.event is None:
        return False
    rows = got.action.body["status"]["ephemeralContainerStatuses"]
    reason, text = got.action.event
    return (
        [row["state"].get("terminated", {}).get("reason") for row in rows] == [reason, reason]
        and text.startswith("the ephemeral container debug cannot run in the foreign cluster")
        and text.endswith("; and 1 more ephemeral containers: see their statuses")
    )


_PLAIN = _running(_container("debug"))
_TWO = _running(_container("debug"), _container("second"))
_READS = _running(_READER)
_SOURCES = sorted(copies.sources(_READS))
_APP, _LOGIN = _SOURCES
_KEPT = Refused(Reason.KEPT_AT_HOME, "it is kept at home")
_HELD = snapshot(
    _running(_READER, _container("second")),
    mirror(),
    copies={_APP: Copied.SETTLED, _LOGIN: _KEPT},
)
_WAITING = mirror(phase="Pending")
_BASELINE = 'violates PodSecurity "baseline:latest": non-default capabilities (container "debug" '
_DENIED = (
    'pods "web" is forbidden: User "system:serviceaccount:farlet:farlet" cannot patch resource '
    '"pods/ephemeralcontainers" in API group "" in the namespace "default-h"'
)

ROWS = (
    Row(
        "an ephemeral container is added to the mirror", snapshot(_PLAIN, mirror()), _adds("debug")
    ),
    Row(
        "an ephemeral container that the mirror has is not added again",
        snapshot(_PLAIN, _mirror("debug")),
        NOTHING,
    ),
    Row(
        "a second ephemeral container is added alone",
        snapshot(_TWO, _mirror("debug")),
        _adds("second"),
    ),
    Row(
        "an ephemeral container of a pod that waits to be scheduled is added, too",
        snapshot(
            shown(home(spec={"ephemeralContainers": [_container("debug")]}), _WAITING), _WAITING
        ),
        _adds("debug"),
    ),
    Row(
        "a mirror is created without the ephemeral containers",
        snapshot(home(spec={"ephemeralContainers": [_container("debug")]}), Missing.ABSENT),
        creates(),
    ),
    Row(
        "an ephemeral container that never started is added to the next mirror",
        snapshot(shown(_PLAIN, mirror(uid="mirror-2")), mirror(uid="mirror-2")),
        _adds("debug"),
    ),
    *(
        Row(
            f"an ephemeral container that {text} is not added to the next mirror",
            snapshot(_running(_container("debug"), debug=state), mirror(uid="mirror-2")),
            lambda _, got: not isinstance(got.action, AddEphemeralContainer),
        )
        for state, text in ((RUNNING, "ran"), (exited(0), "has ended"))
    ),
    *(
        Row(
            f"no ephemeral container is added to {text}",
            snapshot(pod, there),
            lambda _, got: not isinstance(got.action, AddEphemeralContainer),
        )
        for pod, there, text in (
            (_PLAIN, mirror(phase="Failed"), "a mirror that has ended"),
            (_PLAIN, mirror(grace=30), "a mirror that is being deleted"),
        )
    ),
    Row(
        "a deleted pod ends before anything is added to it",
        snapshot({**_PLAIN, "metadata": home(grace=30)["metadata"]}, mirror()),
        does(DeleteMirror(mirror(), 30)),
    ),
    # --- ConfigMaps and Secrets
    Row(
        "what an ephemeral container refers to is followed",
        snapshot(_READS, mirror()),
        does(FollowSources(frozenset(_SOURCES))),
    ),
    Row(
        "an ephemeral container waits for the copies of what it refers to",
        snapshot(_READS, mirror(), copies={_APP: Copied.SETTLED, _LOGIN: Copied.PENDING}),
        NOTHING,
    ),
    Row(
        "an ephemeral container is added when all copies are as they must be",
        snapshot(_READS, mirror(), copies={_APP: Copied.SETTLED, _LOGIN: Copied.SETTLED}),
        _adds("debug"),
    ),
    Row(
        "an ephemeral container waits with the reason why an object is not copied",
        snapshot(_READS, mirror(), copies={_APP: Copied.SETTLED, _LOGIN: _KEPT}),
        _says("waiting", Reason.KEPT_AT_HOME, "it is kept at home"),
    ),
    Row(
        "an ephemeral container that waits does not hold back the next one",
        snapshot(_said(_HELD), mirror(), copies=_HELD.copies),
        _adds("second"),
    ),
    Row(
        "nothing that a rejected ephemeral container refers to leaves home",
        snapshot(_running({**_READER, **_TRACER}), mirror()),
        _says("terminated", Reason.EPHEMERAL_CONTAINER_REJECTED),
    ),
    # --- what farlet rejects
    Row(
        "an ephemeral container with a feature that is not allowed is terminated with the flag",
        snapshot(_running(_TRACER), mirror()),
        _says(
            "terminated",
            Reason.EPHEMERAL_CONTAINER_REJECTED,
            "SYS_PTRACE",
            "--allow-pod-feature=debug-tracing",
            "kubectl debug --profile=baseline",
        ),
    ),
    Row(
        "an ephemeral container with a feature that is allowed is added",
        snapshot(_running(_TRACER), mirror()),
        _adds("debug"),
        ctx=within(allow_pod_feature=frozenset({Allowance.DEBUG_TRACING})),
    ),
    Row(
        "a rejected ephemeral container is reported once",
        snapshot(_said(snapshot(_running(_TRACER), mirror())), mirror()),
        NOTHING,
    ),
    Row(
        "an ephemeral container does not get the API of another access mode",
        snapshot(
            {**_PLAIN, "metadata": home(annotations={API_SERVER_SUPPORT: "remote"})["metadata"]},
            mirror(),
        ),
        _says("waiting", Reason.INVALID_API_SERVER_SUPPORT, API_SERVER_SUPPORT),
    ),
    Row(
        "all rejected ephemeral containers are reported in one status, with one Event",
        snapshot(_running(_TRACER, {**_TRACER, "name": "second"}), mirror()),
        _reports_both,
    ),
    # --- what the foreign cluster rejects
    Row(
        "an ephemeral container that Pod Security rejects is terminated with a profile that helps",
        _after(_rejected(f'pods "web" is forbidden: {_BASELINE}must not include "SYS_PTRACE")')),
        _says(
            "terminated",
            Reason.EPHEMERAL_CONTAINER_REJECTED,
            'must not include "SYS_PTRACE"',
            "kubectl debug --profile=baseline",
            retry=True,
        ),
    ),
    Row(
        "no profile is named where Pod Security blames another container, too",
        _after(
            _rejected('violates PodSecurity "restricted:v1.36": x (containers "main", "debug")')
        ),
        lambda given, got: (
            _says("terminated", Reason.EPHEMERAL_CONTAINER_REJECTED, retry=True)(given, got)  # type: ignore[operator]
            and "--profile" not in str(got.action)
        ),
    ),
    Row(
        "an ephemeral container that is not valid there is terminated with the answer",
        _after(_rejected("spec.ephemeralContainers[0].x: Forbidden: no", code=422)),
        _says("terminated", Reason.EPHEMERAL_CONTAINER_REJECTED, "Forbidden: no", retry=True),
    ),
    Row(
        "an ephemeral container that the foreign cluster removes is terminated",
        _after(Refused(Reason.FOREIGN_REJECTED, "accepted and removed")),
        _says(
            "terminated", Reason.EPHEMERAL_CONTAINER_REJECTED, "accepted and removed", retry=True
        ),
    ),
    Row(
        "an ephemeral container that the foreign cluster rejected is not sent again",
        snapshot(_said(_after(_rejected("no", code=422))), mirror()),
        NOTHING,
    ),
    Row(
        "a missing permission for ephemeral containers is an Event, and it is tried again",
        _after(_rejected(_DENIED)),
        fails(Reason.FOREIGN_FORBIDDEN),
    ),
    Row(
        "an ephemeral container is sent again after a change that came between",
        _after(_rejected("the object has been modified", code=409)),
        Decision(retry=True),
    ),
    Row(
        "an ephemeral container is sent again when the foreign API server is back",
        _after(errors.Unreachable(cluster="foreign", request="PATCH", cause="reset")),
        fails(Reason.FOREIGN_UNREACHABLE),
    ),
)
