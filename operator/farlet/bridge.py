"""What crosses between Kopf's thread and the engine's loop: pod events, and home credentials.

Neither side calls the other's objects. Events are queued here and taken in the engine's loop;
Kopf asks for credentials, which are loaded afresh in its own loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import kopf

from farlet import clusters
from farlet.endpoint import ClusterSource
from farlet.vocabulary import JSON


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
        """Home credentials as Kopf wants them, loaded afresh: Kopf asks again after a 401."""
        configuration = await clusters.load("home", self._source)
        token = await configuration.get_api_key_with_prefix("BearerToken")
        return kopf.ConnectionInfo(
            server=str(configuration.host),
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme="Bearer" if token else None,
            token=token.removeprefix("Bearer ") if token else None,
            proxy_url=configuration.proxy,
        )
