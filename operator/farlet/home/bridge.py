"""What crosses between Kopf's thread and the engine's loop: pod events, and home credentials.

Neither side calls the other's objects. Events are queued here and taken in the engine's loop;
Kopf asks for credentials, which are loaded in its own loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import kopf

from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource
from farlet.constants import JSON

LOGIN_MINUTES = 2
"""Kopf asks for credentials again when it opens a watch and those it has are so old."""


class Pods(Protocol):
    """Who is told, in the engine's loop."""

    def event(self, kind: str | None, pod: JSON) -> None:
        """One event of the watch; `kind` None: part of a listing."""
        ...

    def relisted(self) -> None:
        """Kopf was started again."""
        ...


class Bridge:
    """Takes events from any thread; `open` says where they go. Earlier ones are kept."""

    def __init__(self, source: ClusterSource, *, on_restart: Callable[[], None]) -> None:
        self._source = source
        self._on_restart = on_restart
        self._fed: deque[tuple[str | None, JSON]] = deque()
        self._taking = False
        self._to: tuple[asyncio.AbstractEventLoop, Pods] | None = None

    def open(self, pods: Pods) -> None:
        """From now on events go to `pods`, in the loop of the caller."""
        self._to = (asyncio.get_running_loop(), pods)

    def feed(self, kind: str | None, pod: JSON) -> None:
        """Hand a watch event over to the engine's loop."""
        self._fed.append((kind, pod))
        if self._taking or self._to is None or self._to[0].is_closed():
            return
        # To wake the other loop costs a system call and a change of thread: once for a burst.
        self._taking = True
        self._to[0].call_soon_threadsafe(self._take, *self._to)

    def _take(self, loop: asyncio.AbstractEventLoop, pods: Pods) -> None:
        # First: an event that comes from now on wakes us again, whether it is still seen or not.
        self._taking = False
        while self._fed:
            loop.call_soon(pods.event, *self._fed.popleft())

    def restarted(self) -> None:
        """Kopf was started again: what vanished meanwhile must be looked for."""
        self._on_restart()
        if self._to is not None and not self._to[0].is_closed():
            loop, pods = self._to
            loop.call_soon_threadsafe(pods.relisted)

    async def login(self) -> kopf.ConnectionInfo:
        """Home credentials as Kopf wants them. Raises `StartError` naming the file."""
        login = await credentials.load("home", self._source)
        scheme, _, token = (login.authorization or "").partition(" ")
        return kopf.ConnectionInfo(
            server=login.server,
            ca_path=login.ca_file,
            insecure=not login.verified,
            certificate_path=login.certificate_file,
            private_key_path=login.key_file,
            scheme=scheme or None,
            token=token or None,
            proxy_url=login.proxy,
            expiration=_expiration(datetime.now(UTC)),
        )


def _expiration(now: datetime) -> datetime:
    """When Kopf is to ask again, in whole minutes.

    Files are replaced under one name, and Kopf never again takes credentials that look like ones
    refused before; so they must differ in time, but not so much that refused ones are tried for
    ever: equal ones within a minute end its watch, which is started again with a delay.
    """
    return now.replace(second=0, microsecond=0) + timedelta(minutes=LOGIN_MINUTES)
