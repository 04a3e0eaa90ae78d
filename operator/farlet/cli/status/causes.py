"""Each cause once, with all that it affects: many conditions and checks report one 401. Pure."""

from __future__ import annotations

import re

from farlet.cli.status.facts import Problem

PROBLEMS = 50
PLACES = 20

_KNOWN = "\0"
"""In place of a cause; no text from outside contains it (`reading.clean`)."""


class Causes:
    """Texts are added once they are clean, those with one cause before those that join several."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}
        self._left_out: set[str] = set()

    def add(self, place: str, text: str) -> None:
        """`place` is affected by the causes in `text`, which semicolons separate."""
        rest = text
        for cause in sorted(self._places, key=len, reverse=True):
            if cause in rest:
                shortened = _reference(cause).sub(_KNOWN, rest)
                if shortened != rest:
                    self._note(cause, place)
                rest = shortened
        new = [part for part in rest.split("; ") if not part.endswith(_KNOWN)]
        if new:
            self._note("; ".join(new), place)

    def contain(self, text: str) -> bool:
        """Whether this cause was added."""
        return text in self._places

    def problems(self) -> tuple[Problem, ...]:
        """In the order in which they were added."""
        found = [
            Problem(cause, (*places[:PLACES], *_more(len(places) - PLACES)))
            for cause, places in self._places.items()
        ]
        return (*found, *(Problem(text, ()) for text in _more(len(self._left_out))))

    def _note(self, cause: str, place: str) -> None:
        if cause not in self._places and len(self._places) == PROBLEMS:
            self._left_out.add(cause)
            return
        places = self._places.setdefault(cause, [])
        if place not in places:
            places.append(place)


def _more(number: int) -> tuple[str, ...]:
    return (f"and {number} more",) if number > 0 else ()


def _reference(cause: str) -> re.Pattern[str]:
    """The cause as a whole part of a text, or after what it affects: `farlet-a: CAUSE; ...`."""
    return re.compile(rf"(?:^|(?<=: )|(?<=; )){re.escape(cause)}(?=$|; )")
