"""Reads what farlet pods report about themselves, at `/state` of their probe port.

The answer comes from a pod and is not trusted: it is bounded in size and time, and only shown.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import aiohttp
import yarl

from farlet.client import connection_errors
from farlet.constants import JSON
from farlet.manager.pod_template import PROBES_PORT
from farlet.telemetry import state
from farlet.telemetry.state import State

SECONDS = 3.0


class NotReported(ValueError):
    """The version of farlet in the pod does not report its state."""


class StateReader:
    """Use as an async context manager."""

    def __init__(self, port: int = PROBES_PORT) -> None:
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=SECONDS)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, pod: JSON) -> State:
        """The state of a pod. Raises `ValueError` with the cause in a few words.

        `NotReported` is such an error; the pod may serve the node nevertheless.
        """
        if self._session is None:
            raise RuntimeError("the reader is used outside of its context")
        host = (pod.get("status") or {}).get("podIP")
        if not isinstance(host, str) or not host:
            raise ValueError("has no address yet")
        url = yarl.URL.build(scheme="http", host=host, port=self._port, path=state.PATH)
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status == 404:
                    raise NotReported(
                        "its image contains a farlet before 0.2.0, which does not report its state"
                    )
                if answer.status != 200:
                    raise ValueError(f"its probe port answered {answer.status}")
                raw = await _body(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise ValueError(
                f"its probe port did not answer: {connection_errors.cause(err)}"
            ) from err
        try:
            return state.read(raw)
        except ValueError:
            raise ValueError("its probe port answered something other than a state") from None


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """The body, or one byte more than is allowed."""
    pieces: list[bytes] = []
    left = state.MAX_BYTES + 1
    async for chunk in answer.content.iter_any():
        pieces.append(chunk[:left])
        left -= len(pieces[-1])
        if left == 0:
            break
    return b"".join(pieces)
