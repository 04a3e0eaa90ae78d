"""Where a mirror stands in the foreign API, and what that API's refusals mean to a caller at home.

A foreign API server wraps what its kubelet said into a Status; home's API server expects what a
kubelet says, and wraps it itself. So the message is taken out.
"""

from __future__ import annotations

import asyncio

import orjson

from farlet import redaction
from farlet.client import raw_response
from farlet.kubelet.responses import Refusal

BODY_SECONDS = 10.0
BODY_BYTES = 50_000
"""Home's API server reads no more of an error (`maxReadLength` in `response_checker.go`)."""


async def refusal(exchange: raw_response.RawResponse) -> Refusal:
    """The foreign API server's error for a caller at home. Raises `OSError` if it breaks off."""
    async with asyncio.timeout(BODY_SECONDS):
        body = await exchange.text(BODY_BYTES)
    message = _message(body)
    if exchange.status in {401, 403}:
        # Not the caller's rights are lacking, as these codes would tell him, but ours.
        return Refusal(
            500,
            f"the foreign API server does not let farlet do this: {message}. Its administrator can "
            "grant it with manifests/foreign",
        )
    if exchange.status < 400:
        return Refusal(502, f"the foreign API server answered {exchange.status}, out of place")
    return Refusal(exchange.status, message)


def _message(body: bytes) -> str:
    """The message of a Status, else the text itself."""
    try:
        status = orjson.loads(body)
        message = status["message"] if status["kind"] == "Status" else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = None
    text = message if isinstance(message, str) else body.decode("utf-8", "replace").strip()
    return redaction.redact(text)
