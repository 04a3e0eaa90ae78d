"""Rows: H is absent or unknown; H has finished."""

from __future__ import annotations

import copy

from farlet.k8s_types import Pod
from farlet.planning.actions import (
    NOTHING,
    ConfirmHomeGone,
    ConfirmMirrorGone,
    DeleteMirror,
    ReleaseMirror,
)
from farlet.planning.snapshot import Missing
from unit.planning.objects import (
    KEY,
    MIRROR,
    MIRROR_KEY,
    exited,
    home,
    mirror,
    shown,
    snapshot,
    unrelated,
)
from unit.planning.rows.row import Row, does, shows

_DYING = mirror(grace=30)
_HELD = mirror(grace=0, observed=True)
_ENDED = mirror(phase="Succeeded", observed=True)


def _patient(pod: Pod, seconds: int) -> Pod:
    result = copy.deepcopy(pod)
    result["spec"]["terminationGracePeriodSeconds"] = seconds
    return result


ABSENT = (
    *(
        Row(
            f"a mirror that gives itself {seconds} s ends {text} when its home pod is gone",
            snapshot(Missing.ABSENT, _patient(mirror(), seconds), home_gone=True),
            does(DeleteMirror(_patient(mirror(), seconds), grace)),
        )
        for seconds, grace, text in (
            (5, None, "with its own grace period"),
            (2**31, 30, "within thirty seconds"),
        )
    ),
    Row(
        "a terminating mirror with a long grace period ends sooner when its home pod is gone",
        snapshot(Missing.ABSENT, mirror(grace=3600, observed=True), home_gone=True),
        does(DeleteMirror(mirror(grace=3600, observed=True), 30)),
    ),
    Row(
        "an unknown home side never ends a mirror",
        snapshot(Missing.UNKNOWN, mirror(), home_gone=True),
        NOTHING,
    ),
    Row(
        "an unknown home side never releases a mirror",
        snapshot(Missing.UNKNOWN, _HELD, home_gone=True),
        NOTHING,
    ),
    Row("no home pod and no mirror is nothing", snapshot(Missing.ABSENT, Missing.ABSENT), NOTHING),
    Row(
        "no home pod and an unknown foreign side is nothing",
        snapshot(Missing.ABSENT, Missing.UNKNOWN, home_gone=True),
        NOTHING,
    ),
    Row(
        "a mirror without home pod is checked at home before it ends",
        snapshot(Missing.ABSENT, mirror()),
        does(ConfirmHomeGone(KEY)),
    ),
    Row(
        "a terminating mirror without home pod is checked at home before it is released",
        snapshot(Missing.ABSENT, _HELD),
        does(ConfirmHomeGone(KEY)),
    ),
    Row(
        "a mirror whose home pod is gone for certain ends with its own grace",
        snapshot(Missing.ABSENT, mirror(), home_gone=True),
        does(DeleteMirror(mirror(), None)),
    ),
    Row(
        "a terminating mirror of a gone home pod is left to its kubelet",
        snapshot(Missing.ABSENT, _DYING, home_gone=True),
        NOTHING,
    ),
    Row(
        "a terminating mirror of a gone home pod is released",
        snapshot(Missing.ABSENT, _HELD, home_gone=True),
        does(ReleaseMirror(_HELD)),
    ),
    Row(
        "an unrelated pod of a gone home pod's name is not touched",
        snapshot(Missing.ABSENT, unrelated(), home_gone=True),
        NOTHING,
    ),
    Row(
        "another virtual node's mirror is not touched",
        snapshot(Missing.ABSENT, mirror(virtual_node_id="another-node"), home_gone=True),
        NOTHING,
    ),
)

_DONE = home(phase="Succeeded", state=exited(0), policy="Never")

TERMINAL = (
    Row(
        "a finished home pod ends a mirror that still runs",
        snapshot(shown(home(phase="Failed", state=exited(1)), mirror()), mirror()),
        does(DeleteMirror(mirror(), None)),
    ),
    Row(
        "a finished home pod does not delete a mirror that is terminating already",
        snapshot(shown(home(phase="Failed", state=exited(1)), _DYING), _DYING),
        NOTHING,
    ),
    Row(
        "a finished home pod does not take another phase from its mirror",
        snapshot(home(phase="Failed"), mirror(phase="Succeeded")),
        shows("Failed"),
    ),
    Row(
        "the finalizer stays until home shows the final status",
        snapshot(home(policy="Never", phase="Running"), _ENDED),
        shows("Succeeded"),
    ),
    Row(
        "the finalizer is removed once home shows the final status",
        snapshot(shown(home(policy="Never"), _ENDED), _ENDED),
        does(ReleaseMirror(_ENDED)),
    ),
    Row(
        "a finished mirror without finalizer stays, for its logs",
        snapshot(shown(home(policy="Never"), mirror(phase="Succeeded")), mirror(phase="Succeeded")),
        NOTHING,
    ),
    Row(
        "a finished home pod leaves an unrelated pod alone",
        snapshot(_DONE, unrelated()),
        NOTHING,
    ),
    *(
        Row(
            f"a {phase} pod of restartPolicy {policy} never runs again, its mirror {mirrored}",
            snapshot(
                home(phase=phase, policy=policy, mirrored=MIRROR, state=exited(code)),
                side,
                mirror_gone=side is Missing.ABSENT,
            ),
            NOTHING,
        )
        for policy, phase, code in (
            ("Always", "Failed", 137),
            ("OnFailure", "Failed", 1),
            ("OnFailure", "Succeeded", 0),
            ("Never", "Succeeded", 0),
            ("Never", "Failed", 1),
        )
        for side, mirrored in ((Missing.ABSENT, "gone"), (Missing.UNKNOWN, "unknown"))
    ),
    Row(
        "a finished pod's mirror that left the watch without a deletion is read live",
        snapshot(_DONE, Missing.ABSENT, last=mirror(phase="Succeeded")),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a finished pod's mirror that left the watch and is gone changes nothing",
        snapshot(_DONE, Missing.ABSENT, last=mirror(phase="Succeeded"), mirror_gone=True),
        NOTHING,
    ),
    Row(
        "a finished pod's mirror that left the watch when it was deleted is not read",
        snapshot(_DONE, Missing.ABSENT, last=mirror(phase="Succeeded", grace=0)),
        NOTHING,
    ),
    *(
        Row(
            f"a finished pod's mirror that left the watch while {text} is read live",
            snapshot(_DONE, Missing.ABSENT, last=last),
            does(ConfirmMirrorGone(MIRROR_KEY)),
        )
        for last, text in (
            (mirror(phase="Succeeded", grace=30), "it had time to end"),
            (mirror(phase="Succeeded", grace=0, observed=True), "its finalizer held it"),
        )
    ),
    Row(
        "a finished home pod leaves an unrelated pod alone that took the name of a mirror",
        snapshot(_DONE, unrelated(), last=mirror(phase="Succeeded")),
        NOTHING,
    ),
    Row(
        "a pod that finished before it ever had a mirror gets none",
        snapshot(home(phase="Failed"), Missing.ABSENT, mirror_gone=True),
        NOTHING,
    ),
)

ROWS = (*ABSENT, *TERMINAL)
