"""The cache for built files between runs.

Everything in the cache is named by a hash of its inputs and moved into place in one step, so an
interrupted build never leaves an incomplete result, and a changed pin never uses an old binary. A
file lock prevents two processes from building the same thing.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from clusters import progress as progresses


def folder() -> Path:
    """The project's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "farlet"


def key(*, texts: Iterable[str], files: Iterable[Path]) -> str:
    """A short name for these inputs."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def lock(name: str, *, progress: progresses.Progress) -> Iterator[None]:
    """Hold the named lock; says so when another process holds it."""
    path = folder() / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for another process that holds {path}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """A new folder beside `target` to build in; always removed at the end.

    The caller holds the lock: what another one left behind here was left by a crash.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(stale)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)
