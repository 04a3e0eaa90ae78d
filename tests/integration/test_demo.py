"""The demo as a new user runs it: its output is correct, it ends, and leaves nothing behind."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from clusters import instance, processes

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

ROOT = Path(__file__).parents[2]


async def _demo() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demo"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'operator'}",
            "COLUMNS": "100",
        },
        start_new_session=True,
    )


def _left(pid: int) -> list[str]:
    """What the harness instances of this process have left on the machine."""
    names = {name for name in processes.marks() if name.startswith(f"{pid}-")}
    names |= {name for name in instance.clean_leftovers() if name.startswith(f"{pid}-")}
    return sorted(names)


async def test_the_demo_shows_what_each_pod_found() -> None:
    demo = await _demo()
    async with asyncio.timeout(600):
        output = (await demo.communicate())[0].decode()
    assert demo.returncode == 0, output
    assert _left(demo.pid) == []

    table = output[output.index("Live, as the home cluster shows it") :]
    for line in (
        r"mistyped +Pending +InvalidAPIServerSupport: ",
        r"guest +Pending +ServiceAccountNotFound: ",
        r"\$ kubectl .* create serviceaccount guest ",
        r"guest +Running +on foreign-real",
    ):
        found = re.search(line, table)
        assert found, f"{line} is not in {table}"
        table = table[found.end() :] if "mistyped" not in line else table
    for line in (
        r"plain +home +https://\S+ +system:serviceaccount:demo:default\n",
        r"remote +foreign +https://10\.96\.0\.1:443 +system:serviceaccount:demo-home:default\n",
        r"disabled +none +- +unable to load in-cluster configuration",
        r"guest +foreign +https://10\.96\.0\.1:443 +system:serviceaccount:demo-home:guest\n",
        r"mistyped +none +- +it never ran",
        r"nothing of them was left on either cluster",
    ):
        assert re.search(line, table), f"{line} is not in {table}"
    assert "eyJ" not in output  # the beginning of every token


@pytest.mark.parametrize(
    "until", ["starting clusters", "Live, as"], ids=["while clusters start", "while pods run"]
)
async def test_the_demo_leaves_nothing_after_an_interrupt(until: str) -> None:
    demo = await _demo()
    assert demo.stdout is not None
    async with asyncio.timeout(600):
        while until not in (line := (await demo.stdout.readline()).decode()):
            assert line, f"the demo ended with {await demo.wait()} before {until!r}"
        await asyncio.sleep(2)  # while it is running
        os.killpg(demo.pid, signal.SIGINT)
        rest = (await demo.stdout.read()).decode()
        assert await demo.wait() == 130, rest
    assert "nothing is left" in rest
    assert "Traceback" not in rest
    assert _left(demo.pid) == []
