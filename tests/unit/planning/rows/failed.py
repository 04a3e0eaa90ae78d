"""Rows: an action has failed; when it is tried again, and what its owner is to know."""

from __future__ import annotations

import dataclasses

from farlet import errors
from farlet.constants import Reason
from farlet.errors import FarletError
from farlet.planning.actions import ConfirmMirrorGone, Decision, ProvideSecret, Step, Wait
from farlet.planning.snapshot import Ages, Failure, Missing, Snapshot
from unit.planning.objects import MIRROR_KEY, STRATEGIES, home, mirror, shown, snapshot, waiting
from unit.planning.rows.row import Row, does, fails, shows


def _refused(message: str, *, at: str = "foreign") -> FarletError:
    return errors.Forbidden(
        cluster=at, request="POST", code=403, status_reason="Forbidden", message=message
    )


def _throttled() -> FarletError:
    err = errors.Throttled(
        cluster="foreign", request="POST", code=429, status_reason="", message="slow down"
    )
    err.retry_after = 7.0
    return err


_LAGS = _refused("no relationship found between node 'far' and this object", at="home")
_QUOTA = _refused("exceeded quota: pods")
_SILENT_HOME = errors.Unreachable(cluster="home", request="PATCH", cause="timed out")
_READER = shown(home(reads_token=True), mirror(access_mode="home"))


def _after(given: Snapshot, step: Step, err: FarletError) -> Snapshot:
    return dataclasses.replace(given, failure=Failure(ConfirmMirrorGone(MIRROR_KEY), step, err))


def _unrefreshed(err: FarletError, *, overdue: bool, step: Step = Step.TOKEN) -> Snapshot:
    secret = ProvideSecret(
        _READER, mirror(access_mode="home"), STRATEGIES["home"], (), None, (), overdue=overdue
    )
    given = snapshot(_READER, mirror(access_mode="home"))
    return dataclasses.replace(given, failure=Failure(secret, step, err))


_NEW_POD = snapshot(home(), Missing.ABSENT, ages=Ages(first_seen=1.0))

ROWS = (
    Row(
        "a refusal by lagging caches is tried again in a moment without a report",
        _after(_NEW_POD, Step.TOKEN, _LAGS),
        does(Wait(0.1)),
    ),
    *(
        Row(
            f"a refusal by lagging caches after {age:g} s is tried again after {pause:g} s",
            _after(snapshot(home(), Missing.ABSENT, ages=Ages(first_seen=age)), Step.TOKEN, _LAGS),
            does(Wait(pause)),
        )
        for age, pause in ((0.004, 0.01), (0.02, 0.02), (0.3, 0.1))
    ),
    Row(
        "a refusal as by lagging caches is reported after ten seconds",
        _after(
            snapshot(home(), Missing.ABSENT, ages=Ages(first_seen=10.0)),
            Step.TOKEN,
            _LAGS,
        ),
        shows("Pending", Reason.TOKEN_REQUEST_FAILED, retry=True),
    ),
    Row(
        "a refusal by lagging caches of a pod whose mirror was created is reported",
        _after(snapshot(_READER, mirror(access_mode="home")), Step.TOKEN, _LAGS),
        fails(Reason.TOKEN_REQUEST_FAILED),
    ),
    Row(
        "a throttled request is not retried before its time",
        _after(_NEW_POD, Step.MIRROR, _throttled()),
        does(Wait(7.0), retry=True),
    ),
    Row(
        "a lost answer of the home API server is not a reason that is shown",
        _after(_NEW_POD, Step.HOME, _SILENT_HOME),
        Decision(retry=True),
    ),
    Row(
        "a refusal of the mirror is the reason why its pod waits",
        _after(_NEW_POD, Step.MIRROR, _QUOTA),
        shows("Pending", Reason.FOREIGN_QUOTA_EXCEEDED, retry=True),
    ),
    Row(
        "a refusal in other words is tried again and not written within a minute",
        _after(
            snapshot(
                waiting(home(), Reason.FOREIGN_QUOTA_EXCEEDED, "before"),
                Missing.ABSENT,
                ages=Ages(reason_written=59.0),
            ),
            Step.MIRROR,
            _QUOTA,
        ),
        Decision(retry=True),
    ),
    *(
        Row(
            f"a refusal is an Event and no status of {text}",
            _after(given, Step.SECRET, _QUOTA),
            fails(Reason.FOREIGN_QUOTA_EXCEEDED),
        )
        for given, text in (
            (snapshot(shown(home(), mirror()), mirror()), "a pod that has its mirror"),
            (snapshot(home(grace=30), Missing.ABSENT), "a terminating pod"),
        )
    ),
    *(
        Row(
            f"a refusal is not reported on {text}",
            _after(snapshot(pod, Missing.ABSENT), Step.MIRROR, _QUOTA),
            Decision(retry=True),
        )
        for pod, text in (
            (home(phase="Succeeded"), "a pod that has finished"),
            (Missing.ABSENT, "a home pod that is gone"),
        )
    ),
    Row(
        "an old token that cannot be replaced is one Event",
        _unrefreshed(_LAGS, overdue=True),
        fails(Reason.TOKEN_REFRESH_FAILED),
    ),
    Row(
        "an old token that a throttled server does not replace is an Event",
        _unrefreshed(_throttled(), overdue=True),
        fails(Reason.TOKEN_REFRESH_FAILED, Wait(7.0)),
    ),
    *(
        Row(
            f"a refusal does not warn of the token's age {text}",
            _unrefreshed(err, overdue=overdue, step=step),
            fails(reason),
        )
        for err, overdue, step, reason, text in (
            (_LAGS, False, Step.TOKEN, Reason.TOKEN_REQUEST_FAILED, "while the old one is young"),
            (_QUOTA, True, Step.SECRET, Reason.FOREIGN_QUOTA_EXCEEDED, "where it was granted"),
        )
    ),
)
