"""Active deadlines: the seconds that are left for a mirror, whenever it starts."""

from __future__ import annotations

from typing import Any, cast

import pytest

from farlet.forge import applied, timestamps
from farlet.k8s_types import Pod
from farlet.planning import changes
from unit.planning import objects
from unit.planning.changed_pods import due, home, mirror_of, sent
from unit.planning.objects import NOW


@pytest.mark.parametrize(
    ("home_started", "mirror_started", "limit", "seconds"),
    [
        pytest.param(0, 0, None, 600, id="a first mirror"),
        pytest.param(-100, 0, None, 500, id="a mirror that started later"),
        pytest.param(-700, 0, None, 1, id="a deadline that has passed"),
        pytest.param(0, None, None, 600, id="a mirror that has not started"),
        pytest.param(None, 0, None, 600, id="a pod that home does not show as started"),
        pytest.param(0, 0, 400, None, id="a mirror that has less already"),
    ],
)
def test_a_deadline_counts_from_the_start_of_the_home_pod(
    home_started: int | None, mirror_started: int | None, limit: int | None, seconds: int | None
) -> None:
    pod, mirror = home(spec__activeDeadlineSeconds=600), mirror_of(home())
    pod["status"] = cast("Any", _started(home_started))
    mirror["status"] = cast("Any", _started(mirror_started))
    if limit is not None:
        mirror["spec"]["activeDeadlineSeconds"] = limit
    assert sent(pod, mirror) == (
        {} if seconds is None else {"spec": {"activeDeadlineSeconds": seconds}}
    )


def _started(offset: int | None) -> dict[str, Any]:
    stamps = {0: objects.STAMP, -100: "2026-01-02T03:02:25Z", -700: "2026-01-02T02:52:25Z"}
    return {} if offset is None else {"startTime": stamps[offset]}


def _waited(*, bound: float | None, started: float, ahead: float = 0.0) -> tuple[Pod, Any]:
    """H and M, which was created at `NOW`. Seconds after it: when M was bound, and when a kubelet
    started it, whose clock is `ahead`. H shows the start by farlet's clock.
    """
    pod = home(spec__activeDeadlineSeconds=600)
    mirror: Any = mirror_of(pod, metadata__creationTimestamp=timestamps.rfc3339(NOW))
    pod["status"] = {"startTime": timestamps.rfc3339(NOW + 2)}
    mirror["status"] = {"startTime": timestamps.rfc3339(NOW + started + ahead)}
    if bound is not None:
        stamp = timestamps.rfc3339(NOW + bound)
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp}
        mirror["status"]["conditions"] = [condition]
    return pod, mirror


def _corrected(pod: Pod, mirror: Pod, now: float) -> Any:
    action = due(pod, mirror, now=now).update
    return None if action is None else action.body.get("spec")


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "no time of the binding"])
@pytest.mark.parametrize(
    ("waited", "seconds"),
    [
        pytest.param(0, None, id="started at once"),
        pytest.param(5, None, id="started a moment later"),
        pytest.param(100, 500, id="waited for a node"),
        pytest.param(900, 1, id="waited for longer than it may run"),
    ],
)
def test_a_mirror_that_waited_for_its_node_gets_what_is_left_of_the_deadline(
    waited: int, seconds: int | None, bound: bool
) -> None:
    pod, mirror = _waited(bound=waited if bound else None, started=waited)
    body = None if seconds is None else {"activeDeadlineSeconds": seconds}
    assert _corrected(pod, mirror, NOW + waited) == body
    mirror["spec"].update(body or {})
    assert _corrected(pod, mirror, NOW + waited) is None, "once"
    mirror["spec"]["activeDeadlineSeconds"] = 600
    del mirror["status"]["startTime"]
    assert _corrected(pod, mirror, NOW + waited) is None, "no kubelet counts yet"


@pytest.mark.parametrize("later", [4, 400], ids=["at once", "when home's clock has caught up"])
def test_a_node_whose_clock_is_ahead_shortens_no_deadline(later: int) -> None:
    pod, mirror = _waited(bound=3, started=4, ahead=300)
    assert _corrected(pod, mirror, NOW + later) is None
    pod["spec"]["activeDeadlineSeconds"] = 500
    assert _corrected(pod, mirror, NOW + later) == {"activeDeadlineSeconds": 497}


def test_a_start_in_the_future_causes_no_wait() -> None:
    pod, mirror = _waited(bound=None, started=4, ahead=300)
    assert _corrected(pod, mirror, NOW + 4) is None


def test_a_home_cluster_whose_clock_is_ahead_causes_no_wait() -> None:
    pod, mirror = _waited(bound=1, started=1)
    pod["status"] = {"startTime": timestamps.rfc3339(NOW - 300)}
    assert _corrected(pod, mirror, NOW + 4) is None


def test_the_deadline_of_a_mirror_that_waited_does_not_wait_for_a_rejected_change() -> None:
    pod, mirror = _waited(bound=100, started=100)
    pod["metadata"]["labels"] = {"app": "api"}
    both = due(pod, mirror, now=NOW + 100).update
    assert both is not None
    assert both.fields == ("metadata.labels", "spec.activeDeadlineSeconds")
    alone = due(pod, mirror, now=NOW + 100, rejected={both.wanted}).update
    assert alone is not None
    assert alone.fields == ("spec.activeDeadlineSeconds",)
    assert alone.body["spec"] == {"activeDeadlineSeconds": 500}
    assert set(alone.body["metadata"]) == {"uid", "annotations", "resourceVersion"}
    mirror["metadata"]["annotations"] |= alone.body["metadata"]["annotations"]
    record = applied.read(mirror)
    assert record is not None
    assert applied.changed(pod, record) == {"metadata.labels"}
    assert "app" in record.labels
    rejected = {both.wanted, alone.wanted}
    assert due(pod, mirror, now=NOW + 100, rejected=rejected).update is None


@pytest.mark.parametrize(("started", "left"), [(None, 600), (0, 600), (-100, 500), (-700, 1)])
def test_a_further_mirror_gets_what_is_left_of_the_deadline(started: int | None, left: int) -> None:
    pod = home(spec__activeDeadlineSeconds=600)
    pod["status"] = cast("Any", _started(started))
    forged = cast("Any", mirror_of(pod))
    created = changes.with_deadline_left(forged, pod, now=NOW)
    assert created["spec"]["activeDeadlineSeconds"] == left
