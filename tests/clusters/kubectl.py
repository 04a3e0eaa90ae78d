"""kubectl as a user runs it: exit codes, binary streams, a terminal, a long-running process."""

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from clusters.cluster import Cluster

SECONDS = 300.0
FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+)")
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
"""The environment of a kubectl that speaks SPDY to the API server, as it did before 1.31."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The exit code and the output of a kubectl."""

    code: int
    out: bytes
    err: str


@dataclasses.dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig and one namespace."""

    program: Path
    kubeconfig: Path
    namespace: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, cluster: Cluster, namespace: str, **environment: str) -> "Kubectl":
        """kubectl of the administrator."""
        return cls(cluster.kubectl_program, cluster.kubeconfig, namespace, environment)

    async def run(self, *arguments: str, stdin: bytes | None = None) -> Result:
        """Run it until it exits."""
        process = await self._start(arguments, stdin=stdin is not None)
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(stdin)
        return Result(process.returncode or 0, out, err.decode())

    @contextlib.asynccontextmanager
    async def running(
        self, *arguments: str, stdin: bool = False
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run it for the duration of the context."""
        process = await self._start(arguments, stdin=stdin)
        try:
            async with asyncio.timeout(SECONDS):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def until_printed(self, pod: str, line: str, *, container: str = "main") -> None:
        """Return once a container has printed a line with this prefix."""
        async with self.running("logs", "-f", pod, "-c", container) as process:
            assert process.stdout is not None
            while printed := await process.stdout.readline():
                if printed.decode().startswith(line):
                    return
        raise AssertionError(f"{container} of {pod} ended without a line {line!r}")

    @contextlib.asynccontextmanager
    async def forwarding(self, *arguments: str) -> AsyncIterator[int]:
        """Run `kubectl port-forward` for the duration of the context; yield the local port."""
        async with self.running("port-forward", *arguments) as process:
            assert process.stdout is not None
            line = await process.stdout.readline()
            found = FORWARDING.search(line)
            if found is None:
                assert process.stderr is not None
                raise AssertionError((line + await process.stderr.read()).decode())
            yield int(found[1])

    @contextlib.asynccontextmanager
    async def on_terminal(self, *arguments: str) -> AsyncIterator["Terminal"]:
        """Run it on its own terminal, until it has ended."""
        ours, its = pty.openpty()
        terminal = Terminal(ours)
        terminal.resize(rows=24, columns=80)
        process = await asyncio.create_subprocess_exec(
            *self._command(arguments),
            stdin=its,
            stdout=its,
            stderr=its,
            env={**os.environ, "TERM": "xterm", **self.environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(its)
        try:
            yield terminal
            await terminal.ends(process)
            terminal.code = process.returncode
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            terminal.close()

    async def _start(
        self, arguments: tuple[str, ...], *, stdin: bool
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command(arguments),
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
            limit=1 << 26,
        )

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        given = [f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]
        return [str(self.program), *given, *arguments]


class Terminal:
    """The user's side of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = asyncio.Event()
        self._seen = b""
        self.code: int | None = None
        """The exit code of the program."""
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._look)

    def type(self, text: str) -> None:
        """Send keystrokes."""
        os.write(self._descriptor, text.encode())

    def resize(self, *, rows: int, columns: int) -> None:
        """Resize the window."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, size)

    async def shows(self, pattern: str, *, seconds: float = 90.0) -> None:
        """Return once a pattern appears in the output after the previous match."""
        wanted = re.compile(pattern.encode())
        try:
            async with asyncio.timeout(seconds):
                while (found := wanted.search(self._seen)) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r}; the terminal shows {self._seen!r}") from None
        self._seen = self._seen[found.end() :]

    async def ends(self, process: asyncio.subprocess.Process, *, seconds: float = 90.0) -> None:
        """Return once the program has ended."""
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            raise AssertionError(f"it runs on; the terminal shows {self._seen!r}") from None

    def close(self) -> None:
        """Close it."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _look(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:  # the program has ended
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._seen += data
        self._changed.set()
