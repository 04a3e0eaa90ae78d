"""Rows: H is being deleted."""

from __future__ import annotations

from farlet.planning.actions import NOTHING, ConfirmMirrorGone, DeleteMirror, ReleaseMirror
from farlet.planning.snapshot import Missing, Sign
from unit.planning.objects import (
    MIRROR,
    MIRROR_KEY,
    RUNNING,
    departed,
    ended,
    exited,
    home,
    mirror,
    shown,
    snapshot,
    unrelated,
)
from unit.planning.rows.row import Row, does, ends, removes, shows

_LEAVING = home(grace=30, phase="Running", state=RUNNING, mirrored=MIRROR)
_UNSTARTED = home(grace=30)
_HELD = home(
    grace=0, finalizers=["example.org/held"], phase="Running", state=RUNNING, mirrored=MIRROR
)
_DYING = mirror(grace=30)
_LAST = mirror(grace=30, phase="Failed", state=exited(143), observed=True)

WITH_MIRROR = (
    Row(
        "the mirror of a terminating pod gets the grace of its home pod",
        snapshot(shown(_LEAVING, mirror()), mirror()),
        does(DeleteMirror(mirror(), 30)),
    ),
    Row(
        "a terminating pod's mirror is deleted before its status is reflected",
        snapshot(_LEAVING, mirror()),
        does(DeleteMirror(mirror(), 30)),
    ),
    Row(
        "a shorter grace is passed on",
        snapshot(shown(home(grace=5), _DYING), _DYING),
        does(DeleteMirror(_DYING, 5)),
    ),
    Row(
        "the grace of a forced deletion is passed on while others hold the home pod",
        snapshot(shown(home(grace=0, finalizers=["example.org/held"]), _DYING), _DYING),
        does(DeleteMirror(_DYING, 0)),
    ),
    Row(
        "an equal grace is not requested twice",
        snapshot(shown(_LEAVING, _DYING), _DYING),
        NOTHING,
    ),
    Row(
        "a mirror that has less time than its home pod keeps it",
        snapshot(shown(home(grace=60), _DYING), _DYING),
        NOTHING,
    ),
    Row(
        "the last states of a terminating pod are reflected",
        snapshot(_LEAVING, _LAST),
        ends(143, "Failed"),
    ),
    Row(
        "a terminating pod's mirror is released once home shows its last states",
        snapshot(shown(_LEAVING, _LAST), _LAST),
        does(ReleaseMirror(_LAST)),
    ),
    Row(
        "a terminating pod whose mirror still runs is not removed",
        snapshot(shown(_LEAVING, _DYING), _DYING, mirror_gone=True),
        NOTHING,
    ),
)

