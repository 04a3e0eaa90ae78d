"""Rows: the foreign API server is perhaps that of another cluster, so nothing it says counts."""

from __future__ import annotations

from typing import Any

from farlet.constants import Reason
from farlet.errors import Unconfirmed
from farlet.k8s_types import Pod
from farlet.planning.actions import NOTHING, ConfirmMirrorGone, Step
from farlet.planning.snapshot import Failure, Missing, Snapshot
from unit.planning.objects import MIRROR, MIRROR_KEY, RUNNING, exited, home, mirror, snapshot
from unit.planning.rows.row import Row, does, fails, notes, shows

_WHY = Unconfirmed("it is another cluster")
_MIRRORED: dict[str, Any] = {"phase": "Running", "state": RUNNING, "mirrored": MIRROR}
_GONE: dict[str, Any] = {"mirror_gone": True, "namespace_unused": True}


def _doubted(pod: Pod | Missing, mirror_pod: Pod | Missing, **known: Any) -> Snapshot:
    return snapshot(pod, mirror_pod, foreign_confirmed=False, problem=_WHY, **known)


_FAILED = Failure(ConfirmMirrorGone(MIRROR_KEY), Step.MIRROR, _WHY)

ROWS = (
    *(
        Row(
            f"a {policy} pod whose mirror another cluster lacks keeps its status",
            _doubted(home(policy=policy, **_MIRRORED), Missing.ABSENT, **_GONE),
            NOTHING,
        )
        for policy in ("Never", "OnFailure", "Always")
    ),
    Row(
        "a terminating pod whose mirror another cluster lacks stays and reports why",
        _doubted(home(grace=30, **_MIRRORED), Missing.ABSENT, **_GONE),
        notes(Reason.FOREIGN_CLUSTER_UNCONFIRMED),
    ),
    Row(
        "a terminating pod that never ran stays while the cluster is not confirmed",
        _doubted(home(grace=30), Missing.ABSENT, **_GONE),
        notes(Reason.FOREIGN_CLUSTER_UNCONFIRMED),
    ),
    Row(
        "no mirror is deleted in a cluster that is not confirmed, though its home pod is gone",
        _doubted(Missing.ABSENT, mirror(), home_gone=True),
        NOTHING,
    ),
    Row(
        "a pod does not show a mirror of a cluster that is not confirmed",
        _doubted(home(**_MIRRORED), mirror(phase="Failed", state=exited(1))),
        NOTHING,
    ),
    Row(
        "a pod that never ran waits and reports that the cluster is not confirmed",
        _doubted(home(), Missing.ABSENT, **_GONE),
        shows("Pending", Reason.FOREIGN_CLUSTER_UNCONFIRMED),
    ),
    Row(
        "a 404 that is not confirmed ends nothing and is asked again",
        snapshot(home(policy="Never", **_MIRRORED), Missing.ABSENT, failure=_FAILED),
        does(None, retry=True),
    ),
    Row(
        "a 404 that is not confirmed removes no terminating pod",
        snapshot(home(grace=30, **_MIRRORED), Missing.ABSENT, failure=_FAILED),
        fails(Reason.FOREIGN_CLUSTER_UNCONFIRMED),
    ),
)
