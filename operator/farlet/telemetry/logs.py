"""One stream of log records on stderr, ours and those of the libraries, without tokens.

Ours come from `structlog.get_logger()`, the libraries' from `logging`; both go through the same
processors, so that a reader meets one format. JSON lines unless stderr is a terminal.

Three things keep tokens and bodies out: client libraries are held at INFO whatever was asked
(kubernetes_asyncio prints whole bodies at DEBUG); of what Kopf attaches to records only the name
of the object is kept; and whatever still looks like a token in a finished line is struck out.
Tracebacks are plain: the formatters that show local variables would show tokens.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from farlet import redaction
from farlet.settings import LogFormat, LogLevel

CAPPED = ("kubernetes_asyncio", "aiohttp", "urllib3", "asyncio")
"""Loggers that never write below INFO. Their children follow, none has a level of its own."""

QUIET = ("asyncssh",)
"""Loggers that tell at INFO of every connection of a pod, and write only warnings here."""

KOPF_OBJECTS = "kopf.objects"
"""The logger of Kopf that speaks about single objects; one level quieter than the rest."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


def configure(level: LogLevel, style: LogFormat, *, stream: TextIO | None = None) -> None:
    """Set up structlog and `logging` for this process, replacing what others had set up.

    To be called by the composition root, and again after Kopf's command line configured its own.
    `stream` is stderr unless given.
    """
    out = sys.stderr if stream is None else stream
    text = style is LogFormat.TEXT or (style is LogFormat.AUTO and out.isatty())
    lowest = _LEVELS[level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _name_object],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_text(colors=out.isatty()) if text else _json()),
                _redact,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(lowest)
    for name in CAPPED:
        capped = logging.getLogger(name)
        capped.setLevel(max(lowest, logging.INFO))
        # Kopf's command line silences some of these with a handler of its own.
        capped.handlers.clear()
        capped.propagate = True
    for name in QUIET:
        logging.getLogger(name).setLevel(max(lowest, logging.WARNING))
    # It says "succeeded" at INFO for every event of every pod, and prints whole pods at DEBUG.
    logging.getLogger(KOPF_OBJECTS).setLevel(
        logging.INFO if lowest < logging.INFO else max(lowest, logging.WARNING)
    )


def _text(*, colors: bool) -> list[structlog.typing.Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _json() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_dump),
    ]


def _dump(event: MutableMapping[str, object], **_options: object) -> str:
    # Where a line begins is what people read first. Values that JSON lacks become their text.
    first = {key: event.pop(key) for key in ("timestamp", "level", "message") if key in event}
    return json.dumps(first | dict(event), default=str, separators=(",", ":"))


def _name_object(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the name and uid of the object that Kopf attached to a record into the event."""
    ref = getattr(event.get("_record"), "k8s_ref", None)
    if isinstance(ref, Mapping):
        key = str(ref.get("kind", "object")).lower()
        event[key] = "/".join(str(ref[k]) for k in ("namespace", "name") if ref.get(k))
        if "uid" in ref:
            event["uid"] = ref["uid"]
    return event


def _redact(_logger: WrappedLogger, _method: str, line: MutableMapping[str, object] | str) -> str:
    """Last of all, on the finished line: strike out whatever has the shape of a token."""
    return redaction.redact(str(line))
