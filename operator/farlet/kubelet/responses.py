"""What an endpoint of the kubelet API answers, apart from how it is sent.

A `Refusal` is raised where a kubelet would answer with an error; its text is what kubectl shows,
so it says what a kubelet says. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from farlet.constants import JSON

TEXT = "text/plain; charset=utf-8"
JSON_BODY = "application/json"


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. An iterator as `body` is sent piece by piece, as fast as it is taken."""

    status: int
    body: bytes | AsyncIterator[bytes]
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):
    """The endpoint answers with this error instead."""

    def __init__(
        self, status: int, text: str, *, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(f"{status}: {text}")
        self.response = text_response(status, text, headers=headers)


def text_response(status: int, text: str, *, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A line of text."""
    return Response(status, text.encode("utf-8", "surrogateescape"), headers=headers)


def json_response(body: JSON) -> Response:
    """A JSON object, with status 200."""
    return Response(200, orjson.dumps(body), JSON_BODY)
