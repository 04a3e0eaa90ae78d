"""Configures logging: one stream of records on stderr, farlet's and the libraries', without tokens.

farlet logs with `structlog.get_logger()`, libraries with `logging`. Both pass through the same
processors and have one format: JSON lines, or text if stderr is a terminal.

Every value is cut, and repeated lines are counted (`log_budget`), since callers and tenants can
cause them.

Three measures keep tokens and bodies out of the log. Client libraries never log below INFO
(kubernetes_asyncio prints whole bodies at DEBUG). Of the object that Kopf attaches to a record only
the name and uid are kept. Finally, every part of a finished line that looks like a token is
redacted. Tracebacks are plain, since formatters that print local variables would print tokens.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from farlet import redaction
from farlet.settings import LogFormat, LogLevel
from farlet.telemetry import log_budget

VALUE_CHARS = 2048
"""Limit of each value in a line; the rest is cut off."""
TRACEBACK_CHARS = 16 * 1024

_JSON_VALUES = (str, int, float, bool, type(None), dict, list, tuple)

CAPPED = ("kubernetes_asyncio", "aiohttp", "urllib3", "asyncio")
"""Loggers that never write below INFO. Their children inherit that; none sets its own level."""

QUIET = ("asyncssh",)
"""Loggers limited to warnings, since they log every connection of a pod at INFO."""

KOPF_OBJECTS = "kopf.objects"
"""Kopf's logger for single objects. At INFO it logs "succeeded" for every event of every pod, at
DEBUG whole pods."""

KOPF_ACTIVITIES = "kopf.activities"
"""Kopf's logger for its start and stop. At INFO it logs only that a handler has returned."""

KOPF_TASKS = "kopf._core.reactor"
"""Kopf's loggers for its own tasks. Each task that ends with an error logs it with a traceback."""

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


def configure(level: LogLevel, style: LogFormat, *, stream: TextIO | None = None) -> None:
    """Set up structlog and `logging` for this process, replacing any earlier configuration.

    Called by the composition root, and again after Kopf's command line configured its own logging.
    `stream` defaults to stderr.
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
    handler = log_budget.BudgetedHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *shared,
                structlog.stdlib.add_logger_name,
                _name_object,
                _drop_expected_traceback,
            ],
            processors=[
                log_budget.note_omission,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _cut,
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
        # Kopf's command line silences some of these with its own handler.
        capped.handlers.clear()
        capped.propagate = True
    for name in QUIET:
        logging.getLogger(name).setLevel(max(lowest, logging.WARNING))
    debug = lowest < logging.INFO
    for name, shown in ((KOPF_OBJECTS, logging.INFO), (KOPF_ACTIVITIES, logging.DEBUG)):
        logging.getLogger(name).setLevel(shown if debug else max(lowest, logging.WARNING))


def silence() -> None:
    """For commands that print all that the log would say."""
    configure(LogLevel.ERROR, LogFormat.TEXT, stream=io.StringIO())


def _text(*, colors: bool) -> list[structlog.typing.Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _json() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_dump),
    ]


def _dump(event: MutableMapping[str, object], **_options: object) -> str:
    # People read the start of a line first. Values without a JSON type are logged as text.
    first = {key: event.pop(key) for key in ("timestamp", "level", "message") if key in event}
    return json.dumps(first | dict(event), default=str, separators=(",", ":"))


def _name_object(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the name and uid of the object that Kopf attached to a record."""
    ref = getattr(event.get("_record"), "k8s_ref", None)
    if isinstance(ref, Mapping):
        key = str(ref.get("kind", "object")).lower()
        event[key] = "/".join(str(ref[k]) for k in ("namespace", "name") if ref.get(k))
        if "uid" in ref:
            event["uid"] = ref["uid"]
    return event


def _drop_expected_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep only the message where a task of Kopf ended because a request failed.

    For example a watch that is answered with 410 ends two tasks one after the other, and with them
    Kopf; `KopfThread` logs why and starts it again. Any other error is a bug.
    """
    error = (event.get("exc_info") or (None, None))[1]
    failed = type(error).__module__.startswith(("aiohttp.", "kopf._cogs.clients."))
    if failed and str(event.get("logger", "")).startswith(KOPF_TASKS):
        del event["exc_info"]
    return event


def _cut(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if not isinstance(value, _JSON_VALUES):
            event[key] = value = str(value)
        limit = TRACEBACK_CHARS if key == "exception" else VALUE_CHARS
        if isinstance(value, str) and len(value) > limit:
            event[key] = redaction.cut(value, limit)
    return event


def _redact(_logger: WrappedLogger, _method: str, line: MutableMapping[str, object] | str) -> str:
    """The last step, on the finished line: redact everything that looks like a token."""
    return redaction.redact(str(line))
