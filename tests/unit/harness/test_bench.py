"""The parts of `make bench` and `make profile` that need no cluster."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import flamegraph, frozen, mirrorevents, othertree, profile, report, serving, workload
from bench.__main__ import parsed
from bench.counting import Kind, Requests
from bench.floor import Floor
from bench.mirrorevents import Arrived
from bench.recording import Identity, Request, Script
from bench.serving import Run
from bench.variants import FARLET, WITHOUT_EVENTS, Variant
from clusters import errors, instance, kwok, workspace

# --- arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["N=ten"], "'N=ten' is not a number of pods", id="no number"),
        pytest.param(["N=0"], "'N=0' is not a number of pods", id="no pods"),
        pytest.param(["--mode=hom"], "invalid choice: 'hom'", id="no such mode"),
        pytest.param(["--object"], "unrecognized arguments: --object", id="part of a flag"),
        pytest.param(["--turns=0"], "'0' is not a number of at least 1", id="no turn"),
        pytest.param(["--events", "--against=x"], "not allowed with", id="two other sides"),
        pytest.param(["N=5", "objects"], "unrecognized arguments: objects", id="word"),
    ],
)
def test_a_wrong_argument_ends_the_benchmark_with_a_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_arguments_of_one_variant_are_read() -> None:
    found = parsed(["N=40", "--mode=remote", "--objects", "--turns=2", "--no-requests"])
    assert (found.n, found.mode, found.objects, found.events) == (40, "remote", True, False)
    assert (found.turns, found.count_requests, found.against) == (2, False, None)


@pytest.mark.parametrize("parse", [parsed, profile.parsed], ids=["bench", "profile"])
def test_the_help_text_names_each_variant(parse: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--mode", "--objects", "--events", "make "))


# --- pods


@pytest.mark.parametrize(
    ("variant", "annotations", "sources"),
    [
        pytest.param(Variant(), None, [], id="home"),
        pytest.param(Variant("remote"), {"liqo.io/api-server-support": "remote"}, [], id="remote"),
        pytest.param(
            Variant(objects=True), None, ["configMapRef", "secretRef"], id="shared objects"
        ),
    ],
)
def test_pods_ask_for_what_the_variant_says(
    variant: Variant, annotations: dict[str, str] | None, sources: list[str]
) -> None:
    pod = workload.manifest("one", node="other", variant=variant)
    (container,) = pod["spec"]["containers"]
    assert pod["metadata"].get("annotations") == annotations
    assert [key for one in container.get("envFrom", []) for key in one] == sources
    assert pod["spec"]["nodeName"] == "other"


# --- the frozen script of the floor

IDENTITY = Identity("recorded", "uid", "mirror-uid", "token")
POD = "/api/v1/namespaces/bench/pods/recorded"


def request(cluster: str, method: str, path: str, body: bytes | None = b"{}") -> Request:
    return Request(cluster, method, path, body, "application/json", None)


TOKEN = request("home", "POST", "/api/v1/namespaces/bench/serviceaccounts/default/token")
MIRROR = request("foreign", "POST", "/api/v1/namespaces/bench-home/pods")
SECRET = request("foreign", "POST", "/api/v1/namespaces/bench-home/secrets", IDENTITY.secret_token)
COPY = request("foreign", "POST", "/api/v1/namespaces/bench-home/secrets", b"another")
EVENT = request("home", "POST", "/api/v1/namespaces/bench/events")
WAITING = request("home", "PATCH", f"{POD}/status", b"waiting")
RUNNING = request("home", "PATCH", f"{POD}/status", b"running")
FINAL = request("home", "PATCH", f"{POD}/status", b"final")
DELETE_MIRROR = request("foreign", "DELETE", "/api/v1/namespaces/bench-home/pods/recorded")
DELETE = request("home", "DELETE", POD)
GET = request("foreign", "GET", "/api/v1/namespaces/bench-home/pods/recorded")


@pytest.mark.parametrize(
    ("mode", "start", "end", "frozen_start", "frozen_end"),
    [
        pytest.param(
            "home",
            [TOKEN, MIRROR, SECRET, RUNNING],
            [FINAL, DELETE_MIRROR, DELETE],
            [TOKEN, MIRROR, SECRET, RUNNING],
            [FINAL, DELETE_MIRROR, DELETE],
            id="the same requests",
        ),
        pytest.param(
            "home",
            [TOKEN, TOKEN, COPY, WAITING, EVENT, SECRET, MIRROR, COPY, EVENT, RUNNING],
            [EVENT, FINAL, GET, DELETE_MIRROR, GET, DELETE],
            [TOKEN, MIRROR, SECRET, RUNNING],
            [FINAL, DELETE_MIRROR, DELETE],
            id="more requests, in another order",
        ),
        pytest.param(
            "home",
            [TOKEN, MIRROR, SECRET, RUNNING],
            [DELETE_MIRROR, DELETE],
            [TOKEN, MIRROR, SECRET, RUNNING],
            [RUNNING, DELETE_MIRROR, DELETE],
            id="no final status",
        ),
        pytest.param(
            "remote",
            [MIRROR, RUNNING],
            [FINAL, DELETE_MIRROR, DELETE],
            [MIRROR, RUNNING],
            [FINAL, DELETE_MIRROR, DELETE],
            id="remote",
        ),
    ],
)
def test_the_script_of_the_floor_does_not_follow_farlet(
    mode: str,
    start: list[Request],
    end: list[Request],
    frozen_start: list[Request],
    frozen_end: list[Request],
) -> None:
    identity = IDENTITY if mode == "home" else dataclasses.replace(IDENTITY, token="")
    found = frozen.script(Script(identity, start, end), mode=mode)
    assert (found.start, found.end) == (frozen_start, frozen_end)


def test_a_request_that_was_not_recorded_is_named() -> None:
    with pytest.raises(errors.HarnessError, match="no request `mirror`"):
        frozen.script(Script(IDENTITY, [TOKEN, SECRET, RUNNING], []), mode="home")


# --- Events


def event(name: str, reason: str) -> dict[str, Any]:
    return {"involvedObject": {"name": name}, "reason": reason}


def test_only_events_of_a_kubelet_about_these_pods_count_and_each_once() -> None:
    seen = [
        event("pod-1", "Pulled"),
        event("pod-1", "Pulled"),
        event("pod-1", "Scheduled"),
        event("other", "Pulled"),
        event("pod-2", "Started"),
        {"involvedObject": {}, "reason": "Started"},
    ]
    assert mirrorevents.pairs(seen, ["pod-1", "pod-2"]) == {
        ("pod-1", "Pulled"),
        ("pod-2", "Started"),
    }


def test_the_stage_of_the_benchmark_writes_the_events_that_are_counted() -> None:
    (stage,) = yaml.safe_load_all(mirrorevents.STAGES.read_text())
    steps = stage["spec"]["steps"]
    reasons = [step["event"]["reason"] for step in steps if "event" in step]
    assert reasons == ["Pulling", "Pulled", "Created", "Started"]
    assert set(reasons) == mirrorevents.REASONS
    # kwok selects by weight among the stages that match; others of the pod have none.
    others = yaml.safe_load_all(kwok.STAGES.read_text())
    assert stage["spec"]["weight"] > max(one["spec"].get("weight", 0) for one in others)


def test_only_the_side_without_events_does_not_show_them() -> None:
    assert FARLET.shows_events
    assert not WITHOUT_EVENTS.shows_events


# --- another checkout


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(True, {"foreign-system-namespace": "x", "capacity": "y"}, id="present name"),
        pytest.param(
            False,
            {"foreign-system-namespace": None, "foreign-namespace": "x", "capacity": "y"},
            id="former name",
        ),
    ],
)
def test_flags_that_another_version_lacks_have_their_former_names(
    known: bool, expected: dict[str, str | None]
) -> None:
    settings = {"foreign-system-namespace": "x", "capacity": "y"}
    assert othertree.renamed(settings, knows=lambda flag: known) == expected


@pytest.mark.thorough
def test_this_checkout_can_be_measured_against_itself() -> None:
    found = othertree.read(Path(__file__).parents[3], system_namespace="other")
    assert found.side.settings == {"foreign-system-namespace": "other"}
    assert found.system_rules == workspace.shipped_rules("farlet-namespace.yaml")
    assert found.pod_rules == workspace.shipped_rules("offloaded-namespace.yaml")


def test_a_folder_without_farlet_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(errors.HarnessError, match="git worktree add"):
        othertree.read(tmp_path, system_namespace="other")


# --- the table

FLOOR = Floor(10.0, 8.0, 0.2, 0.1, [1.0, 2.0], [0.5])


def run(seconds: float, *, events: Arrived | None = None) -> Run:
    return Run(
        seconds=seconds,
        delete_seconds=12.0,
        created_to_mirror=[1.0],
        running_to_home=[0.25, 0.75],
        created_to_running=[3.0, 4.0],
        deleted_to_gone=[1.0],
        cpu_create=0.4,
        cpu_delete=0.3,
        passes_create=200,
        passes_delete=300,
        rss_before=70.0,
        rss_at_n=90.0,
        rss_after=80.0,
        rss_peak=95.0,
        events=events,
    )


def made(*turns: report.Turn, events: bool = False) -> dict[str, Any]:
    where = {"cpu": "CPU", "cores": 2, "memory_gib": 8, "python": "3", "load_before": 0.0}
    return report.result(100, Variant(events=events), turns, where=where)


def cells(table: str, title: str) -> Sequence[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(title)]
    return [f"{a} {b}" for a, b in zip(*[iter(line[34:].split())] * 2, strict=True)]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        pytest.param(
            "first create to last Running, s",
            ["10.00 (10.00-10.00)", "12.00 (11.00-13.00)", "1.20 (1.10-1.30)"],
            id="creation",
        ),
        pytest.param(
            "first delete to last gone, s",
            ["8.00 (8.00-8.00)", "12.00 (12.00-12.00)", "1.50 (1.50-1.50)"],
            id="deletion",
        ),
        pytest.param(
            "created to Running, s: p50",
            ["2.00 (2.00-2.00)", "4.00 (4.00-4.00)", "2.00 (2.00-2.00)"],
            id="latency",
        ),
        pytest.param("mirror Running to home, s: p50", ["0.75 (0.75-0.75)"], id="status"),
        pytest.param(
            "CPU per pod, create, ms", ["2.00 (2.00-2.00)", "4.00 (4.00-4.00)"], id="CPU, create"
        ),
        pytest.param(
            "CPU per pod, delete, ms", ["1.00 (1.00-1.00)", "3.00 (3.00-3.00)"], id="CPU, delete"
        ),
        pytest.param("passes per pod, create", ["2.00 (2.00-2.00)"], id="passes, create"),
        pytest.param("passes per pod, delete", ["3.00 (3.00-3.00)"], id="passes, delete"),
        pytest.param("RSS after the deletion, MiB", ["80.00 (80.00-80.00)"], id="memory"),
    ],
)
def test_each_row_has_floor_farlet_and_ratio(title: str, expected: list[str]) -> None:
    found = made(report.Turn(FLOOR, {"farlet": run(11.0)}), report.Turn(FLOOR, {"farlet": run(13)}))
    assert cells(report.table(found), title) == expected


def test_rows_of_events_appear_only_where_events_were_measured() -> None:
    shown = Arrived(expected=400, written=400, missing=3, seconds=7.5)
    turn = report.Turn(FLOOR, {"farlet": run(10.0, events=shown), "without Events": run(8.0)})
    with_events = report.table(made(turn, events=True))
    assert cells(with_events, "last Running to last Event, s") == ["7.50 (7.50-7.50)"]
    assert cells(with_events, "Events written by foreign nodes") == ["400.00 (400.00-400.00)"]
    assert cells(with_events, "Events missing at home") == ["3.00 (3.00-3.00)"]
    loss = "farlet, compared with without Events: loss in pods per second, %: 20.00 (20.00-20.00)"
    assert loss in with_events
    alone = report.table(made(report.Turn(FLOOR, {"farlet": run(10.0)})))
    assert "Event" not in alone
    assert "loss" not in alone


def test_losses_are_those_of_each_turn() -> None:
    turns = made(
        report.Turn(FLOOR, {"a": run(10.0), "b": run(5.0)}),
        report.Turn(FLOOR, {"a": run(10.0), "b": run(10.0)}),
    )["turns"]
    assert report.losses(turns) == {"a": [50.0, 0.0]}


def test_requests_of_each_version_are_listed() -> None:
    kind = Kind("home", "create", "serviceaccounts/token")
    counted = Requests(200, {kind: 1.05}, {}, {Kind("home", "create", "events"): 4.0}, {}, {})
    table = report.request_table(report.requests({"old": counted, "new": counted}))
    assert "old: requests per pod (200 pods, from audit logs)" in table
    assert "new: requests per pod (200 pods, from audit logs)" in table
    assert "created to Running: 1.05" in table
    assert "Events: 4.00" in table


def test_passes_are_read_from_the_metrics() -> None:
    line = 'workqueue_work_duration_seconds_count{name="%s"} %s\n'
    text = line % ("events", "7.0") + line % ("pods", "2011.0")
    assert serving.passes(text) == 2011
    assert serving.passes("") == 0


# --- flame graphs


def svg(*frames: tuple[str, int, int, int]) -> str:
    """Frames as inferno writes them: name, depth, first sample, samples."""
    groups = "".join(
        f"<g><title>{name} ({samples} samples, 1.00%)</title>"
        f'<rect y="{52 + 16 * depth}" fg:x="{start}" fg:w="{samples}"/></g>'
        for name, depth, start, samples in frames
    )
    return (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">'
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:fg="http://github.com/jonhoo/inferno">'
        f'<g id="x"/><svg id="frames">{groups}</svg></svg>'
    )


def test_self_time_is_what_called_functions_do_not_use() -> None:
    graph = svg(
        ("b (m.py:9)", 2, 10, 20),
        ("all", 0, 0, 100),
        ("main (m.py:1)", 1, 0, 60),
        ("loop (k.py:1)", 1, 60, 40),
        ("b (m.py:9)", 2, 60, 40),
        ("&lt;listcomp&gt; (m.py:3)", 3, 60, 15),
        ("&lt;listcomp&gt; (m.py:3)", 3, 80, 5),
    )
    found = flamegraph.self_samples(graph)
    assert found == {"main (m.py:1)": 40, "b (m.py:9)": 40, "<listcomp> (m.py:3)": 20}
    assert sum(found.values()) == 100


def test_the_table_has_the_longest_functions_first() -> None:
    found = flamegraph.self_samples(svg(("all", 0, 0, 4), ("a", 1, 0, 3), ("b", 1, 3, 1)))
    assert flamegraph.table(found, count=10, rate=200, most=1).splitlines()[1:] == [
        "  75.0%       1.500  a"
    ]


def test_a_sampler_that_fails_ends_the_profile_with_its_output(tmp_path: Path) -> None:
    program = tmp_path / "py-spy"
    program.write_text("#!/bin/sh\necho Permission Denied; exit 1\n")
    program.chmod(0o755)
    owner = instance.Instance("0-0-test", tmp_path)
    with (
        pytest.raises(errors.HarnessError, match=r"(?s)py-spy.*Permission Denied"),
        profile.sampled(1, tmp_path / "a.svg", py_spy=str(program), owner=owner),
    ):
        pass


def test_an_empty_flame_graph_has_a_table_without_functions() -> None:
    found = flamegraph.self_samples(svg())
    assert len(flamegraph.table(found, count=1, rate=1).splitlines()) == 1
