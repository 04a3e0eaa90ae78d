"""Credentials do not appear in texts, texts from outside are cut, and none costs much time."""

from __future__ import annotations

import base64
import time

import pytest

from farlet import errors, redaction
from farlet.redaction import REDACTED

TOKEN = "eyJhbGciOiJSUzI1NiIs.eyJhdWQiOlsiaHR0cHM6Ly9r.c2lnbmF0dXJl-_x"
IN_SECRET = base64.b64encode(TOKEN.encode()).decode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("no token", "no token", id="nothing"),
        pytest.param(f"a {TOKEN} b", f"a {REDACTED} b", id="a token"),
        pytest.param(f"token={TOKEN}.", f"token={REDACTED}.", id="before a full stop"),
        pytest.param(f"\\n{TOKEN}", f"\\n{REDACTED}", id="after an escaped line feed"),
        pytest.param(f"eyJ.{TOKEN}", f"eyJ.{REDACTED}", id="after the beginning of another"),
        pytest.param(f"x.eyJx.{TOKEN}.y", f"x.eyJx.{REDACTED}.y", id="within dots"),
        pytest.param(f"{TOKEN},{TOKEN}", f"{REDACTED},{REDACTED}", id="two tokens"),
        pytest.param(TOKEN.rpartition(".")[0], REDACTED, id="without a signature"),
        pytest.param("a.eyJhbGciOi.b", "a.eyJhbGciOi.b", id="one JSON object only"),
        pytest.param(f'"{IN_SECRET}"', f'"{REDACTED}"', id="in base64"),
        pytest.param(
            "Authorization: Bearer abcdef.0123456789abcdef, x",
            f"Authorization: Bearer {REDACTED}, x",
            id="a bearer token of another form",
        ),
        pytest.param(
            "authorization: bearer 0123456789abcdef0123",
            f"authorization: bearer {REDACTED}",
            id="a scheme in lower case",
        ),
        pytest.param(
            "Authorization: Basic dXNlcjpwYXNz", f"Authorization: Basic {REDACTED}", id="Basic"
        ),
        pytest.param("basic configuration", "basic configuration", id="the word basic"),
        pytest.param("invalid Bearer token", "invalid Bearer token", id="the word Bearer"),
        pytest.param(
            "url='http://farlet:hunter2@127.0.0.1:3128/x'",
            "url='http://<redacted>@127.0.0.1:3128/x'",
            id="user and password of a URL",
        ),
        pytest.param("https://u:p@ss@host", "https://<redacted>@host", id="@ in a password"),
        pytest.param("https://host/a@b", "https://host/a@b", id="@ in a path"),
        pytest.param(
            '{"a":"https://host","b":"x@y"}', '{"a":"https://host","b":"x@y"}', id="@ in JSON"
        ),
    ],
)
def test_credentials_are_redacted_and_nothing_else(text: str, shown: str) -> None:
    assert redaction.redact(text) == shown
    assert redaction.message(text) == shown


def test_a_password_longer_than_what_is_read_is_redacted() -> None:
    assert "pp" not in redaction.value("https://user:" + "p" * 2000 + "@host/")


@pytest.mark.parametrize("before", [0, redaction.MESSAGE_CHARS - 30, redaction.MESSAGE_CHARS - 1])
@pytest.mark.parametrize(
    "secret", [TOKEN, IN_SECRET, "http://farlet:hunter2@proxy"], ids=["token", "base64", "URL"]
)
def test_the_cut_shows_no_part_of_a_credential(secret: str, before: int) -> None:
    shown = redaction.message("." * before + " " + secret + " " + "x" * 5000)
    assert secret[12:20] not in shown
    assert shown.endswith("... (" + f"{before + len(secret) + 5002:,} characters)")


def test_a_long_message_is_cut_and_its_length_is_named() -> None:
    assert redaction.message("x" * 900_000) == "x" * 800 + "... (900,000 characters)"
    assert redaction.message("x" * 800) == "x" * 800


def test_a_value_is_one_short_line() -> None:
    assert redaction.value("/a\n/b\x1b") == "/a\\n/b\\x1b"
    assert redaction.value("/" * 5000) == "/" * 80 + "... (5,000 characters)"


def test_a_list_names_the_first_items_and_the_number_of_the_others() -> None:
    assert redaction.some(["a", "b"]) == "a, b"
    assert redaction.some([str(n) for n in range(10_000)]) == "0, 1, 2, 3, 4 and 9,995 more"


def test_errors_cut_what_servers_say() -> None:
    text = f"{TOKEN} " + "x" * 900_000
    refused = errors.ApiError(
        cluster="foreign", request="GET /x", code=422, status_reason=text, message=text
    )
    unreachable = errors.Unreachable(cluster="foreign", request="GET /x", cause=text)
    for shown in (str(refused), refused.message, str(unreachable), unreachable.cause):
        assert len(shown) < 1024
        assert REDACTED in shown
    assert len(refused.status_reason) < 200


FRAGMENTS = [
    "eyJ",
    "eyJeyJ.",
    "eyJ.",
    "eyJaaaaaaaa.",
    "eyJaaaaaaaa.eyJaaaaaaa",
    ".",
    "-",
    "a",
    "ZXlK",
    "ZXlKa ",
    "Bearer ",
    "Bearer a",
    "basic ",
    "basic a",
    "basic aaaaaaaaA",
    "://",
    "://a:b",
    "://@",
    "@",
    "=",
    " ",
    "\\n",
]


@pytest.mark.parametrize("end", ["", "!"], ids=["", "other end"])
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_time_grows_with_the_length_of_a_text_not_with_its_square(fragment: str, end: str) -> None:
    def seconds(length: int) -> float:
        text = ("eyJ ZXlK Bearer basic :// " + fragment * (length // len(fragment)))[:length] + end
        started = time.process_time()
        redaction.redact(text)
        return time.process_time() - started

    # Ten times the text: about ten times as long, where the square is a hundred times. A second
    # attempt, because other programs on the machine can slow the first one.
    assert any(seconds(300_000) < 30 * seconds(30_000) + 0.02 for _ in range(2))
