"""Rows: H had a mirror and has none now."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from farlet.constants import API_SERVER_SUPPORT, JSON, Reason
from farlet.forge import status
from farlet.k8s_types import Pod
from farlet.planning.actions import NOTHING, ConfirmMirrorGone, Wait
from farlet.planning.snapshot import Ages, Missing, Snapshot
from unit.planning.objects import (
    CONTEXT,
    MIRROR,
    MIRROR_KEY,
    NOW,
    RUNNING,
    WAITING,
    daemon,
    ended,
    exited,
    home,
    main,
    mirror,
    shown,
    snapshot,
    unrelated,
    waiting,
)
from unit.planning.rows.row import Row, creates, does, ends, removes, shows

BACKING_OFF: JSON = {"waiting": {"reason": "CrashLoopBackOff"}}
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


def _identified(pod: Pod) -> Pod:
    """H, whose container has an id: a kubelet shows that of the last run."""
    pod["status"]["containerStatuses"][0]["containerID"] = "run://1"
    return pod


def _stranded(pod: Pod) -> Pod:
    """H, which has shown why it gets no other mirror yet."""
    result = copy.deepcopy(pod)
    wanted = status.stranded(pod, reason=Reason.NAME_CONFLICT, message="", ctx=CONTEXT, now=NOW)
    result["status"] = wanted.status
    return result


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

_LOST = snapshot(_ran("Always"), Missing.ABSENT, mirror_gone=True)
_PAUSED = (
    "the mirrors of this pod in the foreign namespace default-h are deleted soon after they were "
    "created. farlet creates the next one after a pause, which grows to 5 minutes. Find out who "
    "deletes pods there"
)


def _series(creations: int, age: float, pod: Pod | None = None) -> Snapshot:
    """H lost the last of so many mirrors, which was created so many seconds ago."""
    return dataclasses.replace(
        _LOST, home=pod or _ran("Always"), creations=creations, ages=Ages(mirror_created=age)
    )


def _paused(pod: Pod) -> Pod:
    result = copy.deepcopy(pod)
    wanted = status.stranded(
        pod, reason=Reason.MIRROR_BACK_OFF, message=_PAUSED, ctx=CONTEXT, now=NOW
    )
    result["status"] = wanted.status
    return result


BACK_OFF = (
    Row(
        "a mirror that was lost at once is recreated after a second",
        _series(1, 0.25),
        does(Wait(0.75)),
    ),
    Row(
        "a mirror that was lost after a second is recreated at once",
        _series(1, 1.0),
        creates(restarts={"main": 3}),
    ),
    Row(
        "the pause doubles with each mirror that did not last",
        _series(3, 1.0),
        does(Wait(3.0)),
    ),
    Row(
        "a long pause is reported",
        _series(5, 1.0),
        shows("Running", Reason.MIRROR_BACK_OFF),
    ),
    Row(
        "a long pause that was reported is waited for",
        _series(5, 1.0, _paused(_ran("Always"))),
        does(Wait(15.0)),
    ),
    Row(
        "the pause grows to five minutes",
        _series(1000, 0.0, _paused(_ran("Always"))),
        does(Wait(300.0)),
    ),
    Row(
        "a mirror that existed for five minutes is recreated at once",
        _series(1000, 300.0),
        creates(restarts={"main": 3}),
    ),
    Row(
        "a mirror of a pod that never showed one is recreated after a pause too",
        _series(2, 1.0, home()),
        does(Wait(1.0)),
    ),
    Row(
        "a mirror that may run only once has no pause before it is lost",
        _series(9, 1.0, _ran("Never")),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    Row(
        "a pod that is deleted in a pause is removed at once",
        dataclasses.replace(
            _series(9, 1.0), home=ended(home(grace=30, mirrored=MIRROR, state=exited(0)))
        ),
        removes(),
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
        "a container that waited for its restart when its mirror was lost restarts in the next one",
        snapshot(
            _identified(_ran("Always", BACKING_OFF, exited(1))), Missing.ABSENT, mirror_gone=True
        ),
        creates(restarts={"main": 3}),
    ),
    Row(
        "a restart that a pod without a mirror has shown counts once",
        snapshot(
            _stranded(_identified(_ran("Always", BACKING_OFF, exited(1)))),
            Missing.ABSENT,
            mirror_gone=True,
        ),
        creates(restarts={"main": 3}),
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

_RULES: JSON = {
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
}


def _own(policy: str, state: JSON, *, of_pod: str = "Always", **fields: Any) -> Pod:
    """H, whose one container has a restart policy of its own."""
    return home(
        policy=of_pod,
        phase="Running",
        state=state,
        restarts=2,
        mirrored=MIRROR,
        spec=main(restartPolicy=policy, **fields),
    )


OWN_POLICIES = (
    *(
        Row(
            f"a lost mirror with a container of restartPolicy {text} fails its home pod",
            snapshot(pod, Missing.ABSENT, mirror_gone=True),
            shows("Failed", Reason.MIRROR_LOST),
        )
        for text, pod in (
            ("Never", _own("Never", RUNNING)),
            ("Never that has ended", _own("Never", exited(0))),
            ("Never that has failed", _own("Never", exited(1))),
            ("Never that never started", _own("Never", WAITING)),
            ("Never in a pod of OnFailure", _own("Never", exited(1), of_pod="OnFailure")),
            ("Never with a rule for its exit code", _own("Never", exited(42), **_RULES)),
            ("OnFailure that has succeeded", _own("OnFailure", exited(0))),
            ("Always in a pod of Never", _own("Always", exited(0), of_pod="Never")),
        )
    ),
    *(
        Row(
            f"a lost mirror with a container of restartPolicy {text} is recreated",
            snapshot(pod, Missing.ABSENT, mirror_gone=True),
            creates(restarts={"main": 3}, observed=observed),
        )
        for text, pod, observed in (
            ("OnFailure that runs", _own("OnFailure", RUNNING), True),
            ("OnFailure that has failed", _own("OnFailure", exited(1)), True),
            (
                "OnFailure with a rule for its success",
                _own(
                    "OnFailure",
                    exited(0),
                    restartPolicyRules=[
                        {"action": "Restart", "exitCodes": {"operator": "In", "values": [0]}}
                    ],
                ),
                True,
            ),
            ("Always that has succeeded", _own("Always", exited(0)), False),
            (
                "Always that has succeeded, in a pod of OnFailure,",
                _own("Always", exited(0), of_pod="OnFailure"),
                True,
            ),
        )
    ),
    Row(
        "a half success that this process saw keeps a container of OnFailure from running again",
        snapshot(
            shown(_own("OnFailure", RUNNING), mirror(state=exited(0))),
            Missing.ABSENT,
            mirror_gone=True,
            last=mirror(state=exited(0)),
        ),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    Row(
        "a lost mirror whose init container has restartPolicy Never is recreated",
        snapshot(
            home(
                phase="Running",
                state=RUNNING,
                restarts=2,
                mirrored=MIRROR,
                spec={"initContainers": [{"name": "fetch", "restartPolicy": "Never"}]},
            ),
            Missing.ABSENT,
            mirror_gone=True,
        ),
        creates(restarts={"main": 3}),
    ),
    Row(
        "a mirror with a container of restartPolicy Never that a foreign user deleted ends its pod",
        snapshot(
            _own("Never", RUNNING),
            mirror(phase="Failed", state=exited(143), grace=30, observed=True),
        ),
        ends(143, "Failed"),
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

ROWS = (*EVIDENCE, *BACK_OFF, *AGAIN, *NEVER_AGAIN, *OWN_POLICIES, *BY_UNRELATED_PODS)
