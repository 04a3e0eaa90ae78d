"""Progress lines for a waiting user.

A one-time build takes minutes; silence for minutes looks like a hang, so a long step prints a line
every `HEARTBEAT` seconds.
"""

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

HEARTBEAT = 20.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """Writes one line per event to a stream; safe to use from several threads."""

    stream: TextIO = dataclasses.field(default_factory=lambda: sys.stderr)
    started: float = dataclasses.field(default_factory=time.monotonic)

    def line(self, text: str) -> None:
        self.stream.write(f"[{time.monotonic() - self.started:6.1f} s] {text}\n")
        self.stream.flush()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print the start of a long step, a line at intervals, and its duration at the end."""
        begun = time.monotonic()
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT):
                self.line(f"{text} ... still running after {time.monotonic() - begun:.0f} s")

        self.line(f"{text} ...")
        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()
        self.line(f"{text}: done in {time.monotonic() - begun:.1f} s")
