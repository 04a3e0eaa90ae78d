"""How an Event about a mirror looks at home, whatever it looks like in the foreign cluster."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from farlet.constants import JSON
from farlet.forge import mirror_event, timestamps
from farlet.k8s_types import Event
from unit.planning import objects

CREATED = objects.NOW
"""Of the home pod."""
NOW = CREATED + 100
KUBELET: JSON = {
    "metadata": {
        "name": "web.17a",
        "namespace": "default-h",
        "uid": "event-1",
        "creationTimestamp": "2026-01-02T03:04:10Z",
    },
    "involvedObject": {
        "kind": "Pod",
        "namespace": "default-h",
        "name": "web",
        "uid": objects.MIRROR,
        "fieldPath": "spec.containers{main}",
    },
    "reason": "Unhealthy",
    "message": "Readiness probe failed: connection refused",
    "source": {"component": "kubelet", "host": "foreign-1"},
    "firstTimestamp": "2026-01-02T03:04:10Z",
    "lastTimestamp": "2026-01-02T03:04:20Z",
    "count": 3,
    "type": "Warning",
    "eventTime": None,
    "reportingComponent": "kubelet",
    "reportingInstance": "foreign-1",
}
SCHEDULER: JSON = {
    "metadata": {"name": "web.17b", "namespace": "default-h", "uid": "event-2"},
    "involvedObject": {"kind": "Pod", "name": "web", "uid": objects.MIRROR},
    "reason": "Scheduled",
    "message": "Successfully assigned default-h/web to foreign-1",
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "type": "Normal",
    "eventTime": "2026-01-02T03:04:09.123456Z",
    "series": {"count": 4, "lastObservedTime": "2026-01-02T03:04:30.5Z"},
    "action": "Binding",
    "reportingComponent": "default-scheduler",
    "reportingInstance": "default-scheduler-foreign",
}


def seen(event: JSON, **changes: Any) -> mirror_event.Summary:
    found = mirror_event.summary(cast("Event", {**event, **changes}))
    assert found is not None
    return found


def forged(event: JSON, **changes: Any) -> JSON:
    return mirror_event.forge(seen(event, **changes), home(), node="far", now=NOW)


def home(uid: str = objects.HOME) -> mirror_event.HomePod:
    pod = objects.home(uid=uid)
    pod["metadata"]["creationTimestamp"] = objects.STAMP
    return mirror_event.home_pod(pod)


def test_an_event_of_a_kubelet_is_on_the_home_pod() -> None:
    event = forged(KUBELET)
    name = event["metadata"].pop("name")
    assert name.startswith("web.")
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "default"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "default",
            "name": "web",
            "uid": objects.HOME,
            "fieldPath": "spec.containers{main}",
        },
        "reason": "Unhealthy",
        "message": "Readiness probe failed: connection refused",
        "type": "Warning",
        "source": {"component": "kubelet", "host": "far"},
        "reportingComponent": "farlet",
        "reportingInstance": "far",
        "firstTimestamp": "2026-01-02T03:04:10Z",
        "lastTimestamp": "2026-01-02T03:04:20Z",
        "count": 3,
    }


def test_an_event_of_the_scheduler_says_where_the_mirror_runs() -> None:
    event = forged(SCHEDULER)
    assert event["message"] == (
        "in the foreign cluster: Successfully assigned default-h/web to foreign-1"
    )
    assert event["source"]["component"] == "default-scheduler"
    assert event["count"] == 4
    assert event["firstTimestamp"] == "2026-01-02T03:04:09Z"
    assert event["lastTimestamp"] == "2026-01-02T03:04:30Z"
    assert "fieldPath" not in event["involvedObject"]


def test_an_event_about_a_uid_that_no_api_server_creates_is_left_out() -> None:
    """The number of waiting Events is bounded, so the length of each must be bounded too."""
    about = {**KUBELET["involvedObject"], "uid": "u" * 1_000_000}
    assert mirror_event.summary(cast("Event", {**KUBELET, "involvedObject": about})) is None


def test_the_name_belongs_to_one_foreign_event_and_one_home_pod() -> None:
    one, whose, other = seen(KUBELET), home(), home("home-2")
    later = seen(KUBELET, count=9, message="Readiness probe failed: timeout")
    assert mirror_event.name(one, whose) == mirror_event.name(later, whose)
    assert mirror_event.name(one, whose) != mirror_event.name(one, other)
    assert mirror_event.name(one, whose) != mirror_event.name(seen(SCHEDULER), whose)


def test_a_repetition_changes_message_count_and_time() -> None:
    assert mirror_event.repetition(forged(KUBELET)) == {
        "message": "Readiness probe failed: connection refused",
        "lastTimestamp": "2026-01-02T03:04:20Z",
        "count": 3,
    }


@pytest.mark.parametrize(
    ("reason", "foreign"),
    [
        pytest.param("Pulled", False, id="an image was pulled"),
        pytest.param("Unhealthy", False, id="a probe failed"),
        pytest.param("BackOff", False, id="a container is restarted later"),
        pytest.param("Scheduled", True, id="a node was chosen"),
        pytest.param("FailedScheduling", True, id="no node was found"),
        pytest.param("FailedMount", True, id="a volume names a Secret"),
        pytest.param("Failed", True, id="a container names a ConfigMap"),
        pytest.param("Evicted", True, id="a node lacks memory"),
        pytest.param("SomethingNew", True, id="a reason of a later version"),
    ],
)
def test_a_message_says_where_what_it_names_is(reason: str, foreign: bool) -> None:
    message = seen(KUBELET, reason=reason, message="words").message
    assert message == ("in the foreign cluster: words" if foreign else "words")


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        pytest.param({"type": "Fatal"}, "type", "Normal", id="a type that does not exist"),
        pytest.param({"type": ""}, "type", "Normal", id="no type"),
        pytest.param({"count": 10**30}, "count", 2**31 - 1, id="a count of 31 digits"),
        pytest.param({"count": -7}, "count", 1, id="a negative count"),
        pytest.param({"count": 0}, "count", 1, id="no count"),
        pytest.param({"series": {"count": -1}}, "count", 1, id="a series with a negative count"),
        pytest.param(
            {"reason": "A" * 5000}, "reason", "A" * 128, id="a reason of 5,000 characters"
        ),
        pytest.param({"message": ""}, "message", "", id="no message"),
        pytest.param(
            {"message": "\x1b[2Jred\n  Normal  Scheduled"},
            "message",
            "[2Jred   Normal  Scheduled",
            id="control characters and a line that looks like another Event",
        ),
        pytest.param(
            {"message": "Bearer abcdefghijklmnopqrstuvwxyz"},
            "message",
            "Bearer <redacted token>",
            id="a token",
        ),
        pytest.param(
            {"source": {"component": "kubelet\nroot"}}, "component", "", id="a component of lines"
        ),
        pytest.param(
            {"source": {"component": "k" * 64}}, "component", "", id="a component of 64 characters"
        ),
        pytest.param({"source": None}, "component", "kubelet", id="no source"),
        pytest.param({"lastTimestamp": "tomorrow"}, "last", CREATED + 5, id="a time in words"),
        pytest.param(
            {"lastTimestamp": "2026-01-02T03:04:20"}, "last", CREATED + 5, id="a time without zone"
        ),
        pytest.param(
            {"lastTimestamp": "2" * 100_000}, "last", CREATED + 5, id="100,000 digits for a time"
        ),
    ],
)
def test_what_foreign_users_write_is_bounded(changes: JSON, field: str, value: object) -> None:
    assert getattr(seen(KUBELET, **changes), field) == value


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        pytest.param("spec.containers{main}", True, id="a container"),
        pytest.param("spec.initContainers{a-1}", True, id="an init container"),
        pytest.param("spec.ephemeralContainers{debugger-x}", True, id="an ephemeral container"),
        pytest.param("spec.containers{UPPER}", False, id="a name that is not valid"),
        pytest.param("spec.containers{main}\n", False, id="a line after it"),
        pytest.param("metadata.name", False, id="another field"),
        pytest.param("spec.containers{" + "a" * 64 + "}", False, id="64 characters"),
    ],
)
def test_only_containers_are_named_by_a_field_path(path: str, kept: bool) -> None:
    about = {**KUBELET["involvedObject"], "fieldPath": path}
    assert seen(KUBELET, involvedObject=about).field_path == (path if kept else "")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"reason": ""}, id="without a reason"),
        pytest.param({"reason": "\x00\x00"}, id="with a reason of control characters"),
        pytest.param({"reason": "Größe"}, id="with a reason that is not ASCII"),
        pytest.param({"involvedObject": {"kind": "Node", "uid": "x"}}, id="about a Node"),
        pytest.param({"involvedObject": {"kind": "Pod", "name": "web"}}, id="without a uid"),
        pytest.param({"involvedObject": {}}, id="about nothing"),
    ],
)
def test_an_event_is_left_out(changes: JSON) -> None:
    assert mirror_event.summary(cast("Event", {**KUBELET, **changes})) is None


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [
        pytest.param("2026-01-02T03:04:10Z", "2026-01-02T03:04:20Z", (5, 15), id="as they are"),
        pytest.param("2026-01-02T03:04:10Z", "2099-01-01T00:00:00Z", (5, 100), id="in the future"),
        pytest.param("2098-01-01T00:00:00Z", "2099-01-01T00:00:00Z", (100, 100), id="both there"),
        pytest.param("1999-01-01T00:00:00Z", "2026-01-02T03:04:20Z", (0, 15), id="before the pod"),
        pytest.param("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", (5, 5), id="Go's zero time"),
        pytest.param("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", (100, 100), id="in 9999"),
        pytest.param("2026-01-02T03:04:20Z", "2026-01-02T03:04:10Z", (5, 5), id="in reverse"),
        pytest.param(None, None, (5, 5), id="none but that of its creation"),
    ],
)
def test_times_lie_between_the_creation_of_the_pod_and_now(
    first: str | None, last: str | None, shown: tuple[int, int]
) -> None:
    event = forged(KUBELET, firstTimestamp=first, lastTimestamp=last)
    epochs = [timestamps.epoch(event[field]) for field in ("firstTimestamp", "lastTimestamp")]
    assert epochs == [CREATED + seconds for seconds in shown]


@pytest.mark.parametrize("letter", ["a", "ä", "\U0001f600", "\ud800"])
@pytest.mark.parametrize("size", [1_000, 4_000_000])
def test_a_message_of_any_length_fits(letter: str, size: int) -> None:
    began = time.perf_counter()
    event = forged(KUBELET, reason="FailedMount", message=letter * size)
    assert time.perf_counter() - began < 0.5
    assert len(event["message"].encode()) <= 1024
    assert event["message"].startswith("in the foreign cluster: ")
