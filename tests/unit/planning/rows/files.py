"""Rows: M reads the labels and annotations of H in files, from its Secret."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from farlet import constants
from farlet.access import metadata_files
from farlet.constants import Reason
from farlet.errors import Refused
from farlet.forge import applied
from farlet.k8s_types import ObjectMeta, Pod
from farlet.planning import plan, wishes
from farlet.planning.actions import NOTHING, ProvideSecret, UpdateMirror
from farlet.planning.snapshot import Missing, Snapshot
from unit.planning.objects import CONTEXT, home, mirror, secret, shown, snapshot
from unit.planning.rows.row import Row, creates, notes, provides, shows

_SPEC: dict[str, Any] = {
    "volumes": [
        {
            "name": "info",
            "downwardAPI": {
                "items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.annotations"}}]
            },
        }
    ]
}
_READER = home(spec=_SPEC)


def _digest(pod: Pod) -> str:
    return metadata_files.digest(metadata_files.contents(pod))


def _changed(value: str) -> Pod:
    pod = copy.deepcopy(_READER)
    pod["metadata"]["annotations"]["note"] = value
    return pod


def _updatable() -> Pod:
    """M with the record of what it was written for."""
    pod = mirror()
    record = applied.encoded(applied.record(_READER, mirror=1, labels=(), annotations=()))
    assert record is not None
    pod["metadata"]["annotations"][constants.APPLIED] = record
    return pod


def _secret(digest: str) -> ObjectMeta:
    return {**secret(ca=""), "annotations": {constants.METADATA_FILES: digest}}


def _without_effect(pod: Pod) -> Snapshot:
    """The Secret was written for this H, and its answer lacks the annotation."""
    secret_now: ObjectMeta = {**secret(ca=""), "resourceVersion": "7"}
    given = snapshot(pod, mirror(), secret=secret_now)
    action = plan.decide(given, ctx=CONTEXT).action
    assert isinstance(action, ProvideSecret)
    answered = frozenset({wishes.answered(action, secret_now)})
    return dataclasses.replace(given, answered=answered)


_BEFORE, _NOW = _digest(_READER), _digest(_changed("new"))
_TOO_LARGE = _changed("x" * metadata_files.MAX_BYTES)

ROWS = (
    Row(
        "a pod whose labels or annotations are files gets a mirror without a token",
        snapshot(_READER, Missing.ABSENT, secret=Missing.ABSENT),
        creates(),
    ),
    Row(
        "a pod whose annotations are a file waits while Secrets cannot be watched",
        snapshot(
            _READER,
            Missing.ABSENT,
            problem=Refused(Reason.FOREIGN_FORBIDDEN, "secrets is forbidden"),
        ),
        shows("Pending", Reason.FOREIGN_FORBIDDEN),
    ),
    Row(
        "a pod whose annotations are a file and too large for a Secret is refused",
        snapshot(_TOO_LARGE, Missing.ABSENT, secret=Missing.ABSENT),
        shows("Pending", Reason.UNSUPPORTED_POD),
    ),
    Row(
        "a mirror that reads annotations in a file gets its Secret",
        snapshot(shown(_READER, mirror()), mirror(), secret=Missing.ABSENT),
        provides(exists=False, tokens=0),
    ),
    Row(
        "nothing is written while annotations in a file do not change",
        snapshot(shown(_READER, mirror()), mirror(), secret=_secret(_BEFORE)),
        NOTHING,
    ),
    Row(
        "annotations in a file are written anew when they change",
        snapshot(shown(_changed("new"), mirror()), mirror(), secret=_secret(_BEFORE)),
        provides(exists=True, tokens=0),
    ),
    Row(
        "a Secret whose annotation of the files the foreign cluster removes is not written again",
        _without_effect(shown(_READER, mirror())),
        NOTHING,
    ),
    Row(
        "a Secret is written again when annotations change after a write without effect",
        dataclasses.replace(
            _without_effect(shown(_READER, mirror())), home=shown(_changed("new"), mirror())
        ),
        provides(exists=True, tokens=0),
    ),
    Row(
        "a mirror is not updated before its files when the Secret could not be written",
        snapshot(
            shown(_changed("new"), _updatable()),
            _updatable(),
            secret=_secret(_BEFORE),
            secret_failed=True,
        ),
        NOTHING,
    ),
    Row(
        "a mirror whose files are written is updated, which makes its kubelet read them",
        snapshot(shown(_changed("new"), _updatable()), _updatable(), secret=_secret(_NOW)),
        lambda _, got: isinstance(got.action, UpdateMirror),
    ),
    Row(
        "annotations that became too large for the Secret of a running pod are an Event",
        snapshot(shown(_TOO_LARGE, mirror()), mirror(), secret=_secret(_BEFORE)),
        notes(Reason.UNSUPPORTED_POD),
    ),
)
