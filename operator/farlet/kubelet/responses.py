"""Answers of the kubelet API, apart from how they are sent.

Endpoints raise a `Refusal` where a kubelet would answer with an error. kubectl shows its text, so
it is the text of a kubelet. Pure.
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
    """An answer. If `body` is an iterator, its pieces are sent as fast as the caller reads them."""

    status: int
    body: bytes | AsyncIterator[bytes]
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):
    """Raised by an endpoint to answer with this error."""

    def __init__(
        self, status: int, text: str, *, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(f"{status}: {text}")
        self.response = text_response(status, text, headers=headers)


def text_response(status: int, text: str, *, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, text.encode("utf-8", "surrogateescape"), headers=headers)


def json_response(body: JSON) -> Response:
    """A JSON object, with status 200."""
    return Response(200, orjson.dumps(body), JSON_BODY)
