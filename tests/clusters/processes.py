"""Long-running child processes, each in a process group of its own and ended by its pid.

A pid alone is not a name: it may have been given to another process since. Whatever is signalled
here is either our own unreaped child, or was matched by pid *and* start time.
"""

import contextlib
import dataclasses
import datetime
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from clusters import errors

MARK = "CLUSTERS_INSTANCE"  # in the environment of every child: whose it is
_TAIL = 25
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FOREVER = ("/bin/sh", "-c", 'while true; do "$@"; sleep 1; done', "restarted")
_WAITS = {"x86_64": {232, 281}, "aarch64": {22}}.get(platform.machine(), set())
"""epoll_wait and epoll_pwait."""


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a process and its living and reaped children have used."""

    rss_bytes: int
    cpu_seconds: float


class Process:
    """One program that can be started, stopped, killed, paused and started again.

    Its output is appended to one log file over all its runs. With `restarted`, it is started again
    a second after each end, as a kubelet does with the components of a control plane: a
    kube-controller-manager ends if the API server does not answer while it starts.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str],
        restarted: bool = False,
    ) -> None:
        self.name = name
        self.command = [*(_FOREVER if restarted else ()), *(str(word) for word in command)]
        self.log = log
        self.environment = dict(environment)
        """Of the next start."""
        self._child: subprocess.Popen[bytes] | None = None
        self._printed_before = 0
        self._over = True  # the last life and its whole group have been ended by us
        self.starts: list[datetime.datetime] = []

    @property
    def pid(self) -> int:
        """The pid of the living process."""
        if self._child is None:
            raise errors.HarnessError(f"{self.name} is not running; call start() first")
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last run; None while it runs or before the first start."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        if self.alive:
            raise errors.HarnessError(f"{self.name} already runs as pid {self.pid}; stop it first")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._printed_before = output.tell()
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )
        self._over = False
        self.starts.append(datetime.datetime.now(datetime.UTC))

    def stop(self, *, grace: float = 10.0) -> None:
        """SIGTERM, and SIGKILL once `grace` seconds have passed."""
        if self._child is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if not _ends(self._child, grace):
            self.signal(signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is None:
            return
        self.signal(signal.SIGKILL)
        self._reap()

    def pause(self) -> None:
        """SIGSTOP: connections stay open without responses."""
        self.signal(signal.SIGSTOP)

    def pause_while_waiting(self) -> None:
        """SIGSTOP at a moment when its main thread waits for events.

        A process that is stopped at any moment may have decided to send and not have called the
        kernel yet. It sends that when it is resumed, whatever it checks before.
        """
        for _ in range(200):
            self.pause()
            if _stopped_in_syscall(self.pid) in _WAITS:
                return
            self.resume()
            time.sleep(0.005)
        raise errors.HarnessError(f"{self.name} was never stopped while it waited for events")

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and its group."""
        if self.alive:
            os.killpg(self.pid, number)

    def wait(self, *, seconds: float) -> int:
        """The exit code, once it has exited."""
        if self._child is None or not _ends(self._child, seconds):
            raise errors.HarnessError(
                f"{self.name} did not end within {seconds:.0f} s{self.tail()}"
            )
        return self._child.returncode

    def usage(self) -> Usage:
        """Resident memory and CPU time, threads and all descendants included."""
        return usage(self.pid)

    def output(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def has_printed(self) -> bool:
        """Whether its present life has printed anything: forwarders do once they listen."""
        return self.log.exists() and self.log.stat().st_size > self._printed_before

    def tail(self) -> str:
        """The end of its log, as a paragraph for an error message."""
        last = "\n".join(self.output().splitlines()[-_TAIL:])
        return f"\n--- end of {self.log} ---\n{last}\n---"

    def _reap(self) -> None:
        if self._child is not None and not self._over:
            self._over = True  # never signal this number again: it may become another's
            self._child.wait()
            with contextlib.suppress(ProcessLookupError):  # the group is empty: as it should be
                os.killpg(self._child.pid, signal.SIGKILL)


def wait_for(
    what: str,
    ready: Callable[[], bool],
    *,
    seconds: float,
    process: Process | None = None,
    interval: float = 0.05,
) -> None:
    """Return once `ready()` holds; an error when time is up or `process` ends before."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process is not None and not process.alive:
            raise errors.HarnessError(
                f"{process.name} ended with {process.exit_code} while waiting for {what}"
                f"{process.tail()}"
            )
        if time.monotonic() > deadline:
            tail = process.tail() if process is not None else ""
            raise errors.HarnessError(f"timeout after {seconds:.0f} s waiting for {what}{tail}")
        time.sleep(interval)


def run(command: Sequence[str | Path], *, what: str, content: str | None = None) -> str:
    """The output of a short command; an error with `what` failed and why."""
    answer = subprocess.run(
        [str(word) for word in command], input=content, capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise errors.HarnessError(
            f"cannot {what}: `{' '.join(map(str, command))}` ended with {answer.returncode}: "
            f"{(answer.stderr or answer.stdout).strip()[-2000:]}"
        )
    return answer.stdout


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since boot; None when it is gone or a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def marked(instance: str) -> list[int]:
    """All living processes started by the harness instance of that name."""
    wanted = f"{MARK}={instance}".encode()
    return [
        pid
        for pid, environment in _environments()
        if wanted in environment.split(b"\0") and start_time(pid) is not None
    ]


def marks() -> set[str]:
    """The names of all harness instances that have living processes."""
    prefix = f"{MARK}=".encode()
    return {
        word[len(prefix) :].decode()
        for _, environment in _environments()
        for word in environment.split(b"\0")
        if word.startswith(prefix)
    }


def usage(pid: int) -> Usage:
    """What the process tree under `pid` uses."""
    fields = _stat(pid)
    if fields is None:
        raise errors.HarnessError(f"process {pid} is gone: its usage cannot be read")
    below = [usage(child) for child in children(pid) if start_time(child) is not None]
    # utime, stime and those of reaped children; threads are part of their process
    ticks = sum(int(value) for value in fields[11:15])
    return Usage(
        rss_bytes=int(fields[21]) * _PAGE + sum(one.rss_bytes for one in below),
        cpu_seconds=ticks / _TICKS + sum(one.cpu_seconds for one in below),
    )


def control_groups() -> Iterator[str]:
    """The control groups of each process of this machine, as in `/proc/PID/cgroup`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # gone meanwhile
                yield (entry / "cgroup").read_text()


def peak_bytes(pid: int) -> int:
    """The most resident memory that a process has used.

    `ru_maxrss` says something else: a process inherits it from the one that started it.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise errors.HarnessError(f"/proc/{pid}/status has no VmHWM: its peak cannot be read")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return content.rpartition(")")[2].split()


def _environments() -> list[tuple[int, bytes]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # gone meanwhile, or of another user: not ours
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                found.append((int(entry.name), (entry / "environ").read_bytes()))
    return found


def _stopped_in_syscall(pid: int) -> int | None:
    """The number of the system call in which a process was stopped; None if it was computing."""
    while (where := Path(f"/proc/{pid}/syscall").read_text().split()[0]) == "running":
        time.sleep(0.001)  # the signal is on its way
    return None if where == "-1" else int(where)


def _ends(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
