"""Rows: a foreign pod has M's name."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from farlet import constants
from farlet.constants import Reason
from farlet.errors import Refused
from farlet.forge import status
from farlet.k8s_types import Pod
from farlet.planning import plan
from farlet.planning.actions import (
    NOTHING,
    ConfirmMirrorGone,
    Decision,
    DeleteMirror,
    EvictHome,
    PatchStatus,
    ReclaimMirror,
    ReleaseMirror,
    Wait,
)
from farlet.planning.snapshot import Snapshot
from unit.planning.objects import (
    CONTEXT,
    HOME,
    KEY,
    MIRROR,
    NOW,
    RUNNING,
    STAMP,
    daemon,
    exited,
    home,
    mirror,
    shown,
    snapshot,
    unrelated,
    waiting,
)
from unit.planning.rows.row import Row, does, ends, shows

_OTHER = mirror(uid="mirror-0", of="home-0")
_OTHER_HELD = mirror(uid="mirror-0", of="home-0", grace=0, observed=True)

_MARKS = {
    constants.HOME_NAMESPACE: KEY.namespace,
    constants.HOME_NAME: KEY.name,
    constants.HOME_UID: HOME,
}

OTHERS = (
    Row(
        "the mirror of an earlier pod of the name ends first",
        snapshot(home(), _OTHER),
        does(DeleteMirror(_OTHER, None)),
    ),
    Row(
        "the terminating mirror of an earlier pod is waited for",
        snapshot(home(), mirror(uid="mirror-0", of="home-0", grace=30)),
        NOTHING,
    ),
    Row(
        "the terminating mirror of an earlier pod is released",
        snapshot(home(), _OTHER_HELD),
        does(ReleaseMirror(_OTHER_HELD)),
    ),
    Row(
        "a terminating pod ends the mirror of an earlier pod of the name",
        snapshot(home(grace=30), _OTHER),
        does(DeleteMirror(_OTHER, None)),
    ),
    Row(
        "an unrelated pod of the name is reported and never changed",
        snapshot(home(), unrelated()),
        shows("Pending", Reason.NAME_CONFLICT, retry=True),
    ),
    Row(
        "another virtual node's mirror of the name is reported and never changed",
        snapshot(home(), mirror(virtual_node_id="another-node")),
        shows("Pending", Reason.NAME_CONFLICT, retry=True),
    ),
    Row(
        "an unrelated pod that was reported is checked again",
        snapshot(
            waiting(
                home(),
                Reason.NAME_CONFLICT,
                "the foreign namespace default-h has a pod named web that farlet did not create. "
                "Rename or delete one of the two",
            ),
            unrelated(),
        ),
        Decision(retry=True),
    ),
    Row(
        "the mirror of a DaemonSet's pod keeps running although such pods are refused now",
        snapshot(daemon(shown(home(mirrored=MIRROR), mirror())), mirror()),
        NOTHING,
    ),
    Row(
        "a mirror that home names by uid is ours whatever its annotations say, and gets them back",
        snapshot(home(mirrored=MIRROR, phase="Running"), mirror(of="forged")),
        does(
            ReclaimMirror(
                home(mirrored=MIRROR, phase="Running"),
                mirror(of="forged"),
                {constants.VIRTUAL_NODE_ID: CONTEXT.virtual_node_id},
                _MARKS,
            )
        ),
    ),
    Row(
        "the label of a mirror that home names by uid is restored",
        snapshot(home(mirrored=MIRROR, phase="Running"), mirror(virtual_node_id=None)),
        does(
            ReclaimMirror(
                home(mirrored=MIRROR, phase="Running"),
                mirror(virtual_node_id=None),
                {constants.VIRTUAL_NODE_ID: CONTEXT.virtual_node_id},
                _MARKS,
            )
        ),
    ),
)

_DISCARDED = mirror(phase="Failed", state=exited(143), grace=30, observed=True)
_DISCARDED_DONE = mirror(phase="Succeeded", state=exited(0), grace=30, observed=True)
_RAN = home(phase="Running", state=RUNNING, policy="OnFailure", mirrored=MIRROR)
_ONCE = home(phase="Running", state=RUNNING, policy="Never", mirrored=MIRROR)

DELETED_IN_FOREIGN = (
    *(
        Row(
            f"a mirror of restartPolicy {policy} that a foreign user deletes is still reflected",
            snapshot(home(policy=policy), mirror(grace=30, observed=policy != "Always")),
            shows("Running"),
        )
        for policy in ("Always", "OnFailure", "Never")
    ),
    *(
        Row(
            f"a terminating mirror of restartPolicy {policy} keeps its finalizer while it runs",
            snapshot(
                shown(home(policy=policy), mirror(grace=30, observed=True)),
                mirror(grace=30, observed=True),
            ),
            does(Wait(plan.OVERDUE_SECONDS)),
        )
        for policy in ("OnFailure", "Never")
    ),
    Row(
        "the end of a mirror of restartPolicy Always that a foreign user deleted ends nothing",
        snapshot(
            home(phase="Running", state=RUNNING, mirrored=MIRROR),
            mirror(phase="Failed", state=exited(143), grace=30),
        ),
        shows("Running"),
    ),
    Row(
        "a failed mirror of restartPolicy OnFailure that a foreign user deleted ends nothing",
        snapshot(_RAN, _DISCARDED),
        shows("Running"),
    ),
    Row(
        "a failed mirror of restartPolicy OnFailure is released once its containers are shown",
        snapshot(shown(_RAN, _DISCARDED), _DISCARDED),
        does(ReleaseMirror(_DISCARDED)),
    ),
    Row(
        "a successful mirror of restartPolicy OnFailure that a foreign user deleted is shown",
        snapshot(_RAN, _DISCARDED_DONE),
        ends(0, "Succeeded"),
    ),
    Row(
        "a successful mirror of restartPolicy OnFailure is released once shown",
        snapshot(shown(_RAN, _DISCARDED_DONE), _DISCARDED_DONE),
        does(ReleaseMirror(_DISCARDED_DONE)),
    ),
    Row(
        "a mirror of restartPolicy Never that a foreign user deleted is shown as it ended",
        snapshot(_ONCE, _DISCARDED),
        ends(143, "Failed"),
    ),
    Row(
        "a mirror of restartPolicy Never is released once shown",
        snapshot(shown(_ONCE, _DISCARDED), _DISCARDED),
        does(ReleaseMirror(_DISCARDED)),
    ),
    *(
        Row(
            f"a mirror of restartPolicy Never that {text} is released with nothing more to see",
            snapshot(shown(_ONCE, pod), pod),
            does(ReleaseMirror(pod)),
        )
        for pod, text in (
            (mirror(grace=0, observed=True), "was forced to go"),
            (
                mirror(grace=30, observed=True, phase="Pending", node=None),
                "never got a node",
            ),
        )
    ),
)

_STUCK = mirror(grace=30)
_TAINTED = copy.deepcopy(_STUCK)
_TAINTED["status"]["conditions"] = [
    {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": STAMP,
    }
]


def _later(given: Snapshot, seconds: float, **known: Any) -> Snapshot:
    """So long after the end of the mirror's grace period."""
    return dataclasses.replace(given, now=NOW + seconds, **known)


