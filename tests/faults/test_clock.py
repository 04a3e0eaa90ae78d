"""The clock of campaigns moves the wall clock of a process, and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clusters import processes
from faults.campaign import clock

pytestmark = pytest.mark.clusters

READ = "import time; print(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))"
SLACK_SECONDS = 60.0


@pytest.mark.parametrize("ahead", [0, 7200, -7200])
def test_a_clock_moves_the_wall_clock_only(tmp_path: Path, ahead: int) -> None:
    made = clock.create(tmp_path / "clock")
    made.set(ahead)
    environment = {**os.environ, **made.environment}
    printed = subprocess.check_output([sys.executable, "-c", READ], env=environment, text=True)
    wall, *others = (float(word) for word in printed.split())
    right = [time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)]
    assert wall - time.time() == pytest.approx(ahead, abs=SLACK_SECONDS)
    assert others == pytest.approx(right, abs=SLACK_SECONDS)


def test_timed_waits_are_not_replaced(tmp_path: Path) -> None:
    made = clock.create(tmp_path / "clock")
    library = made.environment["LD_PRELOAD"]
    defined = processes.run(["nm", "--dynamic", "--defined-only", library], what="list symbols")
    assert {line.split()[-1] for line in defined.splitlines()} == {
        "clock_gettime",
        "gettimeofday",
        "time",
    }
