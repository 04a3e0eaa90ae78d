"""Events of mirrors at home: which ones, once, with their counts, and beside everything else."""

from __future__ import annotations

from typing import Any

import pytest

from farlet import errors
from farlet.constants import ObjectKey
from farlet.planning import mirror_events
from farlet.planning.mirror_events import Shown
from farlet.store import Table
from unit.planning import model
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, USER, Harness

SHOWN_SECONDS = 3.0
"""An Event is at home within this time."""


def mirrored(s: Harness, name: str = "web", **how: Any) -> JSON:
    """A pod whose mirror runs."""
    s.create(name, **how)
    s.wait(2.0)
    s.runs(name)
    s.wait(1.0)
    mirror = s.mirror(name)
    assert mirror is not None
    return mirror


def event(
    s: Harness,
    about: JSON,
    name: str = "e1",
    *,
    reason: str = "Unhealthy",
    message: str = "words",
    kind: str = "Warning",
    **more: Any,
) -> JSON:
    """A kubelet writes an Event about a foreign pod."""
    metadata = about["metadata"]
    body = {
        "metadata": {"name": name},
        "involvedObject": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message,
        "type": kind,
        "source": {"component": "kubelet"},
        "count": 1,
        **more,
    }
    return s.foreign_server.create("events", metadata["namespace"], body, by=KUBELET)


def again(s: Harness, count: int, name: str = "e1", namespace: str = FOREIGN) -> None:
    """The kubelet counts a repetition."""
    where = ("events", namespace, name)
    s.foreign_server.patch(where, {"count": count}, by=KUBELET, status=False, strategic=False)


def shown(s: Harness) -> list[JSON]:
    """The Events at home that came from the foreign cluster."""
    return [e for e in s.home_server.all("events") if e["source"]["component"] == "kubelet"]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[ObjectKey]:
    """The keys of the objects that are read from now on."""
    read: list[ObjectKey] = []
    get = Table.get

    def counted(table: Table[Any, Any], key: ObjectKey) -> Any:
        read.append(key)
        return get(table, key)

    monkeypatch.setattr(Table, "get", counted)
    return read


def dropped(s: Harness, kind: str) -> float:
    return float(s.metrics.mirror_events_dropped.labels(kind)._value.get())


def test_an_event_of_a_mirror_is_shown_on_its_home_pod() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        event(s, mirror, involvedFieldPath="x")
        s.wait(SHOWN_SECONDS)
        (found,) = shown(s)
        home = s.pod()
        assert home is not None
        assert found["involvedObject"]["uid"] == home["metadata"]["uid"]
        assert found["metadata"]["namespace"] == HOME
        assert (found["reason"], found["type"], found["count"]) == ("Unhealthy", "Warning", 1)


def test_a_repetition_is_counted_in_the_same_event() -> None:
    with harness.running(shown=Shown.ALL) as s:
        event(s, mirrored(s))
        s.wait(SHOWN_SECONDS)
        for count in (2, 3, 4):
            again(s, count)
            s.wait(0.1)
        s.wait(SHOWN_SECONDS)
        (found,) = shown(s)
        assert found["count"] == 4
        assert len(s.home.requests("PATCH .*/events/")) == 1, "three repetitions in a second"


def test_an_event_that_home_has_deleted_is_created_again_when_it_repeats() -> None:
    with harness.running(shown=Shown.ALL) as s:
        event(s, mirrored(s))
        s.wait(SHOWN_SECONDS)
        (found,) = shown(s)
        s.home_server.delete(("events", HOME, found["metadata"]["name"]), by=USER)
        again(s, 2)
        s.wait(SHOWN_SECONDS)
        (found,) = shown(s)
        assert found["count"] == 2


def test_an_event_before_the_answer_to_the_creation_of_the_mirror_is_shown() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirrored(s, "first")

        def schedule(write: model.Write) -> None:
            if write.where == ("pods", FOREIGN, "web") and write.verb == "create":
                event(s, write.after or {}, "early", reason="Scheduled", kind="Normal")

        s.foreign_server.observers.append(schedule)
        s.create()
        s.wait(SHOWN_SECONDS)
        (found,) = shown(s)
        assert found["message"] == "in the foreign cluster: words"


