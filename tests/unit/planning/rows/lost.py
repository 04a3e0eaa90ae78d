"""Rows: H had a mirror and has none now."""

from __future__ import annotations

from farlet.constants import API_SERVER_SUPPORT, JSON, Reason
from farlet.k8s_types import Pod
from farlet.planning.actions import NOTHING, ConfirmMirrorGone
from farlet.planning.snapshot import Missing
from unit.planning.objects import (
    MIRROR,
    MIRROR_KEY,
    RUNNING,
    WAITING,
    daemon,
    exited,
    home,
    mirror,
    shown,
    snapshot,
    unrelated,
    waiting,
)
from unit.planning.rows.row import Row, creates, does, ends, shows

POLICIES = ("Always", "OnFailure", "Never")


def _ran(policy: str, state: JSON = RUNNING, last_state: JSON | None = None) -> Pod:
    return home(
        policy=policy,
        phase="Running",
        state=state,
        last_state=last_state,
        restarts=2,
        mirrored=MIRROR,
    )


def _observed(policy: str, phase: str, *, grace: int | None = None) -> Pod:
    """The mirror as it was last seen, in this process."""
    state = exited(143) if grace is not None and phase == "Failed" else None
    return mirror(phase=phase, state=state, observed=policy != "Always", grace=grace)


