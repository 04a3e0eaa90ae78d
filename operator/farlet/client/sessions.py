"""Connections to one API server, replaced when the credentials they depend on change.

A new token alone requires no new connections. With a new certificate, requests on the old ones may
complete: watches last for minutes, and breaking them would look like an outage. If the kubeconfig
leads to another server, watches end: they would show another cluster for minutes. No request is
sent from here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import aiohttp

from farlet.client import credentials
from farlet.client.credential_sources import ClusterSource


class Sessions:
    """The login for one server, and the session for its requests. For one event loop."""

    def __init__(self, name: credentials.Name, source: ClusterSource) -> None:
        self._credentials = credentials.Credentials(name, source)
        self._login: credentials.Login | None = None
        self._session: aiohttp.ClientSession | None = None
        self._retired: aiohttp.ClientSession | None = None
        self._watches: set[Callable[[], None]] = set()
        """What ends each watch."""

    @property
    def login(self) -> credentials.Login:
        """The login that `current` returned last."""
        if self._login is None:
            raise RuntimeError("the cluster is used before its login was loaded")
        return self._login

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """The names in the server's certificates that connections verified."""
        return self._credentials.seen.names

    @property
    def connecting(self) -> object:
        """`Login.connecting` of the login that `current` returned last; `None` before the first."""
        return None if self._login is None else self._login.connecting

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session of `login`."""
        if self._session is None:
            raise RuntimeError("the cluster is used before its login was loaded")
        return self._session

    async def current(self) -> credentials.Login:
        """The login for a request now. Raises `StartError` naming the file, the first time only."""
        login, before = await self._credentials.current(), self._login
        if login is before:
            return login
        self._login = login
        if self._session is None or before is None or before.connecting != login.connecting:
            # Not the library's session, which reads ~/.netrc and looks for proxies each time.
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=login.context),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            retired, self._retired, self._session = self._retired, self._session, session
            if retired is not None:
                await retired.close()
            if before is not None and before.server != login.server:
                for end in tuple(self._watches):
                    end()
        return login

    @contextlib.contextmanager
    def watching(self, end: Callable[[], None], login: credentials.Login) -> Iterator[None]:
        """Call `end` as soon as the kubeconfig leads to another server than that of `login`.

        The reader of the watch must get an error by it.
        """
        if login.server != self.login.server:
            end()
        self._watches.add(end)
        try:
            yield
        finally:
            self._watches.discard(end)

    async def refused(self, login: credentials.Login) -> bool:
        """After a 401 for `login`: whether there is another one to retry with."""
        return await self._credentials.refused(login)

    async def close(self) -> None:
        for session in (self._retired, self._session):
            if session is not None:
                await session.close()
