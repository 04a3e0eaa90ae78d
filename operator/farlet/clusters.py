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
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
import orjson
import yaml
import yarl
from kubernetes_asyncio import client, config

from farlet import __version__, errors
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
RETRY_AFTER_SECONDS = 30.0
"""The longest that a server, or what stands before it, can make us wait."""
RELOAD_SECONDS = 5.0
"""Shortest time between two loads of credentials that an API server keeps refusing."""

Name = Literal["home", "foreign"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch; `kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: JSON


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
        request = f"{method} {path.partition('?')[0]}"
        for attempt in (1, 2):
            started = time.monotonic()
            headers = await self._headers(None if data is None else content_type, accept)
            async with self._slots:
                code, raw, retry_after = await self._ask(
                    method, path, data=data, headers=headers, request=request
                )
            if code == 401 and attempt == 1 and await self._reload(asked=started):
                continue
            return self._answer(request, code, raw, retry_after)
        raise AssertionError("the loop returns or raises")

    async def _ask(
        self, method: str, path: str, *, data: bytes | None, headers: dict[str, str], request: str
    ) -> tuple[int, bytes, str | None]:
        """Status, body and Retry-After of the answer to one request. Raises `Unreachable`."""
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
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise self._unreachable(request, err) from err
        finally:
            self._metrics.answered(method, code)
            self._metrics.took(method, time.monotonic() - started)

    async def watch(
        self, path: str, *, accept: str | None = None, opened: Callable[[], None]
    ) -> AsyncIterator[WatchEvent]:
        """Events of one watch request until the server ends it; `path` holds the query.

        `opened` is called once the server has accepted the watch. Raises `Gone` when the
        resourceVersion is too old, other `ApiError`s, and `Unreachable`.
        """
        path = f"{path}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"
        request = f"WATCH {path.partition('?')[0]}"
        timeout = aiohttp.ClientTimeout(sock_connect=10, sock_read=WATCH_SILENCE_SECONDS)
        code: int | None = None
        try:
            async with self._http.get(
                self._url(path),
                headers=await self._headers(None, accept),
                proxy=self._proxy,
                server_hostname=self.configuration.tls_server_name or None,
                timeout=timeout,
            ) as response:
                code = response.status
                if code != 200:
                    if code == 401:
                        await self._reload(asked=time.monotonic())
                    self._answer(request, code, await response.read(), None)
                if response.content_type != JSON_BODY:
                    raise self._unreachable(request, _STRANGER.format(code))
                self.problem = None
                opened()
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (
                        (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
                    )
                    for line in lines:
                        yield self._event(request, line)
                if rest:
                    raise self._unreachable(request, "the watch broke off within an event")
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise self._unreachable(request, err) from err
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

    async def _reload(self, *, asked: float) -> bool:
        """Load credentials again after a 401: tokens expire, exec plugins issue new ones.

        Whether the request that was `asked` at that time is worth asking again.
        """
        async with self._loading:
            if self._loaded > asked:
                return True
            if time.monotonic() - self._loaded < RELOAD_SECONDS:
                return False
            await self.load()
            return True

    def _unreachable(self, request: str, why: BaseException | str) -> errors.Unreachable:
        cause = "timed out" if isinstance(why, TimeoutError) else str(why) or type(why).__name__
        self.problem = cause
        return errors.Unreachable(cluster=self.name, request=request, cause=cause)

    def _event(self, request: str, line: bytes) -> WatchEvent:
        """One line of a watch. Raises what an ERROR event says, `Unreachable` for no event."""
        try:
            event = orjson.loads(line)
            kind, obj = event["type"], event["object"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as err:
            raise self._unreachable(request, "a line that is no event of a watch") from err
        if kind == "ERROR" or not isinstance(obj, dict):
            code = obj.get("code") if isinstance(obj, dict) else None
            self._answer(request, code if isinstance(code, int) else 500, line, None)
        return WatchEvent(kind, obj)

    def _answer(self, request: str, code: int, raw: bytes, retry_after: str | None) -> JSON:
        self.problem = None
        try:
            answer: JSON = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = {}
        status = answer.get("object", answer) if isinstance(answer, dict) else {}
        if not isinstance(status, dict):
            status = {}
        if 200 <= code < 300 and "kind" in status:
            return answer
        if status.get("kind") != "Status":
            # Something stands in between: what it says of an object is not known to be true.
            return _raise(self._unreachable(request, _STRANGER.format(code)))
        kind = _KINDS.get(code, errors.ApiError)
        if code == 503 and retry_after is not None:
            kind = errors.Throttled
        if kind is errors.ApiError and code >= 500:
            # A server on its way down or up answers 500 to 504; the write may have run.
            return _raise(self._unreachable(request, f"HTTP {code}: {status.get('message')}"))
        error = kind(
            cluster=self.name,
            request=request,
            code=code,
            status_reason=str(status.get("reason", "")),
            message=str(status.get("message", "no message")),
        )
        if isinstance(error, errors.Throttled) and retry_after is not None:
            seconds = float(retry_after) if retry_after.isdigit() else 1.0
            error.retry_after = min(seconds, RETRY_AFTER_SECONDS)
        return _raise(error)


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


_STRANGER = "HTTP {} that is no answer of an API server"

_TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=10)

_KINDS: dict[int, type[errors.ApiError]] = {
    400: errors.Invalid,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    422: errors.Invalid,
    429: errors.Throttled,
}


def _raise(error: errors.FarletError) -> JSON:
    raise error
