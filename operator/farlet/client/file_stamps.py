"""Whether files are still those that were read.

By their metadata, which costs microseconds: where a Secret is mounted, the kubelet exchanges a
link, and other writers replace or rewrite the file; either shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

Stamps: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and time of change in ns; zeros for one that is not there."""


def stamps(files: Iterable[str | Path]) -> Stamps:
    """Taken before the files are read, so that no change falls between. Links are followed."""
    return tuple(_stamp(str(file)) for file in files)


def unchanged(seen: Stamps) -> bool:
    """Whether every file is the one of which `seen` was taken."""
    return all(_stamp(one[0]) == one for one in seen)


def _stamp(file: str) -> tuple[str, int, int, int]:
    try:
        found = Path(file).expanduser().stat()
    except OSError:
        return file, 0, 0, 0
    return file, found.st_ino, found.st_size, found.st_mtime_ns