WITHOUT = (
    *(
        Row(
            f"a terminating pod's mirror is read live before the pod is removed, if {text}",
            snapshot(_LEAVING, side),
            does(ConfirmMirrorGone(MIRROR_KEY)),
        )
        for side, text in ((Missing.ABSENT, "absent"), (Missing.UNKNOWN, "unknown"))
    ),
    Row(
        "a terminating pod's mirror is read live even if it never had one",
        snapshot(_UNSTARTED, Missing.ABSENT),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a terminating pod that never had a mirror is Failed first, as with a kubelet",
        snapshot(_UNSTARTED, Missing.ABSENT, mirror_gone=True),
        ends(137, "Failed"),
    ),
    Row(
        "a terminating pod that never had a mirror is removed once it is Failed",
        snapshot(ended(_UNSTARTED), Missing.ABSENT, mirror_gone=True),
        removes(),
    ),
    Row(
        "a terminating pod writes that its containers ended before it is removed",
        snapshot(_LEAVING, Missing.ABSENT, mirror_gone=True),
        ends(137, "Failed"),
    ),
    Row(
        "a terminating pod shows the end that its mirror was last seen with",
        snapshot(
            _LEAVING,
            Missing.ABSENT,
            mirror_gone=True,
            last=mirror(phase="Succeeded", grace=30),
        ),
        ends(0, "Succeeded"),
    ),
    Row(
        "a terminating pod that shows its end is removed",
        snapshot(ended(_LEAVING), Missing.ABSENT, mirror_gone=True),
        removes(),
    ),
    Row(
        "a terminating pod that has finished is removed",
        snapshot(
            ended(home(grace=30, policy="Never", mirrored=MIRROR, state=exited(0))),
            Missing.ABSENT,
            mirror_gone=True,
        ),
        removes(),
    ),
    *(
        Row(
            f"a pod that only others' finalizers hold is left alone, its mirror being {text}",
            snapshot(ended(_HELD), side, mirror_gone=gone),
            NOTHING,
        )
        for side, gone, text in (
            (Missing.ABSENT, True, "gone"),
            (Missing.ABSENT, False, "absent"),
            (Missing.UNKNOWN, False, "unknown"),
        )
    ),
    Row(
        "the end of a pod that only others' finalizers hold is shown",
        snapshot(_HELD, Missing.ABSENT, mirror_gone=True),
        ends(137, "Failed"),
    ),
    Row(
        "the mirror of a pod that others' finalizers hold is read live before its end is shown",
        snapshot(_HELD, Missing.UNKNOWN),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a terminating pod whose name an unrelated pod has is removed without changing it",
        snapshot(ended(_UNSTARTED), unrelated()),
        removes(),
    ),
    Row(
        "a terminating pod whose lost mirror's name an unrelated pod took shows its end first",
        snapshot(_LEAVING, unrelated()),
        shows("Failed"),
    ),
)

_SHOWN = ended(_LEAVING, _LAST)
_GONE = mirror(grace=0, phase="Failed", state=exited(143))

EVIDENCE = (
    *(
        Row(
            f"a terminating pod is removed without reading its mirror again after {text}",
            snapshot(_SHOWN, Missing.ABSENT, departure=departed(last, sign)),
            removes(),
        )
        for last, sign, text in (
            (_GONE, Sign.EVENT, "the event of its end"),
            (_GONE, Sign.ANSWER, "an answer that contains it for the last time"),
            (_LAST, Sign.NOT_FOUND, "a write that was answered with 404"),
        )
    ),
    *(
        Row(
            f"a terminating pod's mirror is read live {text}",
            snapshot(_SHOWN, side, departure=departure),
            does(ConfirmMirrorGone(MIRROR_KEY)),
        )
        for side, departure, text in (
            (
                Missing.ABSENT,
                departed(_DYING),
                "when its label was removed while it was being deleted",
            ),
            (Missing.ABSENT, departed(mirror()), "when its label was removed while it ran"),
            (
                Missing.ABSENT,
                departed(mirror(grace=0, observed=True)),
                "when an event shows it with a finalizer",
            ),
            (Missing.ABSENT, departed(_GONE, Sign.LIST), "when a list lacks it"),
            (
                Missing.ABSENT,
                departed(mirror(uid="mirror-2", grace=0)),
                "when another one than home names has ended",
            ),
            (
                Missing.ABSENT,
                departed(_GONE, posted=True),
                "when another one was requested since its end",
            ),
            (
                Missing.ABSENT,
                departed(_GONE, doubted=True),
                "when the foreign cluster was in doubt since its end",
            ),
            (
                Missing.UNKNOWN,
                departed(_GONE),
                "when its end was seen and the watch is broken",
            ),
        )
    ),
    Row(
        "a terminating pod whose mirror is gone shows its end first",
        snapshot(_LEAVING, Missing.ABSENT, departure=departed(_GONE)),
        ends(143, "Failed"),
    ),
    Row(
        "a terminating pod that shows the end of its mirror is removed without another status",
        snapshot(shown(_LEAVING, _LAST), Missing.ABSENT, departure=departed(_GONE)),
        removes(),
    ),
    Row(
        "nothing that was seen of a mirror counts for a home pod that names none",
        snapshot(ended(_UNSTARTED), Missing.ABSENT, departure=departed(_GONE)),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
)

ROWS = (*WITH_MIRROR, *WITHOUT, *EVIDENCE)
