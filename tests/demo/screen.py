"""Output for a terminal: aligned columns, wrapped text, bold only on a terminal."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence

WIDEST = 110


class Screen:
    """Standard output, with the seconds since `begin`."""

    def __init__(self) -> None:
        self._width = min(shutil.get_terminal_size((100, 24)).columns, WIDEST)
        self._bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._begun = time.monotonic()

    def begin(self) -> None:
        """Count the seconds of the following lines from now on."""
        self._begun = time.monotonic()

    def title(self, text: str) -> None:
        self.line(f"\n\033[1m{text}\033[0m" if self._bold else f"\n{text}")

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def text(self, text: str) -> None:
        self.line(textwrap.fill(text, self._width, break_on_hyphens=False))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of equal length; the last column may be wrapped."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
        for row in rows:
            cells = zip(row, widths, strict=False)
            self._wrapped("  " + "".join(f"{cell:<{width}}  " for cell, width in cells), row[-1])

    def moment(self, what: str, state: str, detail: str = "") -> None:
        """Print an event of `what` with its time."""
        seconds = time.monotonic() - self._begun
        self._wrapped(f"  {seconds:5.1f} s  {what:<9} {state:<9} ", detail)

    def act(self, command: str) -> None:
        """Print a command of the demo with its time."""
        seconds = time.monotonic() - self._begun
        self.line(f"  {seconds:5.1f} s  $ {command}")

    def _wrapped(self, head: str, text: str) -> None:
        width = max(self._width - len(head), 30)
        lines = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        self.line(f"{head}{lines[0]}".rstrip())
        for line in lines[1:]:
            self.line(f"{'':<{len(head)}}{line}")