def test_the_first_pod_of_a_namespace_has_its_events_too() -> None:
    """Its mirror can be created before the list of Events that opens the watch."""
    with harness.running(shown=Shown.ALL) as s:
        done: list[model.Write] = []

        def schedule(write: model.Write) -> None:
            if write.where == ("pods", FOREIGN, "web") and write.verb == "create" and not done:
                done.append(write)
                event(s, write.after or {}, "early", reason="Scheduled", kind="Normal")

        s.foreign_server.observers.append(schedule)
        s.foreign.refusing["GET .*/events"] = s.foreign.silence
        s.create()
        s.wait(1.0)
        assert done
        s.foreign.refusing.clear()
        s.wait(20.0)
        assert [e["reason"] for e in shown(s)] == ["Scheduled"]


def test_a_restart_replays_nothing_and_continues_counting() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        event(s, mirror)
        event(s, mirror, "e2", reason="BackOff", count=7)
        s.wait(SHOWN_SECONDS)
        assert len(shown(s)) == 2
        s.kill()
        again(s, 8, "e2")
        s.start()
        s.home.received.clear()
        s.wait(60.0)
        assert s.home.requests("/events") == []
        again(s, 9, "e2")
        event(s, mirror, "e3", reason="Killing", kind="Normal")
        s.wait(SHOWN_SECONDS)
        counts = {e["reason"]: e["count"] for e in shown(s)}
        assert counts == {"Unhealthy": 1, "BackOff": 9, "Killing": 1}


def test_events_of_a_gap_are_shown_once_when_the_watch_is_open_again() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        event(s, mirror)
        s.wait(SHOWN_SECONDS)
        s.foreign.down = True
        s.foreign.break_watches()
        s.wait(10.0)
        event(s, mirror, "e2", reason="BackOff")
        s.foreign_server.compact()
        s.foreign.down = False
        s.home.received.clear()
        s.wait(60.0)
        assert [e["reason"] for e in shown(s)] == ["Unhealthy", "BackOff"]
        assert len(s.home.requests("/events")) == 1


@pytest.mark.parametrize("by", ["another pod", "another uid", "a pod without a home pod"])
def test_events_about_others_are_not_shown(by: str) -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        about = model.clone(mirror)
        if by == "another uid":
            about["metadata"]["uid"] = "forged"
        else:
            name = {"another pod": "second", "a pod without a home pod": "stranger"}[by]
            if by == "another pod":
                s.create(name, namespace="second")
            body = {"metadata": {"name": name}, "spec": {}}
            about = s.foreign_server.create("pods", FOREIGN, body, by=USER)
        event(s, about)
        s.wait(SHOWN_SECONDS)
        assert shown(s) == []


def test_events_about_an_unrelated_pod_of_the_same_name_are_not_shown() -> None:
    with harness.running(shown=Shown.ALL) as s:
        body = {"metadata": {"name": "web"}, "spec": {}}
        stranger = s.foreign_server.create("pods", FOREIGN, body, by=USER)
        s.create()
        s.wait(2.0)
        assert s.reason() == "NameConflict"
        event(s, stranger)
        s.wait(SHOWN_SECONDS)
        assert shown(s) == []


def test_events_of_the_mirror_of_an_earlier_pod_are_not_shown() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        s.kill()
        s.delete(grace=0)
        s.create()
        s.foreign.refusing["DELETE"] = s.foreign.silence
        s.start()
        s.wait(2.0)
        event(s, mirror)
        s.wait(SHOWN_SECONDS)
        assert s.mirror() is not None
        assert shown(s) == []


def test_events_with_forged_uids_do_not_delay_others() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        for n in range(2000):
            forged = model.clone(mirror)
            forged["metadata"]["uid"] = f"forged-{n}"
            event(s, forged, f"f{n}", kind="Normal")
        event(s, mirror, kind="Normal")
        s.wait(SHOWN_SECONDS)
        assert len(shown(s)) == 1


