"""Rows: H is absent, or nobody knows; H has finished."""

from __future__ import annotations

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
    stranger,
)
from unit.planning.rows.row import Row, does, shows

_DYING = mirror(grace=30)
_HELD = mirror(grace=0, observed=True)
_ENDED = mirror(phase="Succeeded", observed=True)

ABSENT = (
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
        "no home pod and an unseen foreign side is nothing",
        snapshot(Missing.ABSENT, Missing.UNKNOWN, home_gone=True),
        NOTHING,
    ),
    Row(
        "a mirror without home pod asks home before it ends",
        snapshot(Missing.ABSENT, mirror()),
        does(ConfirmHomeGone(KEY)),
    ),
    Row(
        "a dying mirror without home pod asks home before it is released",
        snapshot(Missing.ABSENT, _HELD),
        does(ConfirmHomeGone(KEY)),
    ),
    Row(
        "a mirror whose home pod is gone for certain ends with its own grace",
        snapshot(Missing.ABSENT, mirror(), home_gone=True),
        does(DeleteMirror(mirror(), None)),
    ),
    Row(
        "a dying mirror of a gone home pod is left to its kubelet",
        snapshot(Missing.ABSENT, _DYING, home_gone=True),
        NOTHING,
    ),
    Row(
        "a dying mirror of a gone home pod is released",
        snapshot(Missing.ABSENT, _HELD, home_gone=True),
        does(ReleaseMirror(_HELD)),
    ),
    Row(
        "a stranger of a gone home pod's name is not touched",
        snapshot(Missing.ABSENT, stranger(), home_gone=True),
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
        "a finished home pod does not hurry a mirror that ends already",
        snapshot(shown(home(phase="Failed", state=exited(1)), _DYING), _DYING),
        NOTHING,
    ),
    Row(
        "a finished home pod does not take another phase from its mirror",
        snapshot(home(phase="Failed"), mirror(phase="Succeeded")),
        shows("Failed"),
    ),
    Row(
        "the finalizer stays until the final status stands at home",
        snapshot(home(policy="Never", phase="Running"), _ENDED),
        shows("Succeeded"),
    ),
    Row(
        "the finalizer goes once the final status stands at home",
        snapshot(shown(home(policy="Never"), _ENDED), _ENDED),
        does(ReleaseMirror(_ENDED)),
    ),
    Row(
        "a finished mirror without finalizer stays, for its logs",
        snapshot(shown(home(policy="Never"), mirror(phase="Succeeded")), mirror(phase="Succeeded")),
        NOTHING,
    ),
    Row(
        "a finished home pod leaves a stranger alone",
        snapshot(_DONE, stranger()),
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
        for side, mirrored in ((Missing.ABSENT, "gone"), (Missing.UNKNOWN, "unseen"))
    ),
    Row(
        "a finished pod's mirror that left the watch undeleted is looked for live",
        snapshot(_DONE, Missing.ABSENT, last=mirror(phase="Succeeded")),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a finished pod's mirror that left the watch undeleted and is gone changes nothing",
        snapshot(_DONE, Missing.ABSENT, last=mirror(phase="Succeeded"), mirror_gone=True),
        NOTHING,
    ),
    Row(
        "a finished pod's mirror that left the watch when it was deleted is not looked for",
        snapshot(_DONE, Missing.ABSENT, last=mirror(phase="Succeeded", grace=30)),
        NOTHING,
    ),
    Row(
        "a finished home pod leaves a stranger alone that took the name of a mirror",
        snapshot(_DONE, stranger(), last=mirror(phase="Succeeded")),
        NOTHING,
    ),
    Row(
        "a pod that finished before it ever had a mirror gets none",
        snapshot(home(phase="Failed"), Missing.ABSENT, mirror_gone=True),
        NOTHING,
    ),
)

ROWS = (*ABSENT, *TERMINAL)
