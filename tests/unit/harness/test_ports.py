"""Ports for servers that do not listen yet, or not at the moment."""

import os
import subprocess
import sys
from pathlib import Path

from clusters import ports

MANY = 300  # so many that two who drew from the same would meet
GIVE = f"from clusters import ports; print(*ports.free({MANY}), flush=True); input()"


def test_no_port_is_given_twice_in_a_row() -> None:
    given = [port for _ in range(50) for port in ports.free(2)]
    assert len(set(given)) == len(given)


def test_processes_that_live_at_the_same_time_are_given_different_ports() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(ports.__file__).parents[1])}
    others = [
        subprocess.Popen(
            [sys.executable, "-c", GIVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    given = [ports.free(MANY)]
    for other in others:
        assert other.stdout is not None
        given.append([int(word) for word in other.stdout.readline().split()])
    for other in others:
        other.communicate("")
    assert len({port for each in given for port in each}) == 3 * MANY
