"""Reads for commands that show the state of a cluster.

A part that cannot be read is a fact, not an error.

Texts from both clusters are untrusted. `clean` makes them fit for a terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from farlet import errors, redaction

T = TypeVar("T")

ANSWER_SECONDS = 10.0

_UNPRINTABLE = dict.fromkeys(
    (
        *(*range(0x20), *range(0x7F, 0xA0), *range(0x200B, 0x2010), *range(0x2028, 0x202F)),
        *(*range(0x2060, 0x2070), 0xFEFF),
    ),
    " ",
)
"""Control characters, on which terminals act, and those that reorder or hide text (Unicode Cf)."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The API server answered that the object does not exist."""


@dataclass(frozen=True, slots=True)
class Unread:
    """It was not read, and why."""

    why: str


ABSENT = Absent()


async def read(answer: Awaitable[T]) -> T | Absent | Unread:
    """The answer to one request, or why there is none."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer
    except errors.NotFound:
        return ABSENT
    except errors.Forbidden:
        return Unread("these credentials are not allowed to read it (403)")
    except errors.Unauthorized:
        return Unread("the API server does not accept these credentials (401)")
    except errors.FarletError as err:
        return Unread(clean(err))
    except TimeoutError:
        return Unread(f"no answer within {ANSWER_SECONDS:g} s")


MOST_CHARS = 1024
"""As in an Event: a message of farlet contains what to do, and no command must be cut."""


def clean(text: object, *, most: int = MOST_CHARS) -> str:
    """One line without credentials and control characters.

    Of more than `most` characters only the first, and how many there were.
    """
    return printable(redaction.message(str(text), limit=most))


def printable(text: str) -> str:
    """One line on which no terminal acts."""
    return " ".join(text.translate(_UNPRINTABLE).split())


def age(seconds: float | None) -> str:
    """As kubectl shows ages: `5s`, `12m`, `3h`, `4d`; `unknown` without a time."""
    if seconds is None:
        return "unknown"
    seconds = max(seconds, 0.0)
    for unit, size, most in (("s", 1, 120), ("m", 60, 120 * 60), ("h", 3600, 48 * 3600)):
        if seconds < most:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86400)}d"
