"""The preparation of clusters: what is built for which command, in parallel, and how it ends."""

import io
import subprocess
import threading
import time

import pytest

from clusters import preparation, steps
from clusters import progress as progresses
from clusters.steps import Step


def progress() -> progresses.Progress:
    return progresses.Progress(stream=io.StringIO())


def nothing() -> None:
    pass


def test_lanes_run_at_the_same_time_and_the_last_steps_after_both() -> None:
    both = threading.Barrier(2, timeout=10)
    ran: list[str] = []

    def meet() -> None:
        both.wait()
        ran.append("lane")

    lanes = [[Step("a", meet)], [Step("b", meet)]]
    steps.run(lanes, [Step("last", lambda: ran.append("last"))], progress=progress())
    assert ran == ["lane", "lane", "last"]


def test_lines_say_how_many_steps_are_left() -> None:
    stream = io.StringIO()
    lane = [Step("programs", nothing), Step("packages", nothing)]
    steps.run([lane], [Step("images", nothing)], progress=progresses.Progress(stream=stream))
    told = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert told == [
        "3 steps to prepare, once: programs, packages, images",
        "2 of 3 steps left: packages, images",
        "1 of 3 steps left: images",
    ]


def test_a_single_step_is_counted_as_one() -> None:
    stream = io.StringIO()
    steps.run([[], []], [Step("images", nothing)], progress=progresses.Progress(stream=stream))
    assert stream.getvalue().endswith("1 step to prepare, once: images\n")


def test_without_steps_nothing_is_printed() -> None:
    stream = io.StringIO()
    steps.run([[], []], [], progress=progresses.Progress(stream=stream))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt], ids=["an error", "an interrupt"])
def test_the_first_error_ends_the_commands_of_the_other_lane(error: type[BaseException]) -> None:
    started = threading.Event()
    later: list[str] = []

    def sleep() -> None:
        with subprocess.Popen(["sleep", "60"]) as child:
            started.set()
            assert child.wait() != 0

    def fail() -> None:
        assert started.wait(10)
        raise error

    lanes = [[Step("long", sleep), Step("later", lambda: later.append("ran"))], [Step("bad", fail)]]
    begun = time.monotonic()
    with pytest.raises(error):
        steps.run(lanes, [Step("last", lambda: later.append("last"))], progress=progress())
    assert time.monotonic() - begun < 30
    assert later == []


@pytest.mark.parametrize(
    "unused", ["kubectl", "kwok", "metrics-server"], ids=lambda name: f"not {name}"
)
def test_the_demo_builds_no_more_than_it_uses(unused: str) -> None:
    assert unused in preparation.ALL.programs
    assert unused not in preparation.DEMO.programs


def test_all_has_every_program_of_the_other_kits() -> None:
    assert {*preparation.DEMO.programs, *preparation.PLAIN.programs} <= {*preparation.ALL.programs}
