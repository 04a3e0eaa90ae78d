"""Rows: an API server has accepted a write without effect."""

from __future__ import annotations

import copy
import dataclasses
from typing import cast

from farlet import constants
from farlet.constants import Reason
from farlet.errors import Refused
from farlet.k8s_types import ObjectMeta, Pod
from farlet.planning import plan, wishes
from farlet.planning.actions import (
    NOTHING,
    Decision,
    PatchStatus,
    ProvideSecret,
    ReclaimMirror,
    ReleaseMirror,
)
from farlet.planning.snapshot import Answered, Missing, Snapshot
from unit.planning.objects import (
    CONTEXT,
    MIRROR,
    NOW,
    exited,
    home,
    mirror,
    secret,
    shown,
    snapshot,
    times,
    unrelated,
)
from unit.planning.rows.row import Row, looks_again, provides, removes, shows


def _after(given: Snapshot, *, version: str = "7") -> Snapshot:
    """What is known once the write of this snapshot was accepted at `version`, without effect."""
    action = plan.decide(given, ctx=CONTEXT).action
    assert isinstance(action, PatchStatus | ReclaimMirror | ProvideSecret)
    answer = cast("ObjectMeta", {"resourceVersion": version})
    known = frozenset({wishes.answered(action, answer)})
    return dataclasses.replace(given, answered=known)


def _versioned(metadata: ObjectMeta) -> ObjectMeta:
    return {**metadata, "resourceVersion": "7"}


def _using_more(pod: Pod) -> Pod:
    """M with a field in the status of its container that H does not show."""
    result = copy.deepcopy(pod)
    result["status"]["containerStatuses"][0]["user"] = {"linux": {"uid": 1}}
    return result


def _unlabelled(got: Decision) -> bool:
    return (
        got.action is None
        and got.retry
        and got.note is not None
        and got.note[0] is Reason.FOREIGN_REJECTED
        and constants.VIRTUAL_NODE_ID in got.note[1]
    )


_MORE = snapshot(shown(home(), mirror()), _using_more(mirror()))
_NEVER = home(policy="Never")
_ENDED = mirror(phase="Succeeded", observed=True)
_ENDED_MORE = _using_more(_ENDED)
_STRIPPED = snapshot(shown(home(mirrored=MIRROR), mirror()), mirror(virtual_node_id=None))
_FRESH = mirror(access_mode="home", tokens=times(NOW, NOW + 3600))
_READER = shown(home(reads_token=True, phase="Running"), _FRESH)
_TAKEN = snapshot(home(), unrelated())
_UNOWNED = snapshot(_READER, _FRESH, secret=_versioned(secret(of="mirror-0")))
_DELETED = snapshot(
    shown(home(grace=30, mirrored=MIRROR), mirror(state=exited(0))),
    Missing.ABSENT,
    mirror_gone=True,
)
_OLD_CA = snapshot(_READER, _FRESH, secret=_versioned(secret(ca="")))

ROWS = (
    Row("a status that home did not keep is not written again", _after(_MORE), NOTHING),
    Row(
        "a status that home did not keep is written again once home has changed",
        _after(_MORE, version="6"),
        shows("Running"),
    ),
    Row(
        "another status is written although home did not keep the last one",
        snapshot(
            shown(home(), mirror()),
            _using_more(mirror(restarts=1)),
            answered=_after(_MORE).answered,
        ),
        shows("Running"),
    ),
    Row(
        "a mirror is released when home shows its end and did not keep the rest",
        _after(snapshot(shown(_NEVER, _ENDED), _ENDED_MORE)),
        Decision(ReleaseMirror(_ENDED_MORE)),
    ),
    Row(
        "the finalizer stays when home did not keep the final status",
        _after(snapshot(shown(_NEVER, mirror()), _ENDED)),
        NOTHING,
    ),
    Row(
        "a reason that home did not keep is not written again, and the pod is tried again",
        _after(_TAKEN),
        Decision(retry=True),
    ),
    Row(
        "a label that the foreign cluster removes again is reported, and the mirror is read again",
        _after(_STRIPPED),
        lambda _, got: _unlabelled(got),
    ),
    Row(
        "the status of a mirror whose label the foreign cluster removes is written",
        snapshot(
            home(mirrored=MIRROR),
            mirror(virtual_node_id=None),
            answered=_after(_STRIPPED).answered,
        ),
        shows("Running"),
    ),
    Row(
        "a Secret whose owner the foreign cluster removes keeps its tokens up to date",
        _after(_UNOWNED),
        looks_again(after=3600 * 0.44, before=3600 * 0.56),
    ),
    Row(
        "a Secret whose owner the foreign cluster removes gets a token that is due",
        snapshot(
            _READER,
            mirror(access_mode="home", tokens=times(NOW - 2000, NOW + 1600)),
            secret=_UNOWNED.secret,
            answered=_after(_UNOWNED).answered,
        ),
        provides(exists=True),
    ),
    Row(
        "a Secret whose annotation of the CA the foreign cluster removes is not written again",
        _after(_OLD_CA),
        looks_again(after=3600 * 0.44, before=3600 * 0.56),
    ),
    Row(
        "a Secret is written again when the CA has changed since a write without effect",
        snapshot(
            _READER,
            _FRESH,
            secret=_OLD_CA.secret,
            answered=frozenset({Answered(b"with another CA", "7")}),
        ),
        provides(exists=True, tokens=0),
    ),
    Row(
        "a problem that home did not keep is not written again",
        _after(
            snapshot(
                home(),
                Missing.UNKNOWN,
                problem=Refused(Reason.FOREIGN_UNREACHABLE, "connection refused"),
            )
        ),
        NOTHING,
    ),
    Row(
        "the end of a deleted pod that home did not keep does not hold the pod",
        _after(_DELETED),
        removes(),
    ),
)
