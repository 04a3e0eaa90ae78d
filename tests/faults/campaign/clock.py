"""A wall clock of farlet that can be set while it runs; monotonic time stays right.

`clock.c` is preloaded, and reads the offset from a file that is mapped into memory.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from clusters import packages, processes
from clusters import progress as progresses

_SOURCE = Path(__file__).with_suffix(".c")
_SECOND = 10**9


@dataclasses.dataclass(frozen=True)
class Clock:
    """The clock of every process that starts with `environment`."""

    environment: Mapping[str, str]
    _offset: Path

    def set(self, seconds: int) -> None:
        """From now on it is ahead by these seconds; negative: behind."""
        with self._offset.open("r+b") as file:  # never shorter, since it is mapped
            file.write((seconds * _SECOND).to_bytes(8, "little", signed=True))


def create(folder: Path) -> Clock:
    """A clock that is right, with its files in this new folder."""
    packages.ensure(packages.COMPILER, progress=progresses.Progress())
    folder.mkdir()
    library, offset = folder / "clock.so", folder / "offset"
    processes.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, _SOURCE],
        what=f"compile {_SOURCE}",
    )
    offset.write_bytes(bytes(8))
    return Clock({"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(offset)}, offset)
