"""Rows: H has changed since M was written."""

from __future__ import annotations

import copy
from typing import Any, cast

from farlet import constants, errors
from farlet.constants import Reason
from farlet.forge import applied, status
from farlet.forge.conditions import Rejection
from farlet.k8s_types import Pod
from farlet.planning import changes, plan
from farlet.planning.actions import (
    NOTHING,
    CreateMirror,
    Decision,
    DeleteMirror,
    PatchStatus,
    ProvideSecret,
    ResizeMirror,
    Step,
    UpdateMirror,
    Wait,
)
from farlet.planning.snapshot import Failure, Missing, Snapshot
from farlet.planning.wishes import answered
from unit.planning import objects
from unit.planning.objects import CONTEXT, MIRROR, NOW, exited, home, mirror, secret, shown, times
from unit.planning.rows.row import Expected, Row, does, fails, shows

_OLD = home(phase="Running")


def _recorded(foreign: Pod, of: Pod = _OLD) -> Pod:
    """M as farlet has written it for this state of H."""
    result = copy.deepcopy(foreign)
    record = applied.encoded(applied.record(of, mirror=1, labels=(), annotations=()))
    assert record is not None
    result["metadata"]["annotations"][constants.APPLIED] = record
    return result


def _labelled(pod: Pod, value: str = "x") -> Pod:
    result = copy.deepcopy(pod)
    result["metadata"]["labels"] = {"stage": value}
    return result


def _snapshot(pod: Pod, foreign: Pod, **known: Any) -> Snapshot:
    """H shows M already."""
    return objects.snapshot(shown(pod, foreign), foreign, **known)


def _sends(**labels: str | None) -> Expected:
    def check(given: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, UpdateMirror):
            return False
        metadata = got.action.body["metadata"]
        return bool(metadata["uid"] == MIRROR and metadata.get("labels", {}) == labels)

    return check


_STANDS = _recorded(mirror())
_CHANGED = _snapshot(_labelled(_OLD), _STANDS)
_UPDATE = cast("UpdateMirror", plan.decide(_CHANGED, ctx=CONTEXT).action)
_READER = home(reads_token=True, phase="Running")
_FRESH = _recorded(mirror(access_mode="home", tokens=times(NOW, NOW + 3600)), _READER)
_LIMITED = home(phase="Running", mirrored=MIRROR, spec={"activeDeadlineSeconds": 600})
cast("Any", _LIMITED["status"])["startTime"] = "2026-01-02T03:02:25Z"


def _has_deadline(seconds: int) -> Expected:
    def check(_: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, CreateMirror):
            return False
        return got.action.pod["spec"].get("activeDeadlineSeconds") == seconds

    return check


_DENIED = errors.Forbidden(
    cluster="foreign",
    request="PATCH",
    code=403,
    status_reason="Forbidden",
    message='User "farlet" cannot patch resource "pods" in API group "" in the namespace "x"',
)

_TWO = {"limits": {"cpu": "2"}}
_RESIZED = _labelled(home(phase="Running", spec={"resources": _TWO}))
_BOTH = changes.due(_RESIZED, _STANDS, selected=None, ctx=CONTEXT, now=NOW)
assert _BOTH.update is not None
assert _BOTH.resize is not None
_INFEASIBLE = Rejection("no such size")
_DEFERRED = Rejection("exceeded quota: cpu", final=False)
_NO_SUCH_SIZE = {_BOTH.resize.wanted: _INFEASIBLE}
_NO_ROOM = {_BOTH.resize.wanted: _DEFERRED, _BOTH.update.wanted: Rejection("not signed")}


def _resizes(_: Snapshot, got: Decision) -> bool:
    return isinstance(got.action, ResizeMirror) and got.action.body["spec"] == {"resources": _TWO}


def _resize_pending(reason: str, message: str) -> Expected:
    def check(_: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, PatchStatus):
            return False
        (condition,) = got.action.body["status"]["conditions"]
        return (
            condition["type"] == "PodResizePending"
            and condition["status"] == "True"
            and condition["reason"] == reason
            and message in condition["message"]
        )

    return check


def _shown_pending(pod: Pod, rejection: Rejection) -> Pod:
    result = copy.deepcopy(pod)
    wanted = status.reflect(pod, _STANDS, ctx=CONTEXT, now=NOW, resize=rejection)
    result["status"] = wanted.status
    return result


