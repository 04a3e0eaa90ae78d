"""Bounds what outsiders can make farlet log: repeated lines are counted, and no request is quoted.

A caller without permissions can cause thousands of equal lines a second, and the servers of aiohttp
and asyncio log a traceback with the request for each malformed one. Lines below INFO are written
without a limit: an administrator has asked for them.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TextIO

import structlog
from aiohttp.http_exceptions import HttpProcessingError

LINES = 20
"""Lines of one `_Kind` that are written in `WINDOW_SECONDS`."""
WINDOW_SECONDS = 60.0
KINDS = 1024
"""Kinds of lines that are counted at the same time."""

OMITTED = "log lines omitted"
"""The event that reports how many lines of a kind were not written."""

_EVENT_CHARS = 200
_OF_A_TRANSPORT = ("\nprotocol: ", "\ntransport: ", "\nsocket: ")
"""In what asyncio logs about one connection, as opposed to a task that failed."""


class _Kind(NamedTuple):
    logger: str
    level: int
    event: str
    pod: str
    """Lines about different pods are different lines."""


@dataclass(slots=True)
class _Window:
    began: float
    written: int = 0
    omitted: int = 0


class BudgetedHandler(logging.StreamHandler[TextIO]):
    """Writes records to a stream; of one kind no more than `LINES` in `WINDOW_SECONDS`."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._windows: OrderedDict[_Kind, _Window] = OrderedDict()
        """By kind, the oldest window first."""
        self._counting = threading.Lock()  # Kopf logs in a thread of its own

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record, or count it."""
        if record.levelno < logging.INFO:
            return super().handle(record)
        _strip_request(record)
        kind = _kind(record)
        with self._counting:
            ended = self._ended(kind)
            fits = kind.event == OMITTED or self._count(kind, record)
        _report(ended)
        return super().handle(record) if fits else False

    def close(self) -> None:
        """Report what is still counted; `logging.shutdown` calls this at the end of the process."""
        with self._counting:
            ended = [*self._windows.items()]
            self._windows.clear()
        _report(ended)
        super().close()

    def _ended(self, kind: _Kind) -> list[tuple[_Kind, _Window]]:
        """The windows that are over, or make space for that of `kind`."""
        ended = []
        full = kind not in self._windows and len(self._windows) >= KINDS
        while self._windows:
            oldest, window = next(iter(self._windows.items()))
            if not full and self._clock() - window.began < WINDOW_SECONDS:
                break
            full = False
            ended.append((oldest, self._windows.pop(oldest)))
        return ended

    def _count(self, kind: _Kind, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(self._clock())
        if window.written == LINES:
            window.omitted += 1
            return False
        window.written += 1
        record.budget_used_up = window.written == LINES
        return True


def note_omission(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Processor: the last line that is written for now says so."""
    if getattr(event.get("_record"), "budget_used_up", False):
        event["further"] = f"lines like this are counted, not written, for {WINDOW_SECONDS:g} s"
    return event


def _kind(record: logging.LogRecord) -> _Kind:
    # Of structlog the message is a dict; of a library it is the template, without its arguments.
    keys = record.msg if isinstance(record.msg, dict) else {"event": record.msg}
    event, pod = str(keys.get("event"))[:_EVENT_CHARS], str(keys.get("pod", ""))[:_EVENT_CHARS]
    return _Kind(record.name, record.levelno, event, pod)


def _report(windows: list[tuple[_Kind, _Window]]) -> None:
    for kind, window in windows:
        if window.omitted:
            about = {"pod": kind.pod} if kind.pod else {}
            structlog.get_logger().log(
                kind.level, OMITTED, lines=kind.event, count=window.omitted, **about
            )


def _strip_request(record: logging.LogRecord) -> None:
    """Name the kind of an error that a peer of a server has caused, and nothing else of it."""
    error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
    if record.name == "aiohttp.server" and isinstance(error, HttpProcessingError | OSError):
        text = "invalid HTTP request"
    elif record.name == "asyncio" and isinstance(error, OSError):
        first, *rest = record.getMessage().partition("\n")
        if not "".join(rest).startswith(_OF_A_TRANSPORT):
            return
        text = first
    else:
        return
    record.msg, record.args = f"{text} ({type(error).__name__})", None
    record.exc_info = record.exc_text = None
