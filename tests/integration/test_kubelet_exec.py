"""kubectl exec, attach and cp on a pod of the virtual node with a real container."""

import hashlib
import os
from pathlib import Path

import pytest

from clusters import rest
from clusters.kubectl import SPDY
from integration import realpods, streaming
from integration.streaming import Far

pytestmark = [pytest.mark.clusters, pytest.mark.core]

MIB = 1 << 20
SHELL = ("bash", "--norc", "--noediting")  # echoed by the terminal, not by the shell


@pytest.mark.parametrize("environment", [{}, SPDY], ids=["WebSocket", "SPDY"])
async def test_exec_returns_output_errors_and_exit_codes(
    far: Far, environment: dict[str, str]
) -> None:
    await far.pod("web")
    kubectl = far.kubectl(**environment)
    done = await kubectl.run("exec", "web", "--", "bash", "-c", "echo out; echo err >&2; exit 3")
    assert (done.code, done.out) == (3, b"out\n"), done.err
    assert done.err.startswith("err\n")
    said = await kubectl.run("exec", "web", "--", "printf", "%s|", "a b", "c&d;e", "ö", "", "$x")
    assert (said.code, said.out.decode()) == (0, "a b|c&d;e|ö||$x|")
    killed = await kubectl.run("exec", "web", "--", "bash", "-c", "kill -9 $$")
    assert killed.code == 137
    missing = await kubectl.run("exec", "web", "--", "no-such-program")
    assert missing.code != 0
    assert "no-such-program" in missing.err


@pytest.mark.parametrize("environment", [{}, SPDY], ids=["WebSocket", "SPDY"])
async def test_64_mib_pass_into_a_container_and_back_unchanged(
    far: Far, environment: dict[str, str]
) -> None:
    await far.pod("web")
    blob = os.urandom(64 * MIB)
    back = await far.kubectl(**environment).run("exec", "-i", "web", "--", "cat", stdin=blob)
    assert back.code == 0, back.err
    assert len(back.out) == len(blob)
    assert hashlib.sha256(back.out).digest() == hashlib.sha256(blob).digest()


async def test_a_terminal_has_and_follows_the_size_of_the_window(far: Far) -> None:
    await far.pod("web")
    async with far.kubectl().on_terminal("exec", "-it", "web", "--", *SHELL) as terminal:
        # kubectl sends the size separately, so the program may start before it arrives.
        terminal.type(_unlike("0 0"))
        await terminal.shows("24 80")
        terminal.resize(rows=50, columns=132)
        terminal.type(_unlike("24 80"))
        await terminal.shows("50 132")
        terminal.type("cat; echo still here\n")
        terminal.type("typed\n")
        await terminal.shows(r"typed[\s\S]*typed")  # the echo, and the output of cat
        terminal.type("\x03")
        # What is typed before the prompt can still be read by the dying cat.
        await terminal.shows(r"\^C\s+bash\S*# ")
        terminal.type("exit 3\n")
    assert terminal.code == 3


async def test_attach_connects_to_the_running_program(far: Far) -> None:
    reader = ("bash", "-c", "while read line; do echo got $line; done; echo ended; sleep infinity")
    await far.pod("web", *reader, containers=[_interactive(*reader)])
    async with far.kubectl().running("attach", "-i", "web", stdin=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        assert await process.stdout.readline() == b"got one\n"
        process.stdin.write(b"two\n")
        assert await process.stdout.readline() == b"got two\n"
        process.stdin.close()  # stdinOnce: the end of our input ends the input of the program
        assert await process.stdout.readline() == b"ended\n"


async def test_files_are_copied_both_ways(far: Far, tmp_path: Path) -> None:
    await far.pod("web")
    (tmp_path / "there" / "below").mkdir(parents=True)
    (tmp_path / "there" / "below" / "data").write_bytes(os.urandom(3 * MIB))
    (tmp_path / "there" / "empty").write_bytes(b"")
    kubectl = far.kubectl()
    there = await kubectl.run("cp", str(tmp_path / "there"), "web:/tmp/copied")
    assert there.code == 0, there.err
    back = await kubectl.run("cp", "web:/tmp/copied", str(tmp_path / "back"))
    assert back.code == 0, back.err
    assert _tree(tmp_path / "back") == _tree(tmp_path / "there")


async def test_errors_have_the_wording_of_a_kubelet(far: Far) -> None:
    await far.pod("web", containers=[_named("main"), _named("other")])
    kubectl = far.kubectl()
    other = await kubectl.run("exec", "web", "-c", "other", "--", "hostname")
    assert (other.code, other.out) == (0, b"web\n")
    none = await kubectl.run("exec", "web", "-c", "none", "--", "hostname")
    assert none.code != 0
    assert "none" in none.err


def _unlike(size: str) -> str:
    """A shell line that prints the size of the terminal after it has changed."""
    return f'while [ "$(stty size)" = "{size}" ]; do sleep 0.1; done; stty size\n'


def _interactive(*command: str) -> rest.Object:
    return realpods.container("main", *command, stdin=True, stdinOnce=True)


def _named(name: str) -> rest.Object:
    return realpods.container(name, *streaming.STAYS)


def _tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