@pytest.mark.parametrize(
    ("more", "about"),
    [
        pytest.param({}, None, id="an Event beyond the allowance does not read a pod"),
        pytest.param({}, "forged", id="an Event about another uid does not read a pod"),
        pytest.param({"reason": "-"}, None, id="an Event of no valid reason does not read a pod"),
    ],
)
def test_events_that_will_not_be_shown_read_no_pod(
    more: JSON, about: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        for n in range(mirror_events.POD_BURST):
            event(s, mirror, f"e{n}")
        s.wait(SHOWN_SECONDS)
        assert len(shown(s)) == mirror_events.POD_BURST
        if about is not None:
            mirror["metadata"]["uid"] = about
        read = reads(monkeypatch)
        for n in range(100):
            event(s, mirror, f"more-{n}", **more)
        s.wait(0.1)
        assert read == []


def test_further_events_of_a_mirror_read_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        event(s, mirror)
        s.wait(SHOWN_SECONDS)
        read = reads(monkeypatch)
        for n in range(10):
            event(s, mirror, f"more-{n}")
        s.wait(SHOWN_SECONDS)
        assert len(shown(s)) == 11
        assert read == []


def test_made_up_uids_about_a_pod_without_a_mirror_leave_others_their_events() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s, "other")
        s.foreign.refusing["POST .*/pods"] = s.foreign.silence
        s.create()
        s.wait(1.0)
        assert s.mirror() is None
        s.busy = True
        about = model.clone(mirror)
        about["metadata"]["name"] = "web"
        for n in range(200):
            about["metadata"]["uid"] = f"made-up-{n}"
            event(s, about, f"f{n}")
        s.wait(0.1)
        assert dropped(s, "Warning") == 200 - mirror_events.POD_BURST
        s.busy = False
        event(s, mirror)
        s.wait(SHOWN_SECONDS)
        assert [e["involvedObject"]["name"] for e in shown(s)] == ["other"]


def test_the_last_events_of_a_lost_mirror_are_shown() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s, policy="Never")
        event(s, mirror, reason="Evicted")
        s.remove()
        s.wait(SHOWN_SECONDS)
        assert [e["reason"] for e in shown(s)] == ["Evicted"]


def test_the_last_events_of_a_deleted_pod_are_shown() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        s.delete(grace=1)
        s.wait(0.2)
        event(s, mirror, reason="Killing", kind="Normal")
        s.wait(0.2)
        s.remove()
        s.wait(0.5)
        assert s.pod() is None
        s.wait(SHOWN_SECONDS)
        assert [e["reason"] for e in shown(s)] == ["Killing"]


@pytest.mark.parametrize(
    ("setting", "reasons"),
    [
        pytest.param(Shown.ALL, ["Unhealthy", "Pulled", "Scheduled"], id="all"),
        pytest.param(Shown.WARNINGS, ["Unhealthy", "Scheduled"], id="warnings"),
        pytest.param(Shown.NONE, [], id="none"),
    ],
)
def test_the_setting_selects(setting: Shown, reasons: list[str]) -> None:
    with harness.running(shown=setting) as s:
        mirror = mirrored(s)
        event(s, mirror, "e1")
        event(s, mirror, "e2", reason="Pulled", kind="Normal")
        event(s, mirror, "e3", reason="Scheduled", kind="Normal")
        s.wait(SHOWN_SECONDS)
        assert [e["reason"] for e in shown(s)] == reasons
        assert bool(s.foreign.requests("/events")) is (setting is not Shown.NONE)


def test_without_the_permission_pods_run_and_the_log_says_it_once() -> None:
    with harness.running(shown=Shown.ALL) as s:
        s.foreign.refusing["GET .*/events"] = s.foreign.refusal(
            errors.Forbidden, 403, "cannot list resource events", reason="Forbidden"
        )
        mirrored(s)
        s.wait(3600.0)
        home = s.pod()
        assert home is not None
        assert home["status"]["phase"] == "Running"
        assert s.reason() is None
        lines = [line for line in s.logs if "events of mirrors" in line["event"]]
        assert [line["namespace"] for line in lines] == [FOREIGN]
        assert "offloaded-namespace.yaml" in lines[0]["fix"]
        assert len(s.foreign.requests("GET .*/events")) < 20, "asked every five minutes"