ROWS = (
    Row(
        "a resize travels after other changes",
        _snapshot(_RESIZED, _STANDS, rejected={_BOTH.update.wanted: Rejection("not signed")}),
        _resizes,
    ),
    Row("other changes travel before a resize", _snapshot(_RESIZED, _STANDS), _sends(stage="x")),
    Row(
        "a resize that the foreign cluster rejected is shown as infeasible",
        _snapshot(_RESIZED, _STANDS, rejected=_NO_SUCH_SIZE),
        _resize_pending("Infeasible", "no such size"),
    ),
    Row(
        "a resize that exceeds a foreign quota is shown as deferred",
        _snapshot(_RESIZED, _STANDS, rejected=_NO_ROOM),
        _resize_pending("Deferred", "exceeded quota: cpu"),
    ),
    Row(
        "a resize that exceeds a foreign quota is sent again",
        objects.snapshot(_shown_pending(_RESIZED, _DEFERRED), _STANDS, rejected=_NO_ROOM),
        _resizes,
    ),
    Row(
        "a change that has failed is held back",
        _snapshot(_labelled(_OLD), _STANDS, held_back={_UPDATE.wanted: 4.0}),
        does(Wait(4.0)),
    ),
    Row(
        "a resize does not wait for another change that has failed",
        _snapshot(_RESIZED, _STANDS, held_back={_BOTH.update.wanted: 4.0}),
        _resizes,
    ),
    Row(
        "a resize that was rejected is not sent again",
        objects.snapshot(
            _shown_pending(_RESIZED, _INFEASIBLE),
            _STANDS,
            rejected={**_NO_SUCH_SIZE, _BOTH.update.wanted: Rejection("not signed")},
        ),
        NOTHING,
    ),
    Row(
        "a resize that an earlier process could not bring to the mirror stays infeasible meanwhile",
        objects.snapshot(
            _shown_pending(_RESIZED, _INFEASIBLE),
            _STANDS,
            rejected={_BOTH.update.wanted: Rejection("not signed")},
        ),
        _resizes,
    ),
    Row(
        "a resize that home took back is not shown as infeasible any more",
        objects.snapshot(
            {**_shown_pending(_RESIZED, _INFEASIBLE), "spec": _OLD["spec"]},
            _STANDS,
            rejected={_BOTH.update.wanted: Rejection("not signed")},
        ),
        lambda _, got: (
            isinstance(got.action, PatchStatus)
            and got.action.body["status"]["conditions"]
            == [{"$patch": "delete", "type": "PodResizePending"}]
        ),
    ),
    Row("a label that changed in a running pod travels", _CHANGED, _sends(stage="x")),
    Row("a pod that has not changed costs nothing", _snapshot(_OLD, _STANDS), NOTHING),
    Row(
        "a change of a pod whose mirror an older farlet created does not travel",
        _snapshot(_labelled(_OLD), mirror()),
        NOTHING,
    ),
    Row(
        "the status is written before a change travels",
        objects.snapshot(_labelled(_OLD), _STANDS),
        shows("Running"),
    ),
    Row(
        "the Secret is written before a change travels",
        _snapshot(_labelled(_READER), _FRESH, secret=secret(ca="")),
        lambda _, got: isinstance(got.action, ProvideSecret),
    ),
    Row(
        "a change travels although the Secret could not be written",
        _snapshot(_labelled(_READER), _FRESH, secret=secret(ca=""), secret_failed=True),
        _sends(stage="x"),
    ),
    Row(
        "a change that was rejected is not sent again",
        _snapshot(_labelled(_OLD), _STANDS, rejected={_UPDATE.wanted: Rejection("not signed")}),
        NOTHING,
    ),
    Row(
        "a change after one that was rejected is sent",
        _snapshot(
            _labelled(_OLD, "y"), _STANDS, rejected={_UPDATE.wanted: Rejection("not signed")}
        ),
        _sends(stage="y"),
    ),
    Row(
        "a change whose record the foreign cluster did not keep is not sent again",
        _snapshot(
            _labelled(_OLD),
            _STANDS,
            answered=frozenset({answered(_UPDATE, _STANDS["metadata"])}),
        ),
        NOTHING,
    ),
    Row(
        "a change of a pod that is being deleted does not travel",
        _snapshot(_labelled(home(grace=30, phase="Running")), _recorded(mirror(grace=30))),
        NOTHING,
    ),
    Row(
        "a change of a finished pod does not travel",
        _snapshot(
            _labelled(home(policy="Never", phase="Succeeded", state=exited(0), mirrored=MIRROR)),
            _recorded(mirror(phase="Succeeded")),
        ),
        NOTHING,
    ),
    Row(
        "a change of a pod whose mirror has finished does not travel",
        _snapshot(_labelled(home(policy="Never")), _recorded(mirror(phase="Failed"))),
        lambda _, got: not isinstance(got.action, UpdateMirror | DeleteMirror),
    ),
    Row(
        "a further mirror gets what is left of the deadline",
        objects.snapshot(_LIMITED, Missing.ABSENT, mirror_gone=True),
        _has_deadline(500),
    ),
    Row(
        "a change that is refused for lack of a permission is tried again and reported",
        _snapshot(
            _labelled(_OLD),
            _STANDS,
            failure=Failure(_UPDATE, Step.CHANGE, _DENIED),
        ),
        fails(Reason.FOREIGN_FORBIDDEN),
    ),
)
