"""One API server: configuration, authentication, single requests and single watches.

kubernetes-asyncio loads configurations (kubeconfig, exec plugins, in-cluster) and makes the
TLS session; requests carry raw JSON, since typed models cost more than all the rest of the
hot path. Nothing here retries, decides or remembers objects: a caller that gets
`Unreachable` does not know whether its write was applied and must look again.

Bodies and answers never reach an error text or a log: some of them hold tokens.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
import orjson
import yaml
import yarl
from kubernetes_asyncio import client, config

from farlet import __version__, answers, errors
from farlet.endpoint import ClusterSource
from farlet.telemetry.metrics import ClientMetrics
from farlet.vocabulary import JSON

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
JSON_BODY = "application/json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

USER_AGENT = f"farlet/{__version__}"

REQUEST_SECONDS = 30.0
REQUESTS_AT_ONCE = 16
"""To one API server. Each connection keeps 256 KiB of TLS buffer (`asyncio.sslproto`), and no
server answers faster because more are asked of it. Watches are not counted."""
WATCH_SILENCE_SECONDS = 80.0
"""API servers send a bookmark every minute; a longer silence is a dead connection."""
WATCH_SECONDS = 300
RELOAD_SECONDS = 5.0
"""Shortest time between two loads of credentials that an API server keeps refusing."""

Name = Literal["home", "foreign"]


class Cluster:
    """A connection to one API server. Use as an async context manager."""

    def __init__(self, name: Name, source: ClusterSource, *, metrics: ClientMetrics) -> None:
        self.name = name
        self._source = source
        self._metrics = metrics
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._configuration: client.Configuration | None = None
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None
        self._retired: list[aiohttp.ClientSession] = []
        self._loaded = 0.0
        self.problem: str | None = None
        """Why the last request got no answer; `None` when it got one, whatever it said."""
        self._loading = asyncio.Lock()

    async def __aenter__(self) -> Cluster:
        await self.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in (*self._retired, self._session):
            if session is not None:
                await session.close()

    @property
    def server(self) -> str:
        """Base URL of the API server."""
        return str(self.configuration.host).rstrip("/")

    @property
    def ca_file(self) -> str | None:
        """The CA bundle that verifies this server; `None` where the system's CAs do."""
        return self.configuration.ssl_ca_cert

    @property
    def configuration(self) -> client.Configuration:
        """As loaded by kubernetes-asyncio; Kopf logs in with it."""
        if self._configuration is None:
            raise RuntimeError("the configuration is read before it was loaded")
        return self._configuration

    async def load(self) -> None:
        """(Re)load configuration and credentials. Raises `StartError` naming the file."""
        configuration = await load(self.name, self._source)
        if self._session is None or _connecting(configuration) != _connecting(self.configuration):
            # The library's connections: TLS and client certificates as its clients have them. Not
            # its session, which reads ~/.netrc and looks for proxies in two threads each time.
            try:
                library = client.rest.RESTClientObject(configuration, maxsize=0).pool_manager
            except (OSError, ValueError) as err:
                raise _unloadable(self.name, self._source, err) from err
            session = aiohttp.ClientSession(
                connector=library.connector, cookie_jar=aiohttp.DummyCookieJar()
            )
            library.detach()
            # What runs on the old one may end on it; it is closed at the next change.
            retired, self._retired = self._retired, [self._session] if self._session else []
            self._session = session
            for old in retired:
                await old.close()
        self._configuration, self._proxy = configuration, configuration.proxy
        self._loaded = time.monotonic()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = JSON_BODY,
        accept: str | None = None,
    ) -> JSON:
        """One request; `path` holds the query. Returns the JSON of the answer.

        Raises a kind of `ApiError` for an answer other than 2xx, `Unreachable` for none.
        """
        data = None if body is None else orjson.dumps(body)
        asked = answers.Asked(self.name, f"{method} {path.partition('?')[0]}")
        for attempt in (1, 2):
            started = time.monotonic()
            headers = await self._headers(None if data is None else content_type, accept)
            async with self._slots:
                with self._asking(asked):
                    code, raw, retry_after = await self._send(
                        method, path, data=data, headers=headers
                    )
            if code == 401 and attempt == 1 and await self._reload(since=started):
                continue
            with self._asking(asked):
                answer = answers.read(asked, code, raw, retry_after)
            self.problem = None
            return answer
        raise AssertionError("the loop returns or raises")

    async def _send(
        self, method: str, path: str, *, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After of the answer to one request."""
        started = time.monotonic()
        code: int | None = None
        try:
            async with self._http.request(
                method,
                self._url(path),
                data=data,
                headers=headers,
                proxy=self._proxy,
                server_hostname=self.configuration.tls_server_name or None,
                timeout=_TIMEOUT,
            ) as response:
                raw = await response.read()
                code = response.status
                return code, raw, response.headers.get("Retry-After")
        finally:
            self._metrics.answered(method, code)
            self._metrics.took(method, time.monotonic() - started)

    async def watch(
        self, path: str, *, accept: str | None = None, opened: Callable[[], None]
    ) -> AsyncIterator[answers.WatchEvent]:
        """Events of one watch request until the server ends it; `path` holds the query.

        `opened` is called once the server has accepted the watch. Raises `Gone` when the
        resourceVersion is too old, other `ApiError`s, and `Unreachable`.
        """
        path = f"{path}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"
        asked = answers.Asked(self.name, f"WATCH {path.partition('?')[0]}")
        code: int | None = None
        try:
            with self._asking(asked):
                async with self._http.get(
                    self._url(path),
                    headers=await self._headers(None, accept),
                    proxy=self._proxy,
                    server_hostname=self.configuration.tls_server_name or None,
                    timeout=_WATCH_TIMEOUT,
                ) as response:
                    code = response.status
                    if code != 200:
                        if code == 401:
                            await self._reload(since=time.monotonic())
                        answers.read(asked, code, await response.read())
                    if response.content_type != JSON_BODY:
                        raise asked.unreachable(answers.STRANGER.format(code))
                    self.problem = None
                    opened()
                    rest = b""
                    async for chunk in response.content.iter_any():
                        *lines, rest = (
                            (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
                        )
                        for line in lines:
                            yield answers.event(asked, line)
                    if rest:
                        raise asked.unreachable("the watch broke off within an event")
        finally:
            self._metrics.answered("WATCH", code)

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the cluster is used before it was loaded")
        return self._session

    def _url(self, path: str) -> yarl.URL:
        return yarl.URL(self.server + path, encoded=True)

    async def _headers(self, content_type: str | None, accept: str | None) -> dict[str, str]:
        headers = {"User-Agent": USER_AGENT, "Accept": accept or JSON_BODY}
        token = await self.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = str(token)
        if content_type is not None:
            headers["Content-Type"] = content_type
        return headers

    async def _reload(self, *, since: float) -> bool:
        """Load credentials again after a 401: tokens expire, exec plugins issue new ones.

        Whether what was asked at the time `since` is worth asking again.
        """
        async with self._loading:
            if self._loaded > since:
                return True
            if time.monotonic() - self._loaded < RELOAD_SECONDS:
                return False
            await self.load()
            return True

    @contextmanager
    def _asking(self, asked: answers.Asked) -> Iterator[None]:
        """What goes wrong within is raised as one of ours; `problem` follows."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            error = asked.unreachable(err)
            self.problem = error.cause
            raise error from err
        except errors.Unreachable as err:
            self.problem = err.cause
            raise
        except errors.ApiError:
            self.problem = None
            raise


async def load(name: Name, source: ClusterSource) -> client.Configuration:
    """The configuration of one cluster. Raises `StartError` naming where it should come from."""
    configuration = client.Configuration()
    try:
        if source.kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(
                config_file=source.kubeconfig,
                context=source.context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError) as err:
        raise _unloadable(name, source, err) from err
    configuration.proxy = configuration.proxy or _environment_proxy(str(configuration.host))
    return configuration


def _unloadable(name: Name, source: ClusterSource, err: Exception) -> errors.StartError:
    where = source.kubeconfig or "the in-cluster configuration"
    return errors.StartError(
        f"the configuration of the {name} cluster cannot be loaded from {where}: {err}. "
        f"Give a readable kubeconfig with --{name}-kubeconfig"
    )


def _connecting(configuration: client.Configuration) -> tuple[object, ...]:
    """What connections depend on; a new token alone needs no new ones."""
    return (
        configuration.host,
        configuration.ssl_ca_cert,
        configuration.cert_file,
        configuration.key_file,
        configuration.verify_ssl,
        configuration.tls_server_name,
    )


def _environment_proxy(server: str) -> str | None:
    """What `HTTPS_PROXY` and `NO_PROXY` say of a server; `None`: it is asked directly."""
    url = urlsplit(server)
    if not url.hostname or urllib.request.proxy_bypass(url.hostname):
        return None
    return urllib.request.getproxies().get(url.scheme)


_TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=10)
_WATCH_TIMEOUT = aiohttp.ClientTimeout(sock_connect=10, sock_read=WATCH_SILENCE_SECONDS)
