"""Rows: when a status is written, and when it is held back."""

from __future__ import annotations

import copy

from farlet.constants import Reason
from farlet.errors import Refused
from farlet.k8s_types import Pod
from farlet.planning.actions import Decision, Wait
from farlet.planning.snapshot import Ages, Missing
from unit.planning.objects import home, mirror, snapshot, unrelated, waiting
from unit.planning.rows.row import Row, does, shows

_UNREACHABLE = Refused(Reason.FOREIGN_UNREACHABLE, "connection refused")
_UNREACHABLE_BEFORE = waiting(home(), Reason.FOREIGN_UNREACHABLE, "timed out")
_A_MINUTE_AGO = Ages(reason_written=60.0)
_A_MOMENT_AGO = Ages(reason_written=59.0)
_NEW = Ages(mirror_created=0.5)


def _scheduled() -> Pod:
    """M with a node and without a report of its kubelet."""
    pod = copy.deepcopy(mirror(phase="Pending"))
    del pod["status"]["containerStatuses"]
    return pod


ROWS = (
    Row(
        "the first status of a new mirror is held back while no kubelet has reported",
        snapshot(home(), _scheduled(), ages=_NEW),
        does(Wait(1.5, unreported=True)),
    ),
    *(
        Row(
            f"the first status of a mirror is written {text}",
            snapshot(home(), _scheduled(), ages=ages),
            shows("Pending"),
        )
        for ages, text in (
            (Ages(mirror_created=2.0), "after two seconds"),
            (Ages(), "at once where an earlier process created the mirror"),
        )
    ),
    Row(
        "a report of a new mirror's containers is written at once",
        snapshot(home(), mirror(phase="Pending"), ages=_NEW),
        shows("Pending"),
    ),
    Row(
        "a new mirror that runs is written at once",
        snapshot(home(), mirror(), ages=_NEW),
        shows("Running"),
    ),
    Row(
        "the status of a pod that changes all the time waits",
        snapshot(home(), mirror(), recent_statuses=9.25),
        does(Wait(0.25, unreported=True)),
    ),
    Row(
        "the tenth status in a row is written at once",
        snapshot(home(), mirror(), recent_statuses=9.0),
        shows("Running"),
    ),
    Row(
        "the status of a pod that is being deleted does not wait although it changed all the time",
        snapshot(home(grace=30), mirror(grace=30), recent_statuses=15.0),
        shows("Running"),
    ),
    Row(
        "another message of the same reason is not written within a minute",
        snapshot(_UNREACHABLE_BEFORE, Missing.UNKNOWN, problem=_UNREACHABLE, ages=_A_MOMENT_AGO),
        does(Wait(60.0)),
    ),
    Row(
        "another message of the same reason is written after a minute",
        snapshot(_UNREACHABLE_BEFORE, Missing.UNKNOWN, problem=_UNREACHABLE, ages=_A_MINUTE_AGO),
        shows("Pending", Reason.FOREIGN_UNREACHABLE),
    ),
    Row(
        "another reason is written at once",
        snapshot(
            waiting(home(), Reason.NAMESPACE_NOT_FOUND, "missing"),
            Missing.UNKNOWN,
            problem=_UNREACHABLE,
            ages=_A_MOMENT_AGO,
        ),
        shows("Pending", Reason.FOREIGN_UNREACHABLE),
    ),
    Row(
        "a name that stays taken is tried again although its message is not repeated",
        snapshot(
            waiting(home(), Reason.NAME_CONFLICT, "other words"), unrelated(), ages=_A_MOMENT_AGO
        ),
        Decision(retry=True),
    ),
    Row(
        "the status of a mirror is written although a reason was written a moment ago",
        snapshot(_UNREACHABLE_BEFORE, mirror(), ages=_A_MOMENT_AGO),
        shows("Running"),
    ),
)
