"""A clock of farlet that can be set while it runs, by libfaketime; monotonic time stays right."""

from pathlib import Path

from clusters import packages
from clusters import progress as progresses

_PACKAGE = {"/usr/bin/faketime": "faketime"}
RIGHT = "+0"


def environment(offset: Path) -> dict[str, str]:
    """Variables for a process whose clock is off by what the file says, such as `-600` seconds."""
    packages.ensure(_PACKAGE, progress=progresses.Progress())
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    offset.write_text(RIGHT)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
