"""Detect that files have changed since they were read.

Only metadata is compared, which costs microseconds. The kubelet replaces a symbolic link where a
Secret is mounted, other writers replace or rewrite the file; both change the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

Stamps: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and modification time in ns; zeros for a file that does not exist."""


def stamps(files: Iterable[str | Path]) -> Stamps:
    """Call it before the files are read, so that no change is missed. Links are followed."""
    return tuple(_stamp(str(file)) for file in files)


def unchanged(seen: Stamps) -> bool:
    """Whether no file has changed since `seen`."""
    return all(_stamp(one[0]) == one for one in seen)


def _stamp(file: str) -> tuple[str, int, int, int]:
    try:
        found = Path(file).expanduser().stat()
    except OSError:
        return file, 0, 0, 0
    return file, found.st_ino, found.st_size, found.st_mtime_ns