@pytest.mark.thorough
def test_a_storm_is_bounded_and_delays_no_pod() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        for n in range(10_000):
            event(s, mirror, f"storm-{n}", kind="Normal" if n % 2 else "Warning")
        s.wait(SHOWN_SECONDS)
        s.create("other")
        s.wait(0.5)
        assert s.mirror("other") is not None
        s.wait(60.0)
        assert len(shown(s)) == 2 * mirror_events.POD_BURST
        assert dropped(s, "Normal") == dropped(s, "Warning") == 5000 - mirror_events.POD_BURST


def test_a_storm_about_pods_of_others_writes_nothing() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirrored(s)
        body = {"metadata": {"name": "stranger"}, "spec": {}}
        stranger = s.foreign_server.create("pods", FOREIGN, body, by=USER)
        s.home.received.clear()
        for n in range(2000):
            event(s, stranger, f"storm-{n}")
        s.wait(SHOWN_SECONDS)
        assert s.home.received == []
        assert dropped(s, "Normal") == dropped(s, "Warning") == 0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"involvedObject": None}, id="about null"),
        pytest.param({"involvedObject": {"kind": "Pod", "name": 7, "uid": []}}, id="about numbers"),
        pytest.param({"count": "many"}, id="a count in words"),
        pytest.param({"message": {"a": "b"}}, id="a message that is an object"),
        pytest.param({"series": [1]}, id="a series that is a list"),
        pytest.param({"firstTimestamp": 7}, id="a time that is a number"),
        pytest.param({"source": "kubelet"}, id="a source that is a word"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["in the watch", "in the list"])
def test_an_event_of_another_form_is_left_out(changes: JSON, restarted: bool) -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        event(s, mirror, "odd", **changes)
        if restarted:
            s.foreign_server.compact()
            s.foreign.break_watches()
            s.wait(20.0)
        event(s, mirror, "e2")
        s.wait(SHOWN_SECONDS)
        assert [e["reason"] for e in shown(s)] == ["Unhealthy"]


def test_events_wait_while_home_does_not_answer() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        s.home.refusing["/events"] = s.home.silence
        event(s, mirror)
        event(s, mirror, "e2", reason="BackOff")
        s.home.received.clear()
        s.wait(12.0)
        assert 4 <= len(s.home.requests("/events")) <= 20, "with pauses"
        s.home.refusing.clear()
        s.wait(20.0)
        assert {e["reason"] for e in shown(s)} == {"Unhealthy", "BackOff"}
        assert dropped(s, "Warning") == 0


def test_an_event_that_home_rejects_is_counted_and_logged_once() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        s.home.refusing["POST .*/events"] = s.home.refusal(errors.Forbidden, 403, "no")
        for n in range(5):
            event(s, mirror, f"e{n}")
        s.wait(SHOWN_SECONDS)
        assert dropped(s, "Warning") == 5
        lines = [x for x in s.logs if x["event"] == "failed to write mirror event"]
        assert [x["log_level"] for x in lines].count("warning") == 1


def test_events_of_pods_that_end_with_their_namespace_are_no_problem() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirror = mirrored(s)
        s.home_server.terminate_namespace(HOME)
        event(s, mirror, reason="Killing", kind="Normal")
        s.wait(SHOWN_SECONDS)
        assert dropped(s, "Normal") == 1
        (line,) = (x for x in s.logs if x["event"] == "failed to write mirror event")
        assert line["log_level"] == "debug"


def test_few_events_are_written_while_pods_wait() -> None:
    with harness.running(shown=Shown.ALL) as s:
        mirrors = [mirrored(s, f"web-{n}") for n in range(5)]
        s.busy = True
        for n in range(100):
            event(s, mirrors[n % 5], f"e{n}")
        s.home.received.clear()
        s.wait(5.0)
        assert len(s.home.requests("/events")) <= 5 * mirror_events.BUSY_PER_SECOND
        s.busy = False
        s.wait(SHOWN_SECONDS)
        assert len(shown(s)) == 100
