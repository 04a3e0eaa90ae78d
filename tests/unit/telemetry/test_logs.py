"""The format of log records, and the redaction of tokens."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator

import aiohttp
import kopf
import pytest
import structlog
from kopf._cogs.clients.errors import APIError

from farlet import redaction
from farlet.settings import LogFormat, LogLevel
from farlet.telemetry import logs

TOKEN = "eyJhbGciOiJSUzI1NiIs.eyJhdWQiOlsiaHR0cHM6Ly9r.c2lnbmF0dXJl-_x"
IN_SECRET = base64.b64encode(TOKEN.encode()).decode()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*logs.CAPPED, logs.KOPF_OBJECTS, logs.KOPF_ACTIVITIES):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def configure(
    level: LogLevel = LogLevel.DEBUG, style: LogFormat = LogFormat.AUTO, *, terminal: bool = False
) -> io.StringIO:
    stream = Terminal() if terminal else io.StringIO()
    logs.configure(level, style, stream=stream)
    return stream


def test_a_record_is_one_line_of_json_that_starts_with_time_level_and_message() -> None:
    out = configure()
    structlog.get_logger().info("mirror created", pod="shop/web", uid="u", tries=2)
    line = json.loads(out.getvalue())
    assert list(line)[:3] == ["timestamp", "level", "message"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "message": "mirror created",
        "pod": "shop/web",
        "uid": "u",
        "tries": 2,
    }


@pytest.mark.parametrize(
    ("style", "terminal", "is_json"),
    [
        pytest.param(LogFormat.AUTO, False, True, id="auto, no terminal: JSON"),
        pytest.param(LogFormat.AUTO, True, False, id="auto on a terminal: text"),
        pytest.param(LogFormat.JSON, True, True, id="JSON if selected"),
        pytest.param(LogFormat.TEXT, False, False, id="text if selected"),
    ],
)
def test_the_format_follows_the_setting(style: LogFormat, terminal: bool, is_json: bool) -> None:
    out = configure(style=style, terminal=terminal)
    structlog.get_logger().info("mirror created")
    assert "mirror created" in out.getvalue()
    assert out.getvalue().startswith("{") is is_json


@pytest.mark.parametrize("style", [LogFormat.JSON, LogFormat.TEXT])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(TOKEN, id="a token"),
        pytest.param(f"Authorization: Bearer {TOKEN}", id="a header"),
        pytest.param({"data": {"token": IN_SECRET}}, id="data of a Secret"),
        pytest.param(["a", [TOKEN]], id="deep in a list"),
        pytest.param(ValueError(TOKEN), id="an exception"),
        pytest.param(TOKEN.encode(), id="bytes"),
    ],
)
def test_tokens_are_redacted_everywhere(value: object, style: LogFormat) -> None:
    out = configure(style=style)
    structlog.get_logger().info("request failed", err=value)
    logging.getLogger("kopf").info("request failed: %s", value)
    assert out.getvalue().count(redaction.REDACTED) == 2
    assert "eyJ" not in out.getvalue()
    assert "ZXlK" not in out.getvalue()


@pytest.mark.parametrize("style", [LogFormat.JSON, LogFormat.TEXT])
def test_tracebacks_show_neither_tokens_nor_local_variables(style: LogFormat) -> None:
    out = configure(style=style)
    secret_local = "only in a local variable"
    try:
        raise ValueError(TOKEN)
    except ValueError:
        structlog.get_logger().exception("reconcile failed")
        logging.getLogger("kopf").exception("reconcile failed")
    assert out.getvalue().count("Traceback") == 2
    assert "eyJ" not in out.getvalue()
    assert out.getvalue().count(secret_local) == 0


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        pytest.param(APIError(None, status=410, headers={}), False, id="a watch that is refused"),
        pytest.param(aiohttp.ServerDisconnectedError(), False, id="a connection that is lost"),
        pytest.param(KeyError("metadata"), True, id="a bug"),
    ],
)
def test_a_task_of_kopf_that_ends_logs_a_traceback_only_for_a_bug(
    error: Exception, shown: bool
) -> None:
    out = configure()
    try:
        raise error
    except Exception as err:
        logging.getLogger("kopf._core.reactor.running").error("Watcher has failed", exc_info=err)
    assert "Watcher has failed" in out.getvalue()
    assert ("Traceback" in out.getvalue()) is shown


def test_text_that_only_resembles_tokens_stays() -> None:
    out = configure()
    structlog.get_logger().info("x", a="eyJ", b="eyJabc.def.ghi", c="keyJoin.eyJa.b")
    assert redaction.REDACTED not in out.getvalue()


@pytest.mark.parametrize(
    ("name", "level", "written"),
    [
        pytest.param(
            "kubernetes_asyncio.client.rest", logging.DEBUG, False, id="bodies from the client"
        ),
        pytest.param(
            "kubernetes_asyncio.client.rest", logging.INFO, True, id="notes from the client"
        ),
        pytest.param("aiohttp.client", logging.DEBUG, False, id="aiohttp details"),
        pytest.param("kopf.objects", logging.DEBUG, False, id="whole pods from Kopf"),
        pytest.param("kopf.objects", logging.INFO, True, id="Kopf on one object"),
        pytest.param("kopf.activities", logging.DEBUG, True, id="other details of Kopf"),
    ],
)
def test_with_debug_libraries_log_no_bodies(name: str, level: int, written: bool) -> None:
    out = configure(LogLevel.DEBUG)
    logging.getLogger(name).log(level, "message text")
    assert ("message text" in out.getvalue()) is written


@pytest.mark.parametrize(
    ("level", "name", "severity", "written"),
    [
        pytest.param(LogLevel.INFO, "kopf", logging.DEBUG, False, id="info hides debug"),
        pytest.param(LogLevel.INFO, "kopf", logging.INFO, True, id="info shows info"),
        pytest.param(LogLevel.INFO, "kopf.objects", logging.INFO, False, id="each event of Kopf"),
        pytest.param(LogLevel.INFO, "kopf.objects", logging.WARNING, True, id="its warnings"),
        pytest.param(
            LogLevel.INFO, "kopf.activities.startup", logging.INFO, False, id="each handler of Kopf"
        ),
        pytest.param(
            LogLevel.INFO, "kopf.activities.startup", logging.ERROR, True, id="a failed handler"
        ),
        pytest.param(
            LogLevel.ERROR, "aiohttp", logging.WARNING, False, id="limits only raise the level"
        ),
        pytest.param(
            LogLevel.ERROR,
            "kopf.objects",
            logging.WARNING,
            False,
            id="limits only raise the level of Kopf",
        ),
    ],
)
def test_the_level_applies_to_libraries(
    level: LogLevel, name: str, severity: int, written: bool
) -> None:
    out = configure(level)
    logging.getLogger(name).log(severity, "message text")
    assert ("message text" in out.getvalue()) is written


def test_the_level_applies_to_farlet() -> None:
    out = configure(LogLevel.WARNING)
    log = structlog.get_logger()
    log.info("mirror created")
    log.warning("token not refreshed")
    assert "mirror created" not in out.getvalue()
    assert "token not refreshed" in out.getvalue()


def test_only_name_and_uid_of_the_object_that_kopf_attaches_are_logged() -> None:
    out = configure()
    ref = {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web", "uid": "u"}
    extra = {"k8s_ref": ref, "settings": kopf.OperatorSettings(), "k8s_skip": True}
    logging.getLogger("kopf.objects").warning("Handler %s failed", "on_pod", extra=extra)
    line = json.loads(out.getvalue())
    del line["timestamp"]
    assert line == {
        "level": "warning",
        "message": "Handler on_pod failed",
        "logger": "kopf.objects",
        "pod": "shop/web",
        "uid": "u",
    }


def test_values_without_a_json_type_are_logged_as_text() -> None:
    out = configure()
    structlog.get_logger().info("x", level_set=LogLevel.DEBUG, number=1 << 70, odd="\ud800")
    assert json.loads(out.getvalue())["level_set"] == "debug"


def test_a_second_configuration_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    first = configure()
    second = configure()
    structlog.get_logger().info("mirror created")
    assert first.getvalue() == ""
    assert second.getvalue().count("mirror created") == 1
    assert capsys.readouterr().err == ""
