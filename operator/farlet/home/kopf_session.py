"""Kopf's connections to the home API server: farlet's TLS and limits, without known events.

Kopf uses 0.5 ms of CPU for an event. Echoes of farlet's own writes end here, before Kopf parses
them, if they arrive after the answer (half of them in a burst); the bridge drops the others. Of its
own deletions Kopf gets as much as it needs to forget the pod.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiohttp
import kopf
import orjson
from aiohttp.client_middlewares import ClientHandlerType

from farlet.client import cluster, credentials, decode
from farlet.client.credential_sources import ClusterSource
from farlet.constants import JSON

LOGIN_MINUTES = 2
"""Kopf asks for credentials again when it opens a watch and those it has are this old."""

_IDENTITY = ("namespace", "name", "uid", "resourceVersion")
"""Fields of metadata by which Kopf knows an object."""

IsKnown = Callable[[str | None, JSON], bool]
"""Whether an event, by its type and object, says nothing new. Called in Kopf's thread."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KopfSession(kopf.AiohttpSession):
    """Home credentials in Kopf's form. Kopf never reuses any that equal refused ones."""

    aiohttp_session: aiohttp.ClientSession = dataclasses.field(compare=False, repr=False)
    authorization: str | None = dataclasses.field(repr=False)
    connecting: tuple[object, ...] = dataclasses.field(repr=False)


class KopfSessions:
    """Makes a session for each login of Kopf. For one event loop at a time, that of Kopf."""

    def __init__(
        self, source: ClusterSource, *, is_known: IsKnown = lambda _kind, _object: False
    ) -> None:
        self._source = source
        self._is_known = is_known
        self._made: list[aiohttp.ClientSession] = []

    async def log_in(self) -> KopfSession:
        """Load the home credentials. Raises `StartError` naming the file."""
        login = await credentials.load("home", self._source)
        self._made = [session for session in self._made if not session.closed]

        async def connect_and_filter(
            request: aiohttp.ClientRequest, handler: ClientHandlerType
        ) -> aiohttp.ClientResponse:
            request.server_hostname = login.server_hostname
            response = await handler(request)
            if response.status == 200 and "watch" in request.url.query:
                news = _NewEvents(response.content, self._is_known)
                response.content = cast("aiohttp.StreamReader", news)
            return response

        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=login.context),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=cluster.headers_of(login, None),
            proxy=login.proxy,
            middlewares=(connect_and_filter,),
        )
        self._made.append(session)
        return KopfSession(
            server=login.server,
            aiohttp_session=session,
            authorization=login.authorization,
            connecting=login.connecting,
            expiration=_expiration(datetime.now(UTC)),
        )

    async def close(self) -> None:
        """Close what Kopf has not closed: it leaves sessions open that it never used."""
        for session in self._made:
            await session.close()
        self._made = []


class _NewEvents:
    """The body of a watch without the lines of known events. Kopf reads it by `iter_chunked`.

    A known deletion becomes a short line: Kopf keeps a record of each object until it is deleted.
    """

    def __init__(self, body: aiohttp.StreamReader, is_known: IsKnown) -> None:
        self._body = body
        self._is_known = is_known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)  # aiohttp's own use, such as ending a read at a close

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Lines, as an API server sent them."""
        info = decode.RequestInfo("home", "WATCH pods")
        async for line in cluster.lines(self._body.iter_chunked(size), info):
            if passed := self._passed(line):
                yield passed + b"\n"

    def _passed(self, line: bytes) -> bytes:
        """What Kopf gets of a line; empty: nothing."""
        try:
            event = orjson.loads(line)
            kind, obj = event["type"], event["object"]
            if not self._is_known(kind, obj):
                return line
            return _short(obj) if kind == "DELETED" else b""
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return line  # Kopf reports it


def _short(deleted: JSON) -> bytes:
    """The event of a deletion, with what Kopf needs to forget the object. It is a valid one."""
    metadata = {key: deleted["metadata"].get(key) for key in _IDENTITY}
    shortened = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}
    return orjson.dumps({"type": "DELETED", "object": shortened})


def _expiration(now: datetime) -> datetime:
    """When Kopf must read credentials again, in whole minutes.

    Kopf never reuses credentials that equal ones the server refused, and a rotated file keeps its
    path. So the expiration makes new ones differ. It changes only once a minute: equal credentials
    within a minute end Kopf's watch, which restarts after a delay, so that refused credentials are
    not retried without a pause.
    """
    return now.replace(second=0, microsecond=0) + timedelta(minutes=LOGIN_MINUTES)