def _marked(pod: Pod, of: Pod = _STUCK) -> Pod:
    """H once it shows that it is about to be evicted."""
    result = copy.deepcopy(pod)
    result["status"] = status.evicted(pod, of, ctx=CONTEXT, now=NOW).status
    return result


def _targets(got: Decision, message: str) -> bool:
    if not isinstance(got.action, PatchStatus):
        return False
    (condition,) = got.action.body["status"]["conditions"]
    return (
        condition["type"] == "DisruptionTarget"
        and condition["status"] == "True"
        and condition["reason"] == "DeletionByTaintManager"
        and message in condition["message"]
        and "phase" not in got.action.body["status"]
    )


_GOING = shown(home(), _STUCK)

OVERDUE = (
    Row(
        "a mirror that another user deleted has a minute more than its grace period",
        _later(snapshot(_GOING, _STUCK), 59.0),
        does(Wait(1.0)),
    ),
    *(
        Row(
            f"a pod of restartPolicy {policy} whose mirror does not end is marked",
            _later(snapshot(shown(home(policy=policy), _STUCK), _STUCK, mirror_read=True), 60.0),
            lambda _, got: _targets(got, "does not end"),
        )
        for policy in ("Always", "OnFailure", "Never")
    ),
    Row(
        "a pod whose mirror does not end is marked in the words of the taint manager",
        _later(snapshot(shown(home(), _TAINTED), _TAINTED, mirror_read=True), 60.0),
        lambda _, got: _targets(got, "NoExecute taint"),
    ),
    Row(
        "a pod whose mirror does not end is evicted once it is marked",
        _later(snapshot(_marked(_GOING), _STUCK, mirror_read=True), 60.0),
        does(EvictHome(_marked(_GOING))),
    ),
    Row(
        "a mirror that does not end is read before its pod is marked",
        _later(snapshot(_GOING, _STUCK), 60.0),
        lambda _, got: isinstance(got.action, ConfirmMirrorGone),
    ),
    Row(
        "a pod is not evicted while the watch of its mirror is broken",
        _later(snapshot(_marked(_GOING), _STUCK, mirrors_in_sync=False), 3600.0),
        does(Wait(plan.OVERDUE_SECONDS)),
    ),
    Row(
        "a pod that is being deleted is not evicted",
        _later(snapshot(shown(home(grace=30), _STUCK), _STUCK), 3600.0),
        NOTHING,
    ),
    Row(
        "a finished pod is not evicted",
        _later(
            snapshot(
                shown(home(phase="Succeeded", state=exited(0), mirrored=MIRROR), _STUCK), _STUCK
            ),
            3600.0,
        ),
        NOTHING,
    ),
    Row(
        "a pod is not evicted for a mirror that is finished and held by another finalizer",
        _later(snapshot(shown(home(), mirror(grace=0)), mirror(grace=0)), 3600.0),
        NOTHING,
    ),
    Row(
        "a pod is not evicted for a mirror that runs",
        _later(snapshot(shown(home(), mirror()), mirror()), 3600.0),
        NOTHING,
    ),
    Row(
        "a mirror of a grace period of decades is waited for in steps of an hour",
        _later(snapshot(_GOING, _STUCK), -(10.0**9)),
        does(Wait(3600.0 + plan.OVERDUE_SECONDS)),
    ),
)

RUNS = (
    Row("a mirror that runs is shown", snapshot(home(), mirror()), shows("Running")),
    Row("what is shown is not written again", snapshot(shown(home(), mirror()), mirror()), NOTHING),
    *(
        Row(
            f"the end of restartPolicy {policy} is shown: {phase}",
            snapshot(
                home(policy=policy, phase="Running", state=RUNNING),
                mirror(phase=phase, observed=True),
            ),
            ends(code, phase),
        )
        for policy, phase, code in (
            ("OnFailure", "Succeeded", 0),
            ("Never", "Succeeded", 0),
            ("Never", "Failed", 1),
        )
    ),
    Row(
        "a problem of the foreign side does not reach a pod whose mirror is seen",
        snapshot(
            shown(home(), mirror()), mirror(), problem=Refused(Reason.FOREIGN_UNREACHABLE, "down")
        ),
        NOTHING,
    ),
)

ROWS = (*OTHERS, *DELETED_IN_FOREIGN, *OVERDUE, *RUNS)
