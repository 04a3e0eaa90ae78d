"""Rows: claims of H, with `--storage-class-map`."""

from __future__ import annotations

from typing import Any

from farlet.constants import Reason
from farlet.errors import Refused
from farlet.planning.actions import NOTHING, CreateMirror, Decision
from farlet.planning.snapshot import ClaimState, Missing, Snapshot
from unit.planning.objects import home, snapshot
from unit.planning.rows.row import Row, shows

_VOLUMES: Any = [
    {"name": "disk", "persistentVolumeClaim": {"claimName": "data"}},
    {"name": "tmp", "persistentVolumeClaim": {"claimName": "scratch"}},
]
_USER = home(spec={"volumes": _VOLUMES})
_REFUSED = Refused(Reason.VOLUME_NOT_BOUND, "it has no volume")


def _given(data: ClaimState, scratch: ClaimState) -> Snapshot:
    return snapshot(_USER, Missing.ABSENT, claims={"data": data, "scratch": scratch})


def _mounts_foreign_claims(_: Snapshot, got: Decision) -> bool:
    action = got.action
    if not isinstance(action, CreateMirror):
        return False
    volumes: Any = action.pod["spec"]["volumes"]
    named = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes]
    return named == ["data-x", "scratch-y"]


ROWS = (
    Row(
        "a mirror names the foreign claims of its pod",
        _given("data-x", "scratch-y"),
        _mounts_foreign_claims,
    ),
    Row(
        "a pod waits until all its claims are known",
        _given("data-x", Missing.UNKNOWN),
        NOTHING,
    ),
    Row(
        "a pod waits for a claim that its snapshot lacks",
        snapshot(_USER, Missing.ABSENT, claims={"data": "data-x"}),
        NOTHING,
    ),
    Row(
        "a pod whose claim cannot be used waits with the reason",
        _given("data-x", _REFUSED),
        shows("Pending", Reason.VOLUME_NOT_BOUND),
    ),
)