EVIDENCE = (
    *(
        Row(
            f"an unknown mirror of restartPolicy {policy} is not lost",
            snapshot(_ran(policy), Missing.UNKNOWN),
            NOTHING,
        )
        for policy in POLICIES
    ),
    *(
        Row(
            f"an absent mirror of restartPolicy {policy} is read live",
            snapshot(_ran(policy), Missing.ABSENT),
            does(ConfirmMirrorGone(MIRROR_KEY)),
        )
        for policy in POLICIES
    ),
    *(
        Row(
            f"a mirror of restartPolicy {policy} that this process saw is read live",
            snapshot(
                shown(home(policy=policy), mirror(phase="Pending")),
                Missing.ABSENT,
                last=mirror(phase="Pending"),
            ),
            does(ConfirmMirrorGone(MIRROR_KEY)),
        )
        for policy in POLICIES
    ),
    *(
        Row(
            f"an end of restartPolicy {policy} that this process saw is shown before anything else",
            snapshot(
                home(policy=policy, phase="Running", state=RUNNING, mirrored=MIRROR),
                Missing.ABSENT,
                last=mirror(state=exited(1)),
            ),
            ends(1, "Running"),
        )
        for policy in POLICIES
    ),
    Row(
        "a vanished mirror that was last seen running does not take back why its pod waits",
        snapshot(
            waiting(shown(_ran("Always"), mirror()), Reason.NAME_CONFLICT, "taken"),
            Missing.ABSENT,
            last=mirror(),
        ),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
)

AGAIN = (
    Row(
        "a lost mirror of restartPolicy Always is recreated and restarts grow",
        snapshot(_ran("Always"), Missing.ABSENT, mirror_gone=True),
        creates(restarts={"main": 3}),
    ),
    Row(
        "a container that waited when its mirror was lost has not restarted",
        snapshot(_ran("Always", WAITING), Missing.ABSENT, mirror_gone=True),
        creates(restarts={"main": 2}),
    ),
    Row(
        "a lost mirror of restartPolicy Always is recreated after a success too",
        snapshot(_ran("Always", exited(0)), Missing.ABSENT, mirror_gone=True),
        creates(restarts={"main": 3}),
    ),
    Row(
        "a lost mirror of restartPolicy OnFailure is recreated while it never succeeded",
        snapshot(_ran("OnFailure"), Missing.ABSENT, mirror_gone=True),
        creates(restarts={"main": 3}, observed=True),
    ),
    Row(
        "a lost mirror of restartPolicy OnFailure is recreated after a failure",
        snapshot(_ran("OnFailure", RUNNING, exited(1)), Missing.ABSENT, mirror_gone=True),
        creates(restarts={"main": 3}, observed=True),
    ),
    *(
        Row(
            f"a mirror of restartPolicy {policy} that a foreign user deleted is recreated",
            snapshot(
                shown(_ran(policy), _observed(policy, "Failed", grace=0)),
                Missing.ABSENT,
                mirror_gone=True,
                last=_observed(policy, "Failed", grace=0),
            ),
            creates(restarts={"main": 3}, observed=policy != "Always"),
        )
        for policy in ("Always", "OnFailure")
    ),
    Row(
        "a lost mirror that would be refused by now is not recreated",
        snapshot(
            home(
                phase="Running",
                state=RUNNING,
                mirrored=MIRROR,
                annotations={API_SERVER_SUPPORT: "nearby"},
            ),
            Missing.ABSENT,
            mirror_gone=True,
        ),
        shows("Running", Reason.INVALID_API_SERVER_SUPPORT),
    ),
    Row(
        "a lost mirror of a DaemonSet's pod is not recreated where such are refused",
        snapshot(daemon(_ran("Always")), Missing.ABSENT, mirror_gone=True),
        shows("Running", Reason.DAEMONSET_NOT_ALLOWED),
    ),
)

NEVER_AGAIN = (
    Row(
        "a lost mirror of restartPolicy Never fails its home pod",
        snapshot(_ran("Never"), Missing.ABSENT, mirror_gone=True),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    Row(
        "a lost mirror of restartPolicy Never that was never seen running fails its home pod",
        snapshot(
            home(policy="Never", mirrored=MIRROR, state=WAITING), Missing.ABSENT, mirror_gone=True
        ),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    *(
        Row(
            f"a lost mirror of restartPolicy OnFailure is not recreated after a success {text}",
            snapshot(pod, Missing.ABSENT, mirror_gone=True),
            shows("Failed", Reason.MIRROR_LOST),
        )
        for pod, text in (
            (_ran("OnFailure", exited(0)), "of its last run"),
            (_ran("OnFailure", RUNNING, exited(0)), "of the run before"),
        )
    ),
    Row(
        "a success that this process saw before the mirror vanished is shown, not lost",
        snapshot(
            _ran("OnFailure"),
            Missing.ABSENT,
            mirror_gone=True,
            last=_observed("OnFailure", "Succeeded"),
        ),
        ends(0, "Succeeded"),
    ),
    Row(
        "a half success that this process saw keeps restartPolicy OnFailure from running again",
        snapshot(
            shown(_ran("OnFailure"), mirror(state=exited(0))),
            Missing.ABSENT,
            mirror_gone=True,
            last=mirror(state=exited(0)),
        ),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    *(
        Row(
            f"an end of restartPolicy Never that this process saw is shown: {phase}",
            snapshot(
                _ran("Never"),
                Missing.ABSENT,
                mirror_gone=True,
                last=_observed("Never", phase),
            ),
            ends(code, phase),
        )
        for phase, code in (("Succeeded", 0), ("Failed", 1))
    ),
    Row(
        "an end that is shown leaves nothing to do",
        snapshot(
            shown(_ran("Never"), _observed("Never", "Failed")),
            Missing.ABSENT,
            mirror_gone=True,
            last=_observed("Never", "Failed"),
        ),
        NOTHING,
    ),
)

BY_UNRELATED_PODS = (
    Row(
        "a lost mirror of restartPolicy Never whose name an unrelated pod took fails its home pod",
        snapshot(_ran("Never"), unrelated()),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    Row(
        "a lost mirror of restartPolicy OnFailure is not waited for after a success",
        snapshot(_ran("OnFailure", exited(0)), unrelated()),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    *(
        Row(
            f"a lost mirror of restartPolicy {policy} waits for the unrelated pod to go",
            snapshot(_ran(policy), unrelated()),
            shows("Running", Reason.NAME_CONFLICT, retry=True),
        )
        for policy in ("Always", "OnFailure")
    ),
)

ROWS = (*EVIDENCE, *AGAIN, *NEVER_AGAIN, *BY_UNRELATED_PODS)
