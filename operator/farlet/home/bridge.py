"""What crosses between Kopf's thread and the engine's loop: pod events, and home credentials.

Neither side calls the other's objects. Events are queued here and taken in the engine's loop;
Kopf asks for credentials, which are loaded in its own loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, cast

import kopf

from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource
from farlet.constants import JSON
from farlet.k8s_types import Pod

LOGIN_MINUTES = 2
"""Kopf asks for credentials again when it opens a watch and those it has are this old."""


class Pods(Protocol):
    """Receives home pods, in the engine's loop."""

    def event(self, kind: str | None, pod: Pod) -> None:
        """One event of the watch; `kind` None: part of a listing."""
        ...

    def is_known(self, kind: str | None, pod: JSON) -> bool:
        """Whether an event says nothing new. Called in Kopf's thread."""
        ...

    def resync(self) -> None:
        """Kopf was restarted: find what was deleted in between."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class HomeConnection(kopf.ConnectionInfo):
    """Home credentials in Kopf's form, with farlet's TLS in place of Kopf's."""

    context: ssl.SSLContext = dataclasses.field(compare=False, repr=False)

    def as_ssl_context(self) -> ssl.SSLContext:
        """Kopf's own would be `ssl.create_default_context`, see `client.tls_verification`."""
        return self.context


class Bridge:
    """Takes events from any thread. They are queued until `open` names their receiver."""

    def __init__(self, source: ClusterSource, *, on_restart: Callable[[], None]) -> None:
        self._source = source
        self._on_restart = on_restart
        self._fed: deque[tuple[str | None, Pod]] = deque()
        self._taking = False
        self._to: tuple[asyncio.AbstractEventLoop, Pods] | None = None

    def open(self, pods: Pods) -> None:
        """From now on events go to `pods`, in the loop of the caller."""
        self._to = (asyncio.get_running_loop(), pods)

    def feed(self, kind: str | None, pod: JSON) -> None:
        """Hand a watch event over to the engine's loop, unless it says nothing new."""
        if self._to is not None and self._to[1].is_known(kind, pod):
            return
        self._fed.append((kind, cast("Pod", pod)))
        if self._taking or self._to is None or self._to[0].is_closed():
            return
        # Waking the other loop costs a system call and a context switch: once per burst.
        self._taking = True
        self._to[0].call_soon_threadsafe(self._take, *self._to)

    def _take(self, loop: asyncio.AbstractEventLoop, pods: Pods) -> None:
        # Reset first: an event that arrives from now on wakes us again, even if this call takes it.
        self._taking = False
        while self._fed:
            loop.call_soon(pods.event, *self._fed.popleft())

    def restarted(self) -> None:
        """Kopf was restarted: what was deleted in between must be found."""
        self._on_restart()
        if self._to is not None and not self._to[0].is_closed():
            loop, pods = self._to
            loop.call_soon_threadsafe(pods.resync)

    async def login(self) -> kopf.ConnectionInfo:
        """Home credentials in Kopf's form. Raises `StartError` naming the file."""
        return await log_in(self._source)


async def log_in(source: ClusterSource) -> HomeConnection:
    """Home credentials in Kopf's form. Raises `StartError` naming the file."""
    login = await credentials.load("home", source)
    scheme, _, token = (login.authorization or "").partition(" ")
    return HomeConnection(
        context=login.context,
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
    """When Kopf must read credentials again, in whole minutes.

    Kopf never reuses credentials that equal ones the server refused, and a rotated file keeps its
    path. So the expiration makes new ones differ. It changes only once a minute: equal credentials
    within a minute end Kopf's watch, which restarts after a delay, so that refused credentials are
    not retried without a pause.
    """
    return now.replace(second=0, microsecond=0) + timedelta(minutes=LOGIN_MINUTES)
