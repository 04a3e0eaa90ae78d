"""One run of the harness: its name, its folder, and its cleanup.

The name is `PID-STARTTIME-SUFFIX` of the owning process. It is part of the folder's name, of the
environment of every child process and of the names of control groups, so that a later run can
remove what a dead process left, and never touches what belongs to a running one.

Network namespaces and mounts need no cleanup: they vanish with their processes (`netns.py`).
"""

import contextlib
import dataclasses
import os
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from clusters import cache, errors, processes
from clusters import progress as progresses

CGROUPS = Path("/sys/fs/cgroup")
_PREFIX = "clusters-"
_NAME = re.compile(r"(\d+)-(\d+)-[0-9a-f]+")
_PATIENCE = 60.0


@dataclasses.dataclass(frozen=True)
class Instance:
    """What belongs to one run."""

    name: str
    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of every child: ours, marked."""
        return {**os.environ, processes.MARK: self.name}

    def cgroup(self, cluster: str) -> str:
        """The name of the control group of a cluster's real node."""
        return f"{_PREFIX}{self.name}-{cluster}"

    def remove(self) -> None:
        """Stop running processes, and remove folder and control groups."""
        _clean(self.name, self.folder)


def create() -> Instance:
    """A new instance, after removing what dead processes left."""
    clean_leftovers()
    pid = os.getpid()
    name = f"{pid}-{processes.start_time(pid)}-{secrets.token_hex(2)}"
    folder = _folder(name)
    folder.mkdir(mode=0o700)
    return Instance(name, folder)


def clean_leftovers() -> list[str]:
    """Remove what instances of dead processes left; return their names."""
    with cache.lock("leftovers", progress=progresses.Progress()):
        return _clean_leftovers()


def _clean_leftovers() -> list[str]:
    names = {path.name.removeprefix(_PREFIX) for path in _base().glob(f"{_PREFIX}*")}
    names |= processes.marks()
    if os.geteuid() == 0:
        names |= {
            match.group()
            for path in _cgroups()
            if (match := _NAME.match(path.name.removeprefix(_PREFIX))) is not None
        }
    dead = sorted(name for name in names if _NAME.fullmatch(name) and not _owned(name))
    for name in dead:
        _clean(name, _folder(name))
    return dead


def remains(name: str) -> list[str]:
    """What of an instance can still be found on this machine."""
    found = [f"process {pid}" for pid in processes.marked(name)]
    found += [f"folder {_folder(name)}"] if _folder(name).exists() else []
    found += [f"control group {path}" for path in _cgroups(name)]
    mounts = Path("/proc/self/mounts").read_text()
    found += [f"mount {line.split()[1]}" for line in mounts.splitlines() if name in line]
    return found


def _owned(name: str) -> bool:
    pid, started, _ = name.split("-")
    return processes.start_time(int(pid)) == int(started)


def _base() -> Path:
    return Path(tempfile.gettempdir())


def _folder(name: str) -> Path:
    return _base() / f"{_PREFIX}{name}"


def _cgroups(name: str = "") -> list[Path]:
    """Those of an instance, or of all: of each hierarchy, but none below, which come and go."""
    if not CGROUPS.exists():
        return []
    places = [CGROUPS, *(path for path in CGROUPS.iterdir() if path.is_dir())]
    return sorted(
        {found for place in places for found in place.glob(f"{_PREFIX}{name}*-*") if found.is_dir()}
    )


def _clean(name: str, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while living := processes.marked(name):
        for pid in living:
            with contextlib.suppress(ProcessLookupError):  # it has exited in the meantime
                os.kill(pid, signal.SIGKILL)
        _in_time(deadline, f"processes {living} of harness instance {name} do not exit")
    for group in _cgroups(name):
        while group.exists() and not _removed(group):
            _in_time(deadline, f"control group {group} cannot be removed")
    if folder.exists():
        shutil.rmtree(folder)


def _removed(group: Path) -> bool:
    """Remove a control group and those below it; False while processes still leave it."""
    try:
        for path, _, _ in os.walk(group, topdown=False):
            Path(path).rmdir()
    except OSError:  # busy for the moment that its last process takes to die
        return False
    return True


def _in_time(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        raise errors.HarnessError(f"{problem} after {_PATIENCE:.0f} s; remove it by hand")
    time.sleep(0.05)
