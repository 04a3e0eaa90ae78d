"""Repeated lines are counted, values are cut, and errors of servers quote no request."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from farlet.settings import LogFormat, LogLevel
from farlet.settings.values import Address
from farlet.telemetry import log_budget, logs, probes


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(
        log_budget, "BudgetedHandler", lambda stream: BudgetedHandler(stream, clock=clock)
    )
    stream = io.StringIO()
    logs.configure(LogLevel.DEBUG, LogFormat.JSON, stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*logs.CAPPED, *logs.QUIET, logs.KOPF_OBJECTS):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


BudgetedHandler = log_budget.BudgetedHandler


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.thorough
def test_a_thousand_forbidden_callers_write_a_few_lines(out: io.StringIO, clock: Clock) -> None:
    log = structlog.get_logger()
    for number in range(1000):
        log.info("denied access to kubelet API", user=f"user-{number}", path="/" * 60_000)
    written = lines(out)
    assert len(written) == log_budget.LINES
    assert "for 60 s" in str(written[-1]["further"])
    assert len(out.getvalue()) < 60_000
    clock.now += log_budget.WINDOW_SECONDS
    log.warning("node was deleted")
    omitted, other = lines(out)[log_budget.LINES :]
    assert omitted["message"] == log_budget.OMITTED
    assert omitted["lines"] == "denied access to kubelet API"
    assert (omitted["count"], omitted["level"]) == (1000 - log_budget.LINES, "info")
    assert other["message"] == "node was deleted"
    log.info("denied access to kubelet API")
    assert lines(out)[-1]["message"] == "denied access to kubelet API"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("info", "a", {}), ("info", "b", {}), id="another event"),
        pytest.param(("info", "a", {}), ("warning", "a", {}), id="another level"),
        pytest.param(
            ("info", "a", {"pod": "shop/web"}), ("info", "a", {"pod": "shop/db"}), id="another pod"
        ),
    ],
)
def test_each_kind_of_line_has_a_budget_of_its_own(
    one: tuple[str, str, dict[str, str]], other: tuple[str, str, dict[str, str]], out: io.StringIO
) -> None:
    for level, event, keys in [one] * 100 + [other]:
        getattr(structlog.get_logger(), level)(event, **keys)
    assert len(lines(out)) == log_budget.LINES + 1


def test_lines_of_libraries_are_counted_by_their_template(out: io.StringIO) -> None:
    for number in range(100):
        logging.getLogger("kopf").warning("request %d failed", number)
    assert len(lines(out)) == log_budget.LINES


def test_details_that_were_asked_for_are_not_counted(out: io.StringIO) -> None:
    for _ in range(100):
        structlog.get_logger().debug("tokens refreshed")
    assert len(lines(out)) == 100


@pytest.mark.thorough
def test_the_number_of_counted_kinds_is_bounded(out: io.StringIO) -> None:
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, BudgetedHandler)
    log = structlog.get_logger()
    for _ in range(log_budget.LINES + 7):
        log.info("the first")
    for number in range(3 * log_budget.KINDS):
        log.info("another", pod=f"shop/{number}")
    assert len(handler._windows) == log_budget.KINDS
    [omitted] = [line for line in lines(out) if line["message"] == log_budget.OMITTED]
    assert (omitted["lines"], omitted["count"]) == ("the first", 7)


def test_the_count_is_written_when_the_process_ends(out: io.StringIO) -> None:
    for _ in range(log_budget.LINES + 3):
        structlog.get_logger().info("a")
    logging.getLogger().handlers[0].close()
    assert lines(out)[-1]["count"] == 3


def test_values_and_tracebacks_are_cut(out: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info("x", text="x" * 900_000, err=ValueError("y" * 900_000))
    try:
        raise ValueError("z" * 900_000)
    except ValueError:
        log.exception("reconcile failed")
    short, traced = lines(out)
    assert len(str(short)) < 5_000
    assert str(traced["exception"]).startswith("Traceback")
    assert len(str(traced)) < 20_000


async def test_a_malformed_request_to_a_probe_is_not_quoted(out: io.StringIO) -> None:
    async with probes.serve(
        metrics=None, probes=probes.Probes(), metrics_at=None, health_at=Address("127.0.0.1", 0)
    ) as served:
        assert served.health is not None
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.health.port)
            writer.write(b"GET /" + b"eyJ" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.read()
            writer.close()
    written = [line for line in lines(out) if line["logger"] == "aiohttp.server"]
    assert len(written) == log_budget.LINES
    assert written[0]["message"] == "invalid HTTP request (LineTooLong)"
    assert "exception" not in written[0]
    assert "eyJ" not in out.getvalue()


def test_what_a_peer_does_to_a_connection_of_asyncio_is_one_line(out: io.StringIO) -> None:
    log = logging.getLogger("asyncio")
    error = ConnectionResetError("x")
    log.error("Fatal read error\nprotocol: <secret>\ntransport: <y>", exc_info=error)
    log.error("Task exception was never retrieved\nfuture: <x>", exc_info=error)
    ours, bug = lines(out)
    assert ours["message"] == "Fatal read error (ConnectionResetError)"
    assert "exception" not in ours
    assert "exception" in bug
