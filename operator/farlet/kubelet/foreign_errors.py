"""Translates errors of the foreign API server for a caller.

A foreign API server wraps its kubelet's error text into a Status. The home API server expects the
kubelet's text and wraps it into a Status of its own, so the message is extracted here.
"""

from __future__ import annotations

import asyncio

import orjson

from farlet import errors, redaction
from farlet.client import raw_response
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responses import Refusal
from farlet.planning import api_refusals

BODY_SECONDS = 10.0
BODY_BYTES = 50_000
"""The home API server reads no more of an error (`maxReadLength` in `response_checker.go`)."""

_DIALING = "error dialing backend: "
"""`k8s.io/apimachinery/pkg/util/proxy/upgradeaware.go`. The caller's own API server says the same
where it does not reach farlet."""


async def refusal(response: raw_response.RawResponse, target: PodTarget) -> Refusal:
    """The foreign API server's error, for the caller. Raises `OSError` if the answer is cut off."""
    async with asyncio.timeout(BODY_SECONDS):
        body = await response.text(BODY_BYTES)
    message = _message(body)
    # Not 401 or 403: farlet lacks the permission, not the caller.
    if response.status == 401:
        return Refusal(500, errors.credentials_rejected("foreign", message, node=target.node))
    if response.status == 403:
        return Refusal(
            500,
            f"the foreign API server does not allow farlet to do this: {message}. An administrator "
            f"of the foreign cluster can grant the permission. "
            f"{api_refusals.grant(message, home=target.home_namespace)}",
        )
    if response.status < 400:
        return Refusal(
            502, f"unexpected response from the foreign API server: HTTP {response.status}"
        )
    return Refusal(response.status, message)


def _message(body: bytes) -> str:
    """The message of a Status, else the text itself."""
    try:
        status = orjson.loads(body)
        message = status["message"] if status["kind"] == "Status" else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = None
    text = message if isinstance(message, str) else body.decode("utf-8", "replace").strip()
    if text.startswith(_DIALING):
        text = f"the foreign API server could not reach its kubelet: {text.removeprefix(_DIALING)}"
    return redaction.message(text)
