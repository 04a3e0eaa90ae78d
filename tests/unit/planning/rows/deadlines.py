"""Rows: `activeDeadlineSeconds` of H while no foreign kubelet has its mirror."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from farlet.constants import Reason
from farlet.errors import Refused
from farlet.k8s_types import Pod
from farlet.planning import plan
from farlet.planning.actions import (
    NOTHING,
    ConfirmMirrorGone,
    Decision,
    DeleteMirror,
    PatchStatus,
    Wait,
)
from farlet.planning.snapshot import Ages, Missing, Snapshot
from unit.planning.objects import (
    CONTEXT,
    MIRROR,
    MIRROR_KEY,
    NOW,
    RUNNING,
    STAMP,
    ended,
    home,
    mirror,
    shown,
    snapshot,
    unrelated,
)
from unit.planning.rows.row import Expected, Row, creates, does, removes, shows

_SECONDS = 60


def _pod(*, spec: dict[str, Any] | None = None, **changes: Any) -> Pod:
    """H with a deadline; a status with a start time was written at `NOW`."""
    pod = home(spec={"activeDeadlineSeconds": _SECONDS, **(spec or {})}, **changes)
    pod["status"]["startTime"] = STAMP
    return pod


def _unscheduled() -> Pod:
    """M, which no kubelet has accepted."""
    pod = mirror(phase="Pending", node=None)
    pod["status"] = {"phase": "Pending"}
    return pod


def _later(given: Snapshot, seconds: float = _SECONDS) -> Snapshot:
    return dataclasses.replace(given, now=NOW + seconds)


def _exceeds(text: str = "The container could not be located when the pod was") -> Expected:
    """Failed as a kubelet writes it, with an Event. `text`: of the container's end."""

    def check(_: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, PatchStatus) or got.action.event is None:
            return False
        status = got.action.body["status"]
        words = "Pod was active on the node longer than the specified deadline"
        [state] = [row["state"] for row in status["containerStatuses"]]
        return (
            (status.get("phase"), status["reason"]) == ("Failed", "DeadlineExceeded")
            and status["message"] == words
            and got.action.event == (Reason.DEADLINE_EXCEEDED, words)
            and state["terminated"]["exitCode"] == 137
            and text in state["terminated"]["message"]
        )

    return check


def _failed(pod: Pod, there: Pod) -> Pod:
    """H once it shows that its deadline has passed."""
    action = plan.decide(_later(snapshot(pod, there, mirror_read=True)), ctx=CONTEXT).action
    assert isinstance(action, PatchStatus)
    result = copy.deepcopy(pod)
    result["status"].update(action.body["status"])
    return result


_PLACED = shown(_pod(), _unscheduled())
_NOT_ALLOWED = _pod(spec={"hostNetwork": True})
_DOWN = Refused(Reason.FOREIGN_UNREACHABLE, "connection refused")
_LOST = _pod(phase="Running", state=RUNNING, mirrored=MIRROR)

BEFORE = (
    Row(
        "a pod that waits is decided on again when its deadline passes",
        _later(snapshot(_pod(), Missing.ABSENT, anchor=None), 20.0),
        does(Wait(40.0)),
    ),
    Row(
        "a pod whose mirror waits to be scheduled is decided on again when its deadline passes",
        _later(snapshot(_PLACED, _unscheduled()), 20.0),
        does(Wait(40.0)),
    ),
    Row(
        "a deadline that is years away is waited for in steps of an hour",
        snapshot(_pod(spec={"activeDeadlineSeconds": 2**31 - 1}), Missing.ABSENT, anchor=None),
        does(Wait(3600.0)),
    ),
    Row(
        "the first status of a mirror is not held back longer because of a deadline",
        snapshot(_pod(), _unscheduled(), ages=Ages(mirror_created=0.5)),
        does(Wait(1.5, unreported=True)),
    ),
    Row(
        "a pod without a start time has no deadline yet",
        _later(snapshot(home(spec={"activeDeadlineSeconds": 1}), Missing.ABSENT)),
        creates(),
    ),
    Row(
        "a pod starts before its deadline has passed",
        _later(snapshot(_pod(), Missing.ABSENT), _SECONDS - 1),
        creates(),
    ),
    Row(
        "the deadline of a pod that a foreign kubelet has is not farlet's duty",
        _later(snapshot(shown(_pod(), mirror()), mirror())),
        NOTHING,
    ),
    *(
        Row(
            f"the deadline of {text} changes nothing",
            _later(snapshot(pod, Missing.ABSENT, mirror_gone=True)),
            expected,
        )
        for pod, text, expected in (
            (_pod(phase="Succeeded"), "a finished pod", NOTHING),
            (ended(_pod(grace=30)), "a terminating pod", removes()),
        )
    ),
)

AFTER = (
    Row(
        "a pod that waits past its deadline is Failed, its mirror being read live first",
        _later(snapshot(_NOT_ALLOWED, Missing.ABSENT)),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a pod that waits past its deadline is Failed",
        _later(snapshot(_NOT_ALLOWED, Missing.ABSENT, mirror_gone=True)),
        _exceeds(),
    ),
    Row(
        "a pod past its deadline is Failed without a request where nothing was ever created",
        _later(snapshot(_pod(), Missing.ABSENT, namespace_unused=True)),
        _exceeds(),
    ),
    Row(
        "a pod whose name an unrelated pod has is Failed at its deadline",
        _later(snapshot(_pod(), unrelated())),
        _exceeds(),
    ),
    Row(
        "a mirror that was not scheduled is read live before its pod is Failed at its deadline",
        _later(snapshot(_PLACED, _unscheduled())),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a pod whose mirror is not scheduled is Failed at its deadline",
        _later(snapshot(_PLACED, _unscheduled(), mirror_read=True)),
        _exceeds("The mirror pod was gone"),
    ),
    Row(
        "the mirror of a pod that is Failed at its deadline is deleted",
        _later(snapshot(_failed(_PLACED, _unscheduled()), _unscheduled())),
        does(DeleteMirror(_unscheduled(), None)),
    ),
    Row(
        "a pod is not recreated past its deadline",
        _later(snapshot(_LOST, Missing.ABSENT, mirror_gone=True)),
        _exceeds("The mirror pod was gone"),
    ),
    Row(
        "a pod of restartPolicy Never that is lost past its deadline is lost",
        _later(
            snapshot(
                _pod(policy="Never", phase="Running", state=RUNNING, mirrored=MIRROR),
                Missing.ABSENT,
                mirror_gone=True,
            )
        ),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    Row(
        "an unknown mirror never fails a pod at its deadline",
        _later(snapshot(_LOST, Missing.UNKNOWN, problem=_DOWN)),
        NOTHING,
    ),
    Row(
        "a mirror that was not scheduled never fails a pod while its watch is broken",
        _later(snapshot(_PLACED, _unscheduled(), mirrors_in_sync=False)),
        NOTHING,
    ),
)

ROWS = (*BEFORE, *AFTER)
