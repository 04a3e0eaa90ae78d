"""A proxy in front of an API server that can fail in every way a network or a server can.

It terminates the client's TLS with a certificate of the cluster's own CA and reads the user from
the client certificate. It then sends the request as the administrator, who impersonates that user;
a bearer token is passed on. So farlet only needs another URL in its kubeconfig, and keeps its
user name, permissions and user agent.

A `Fault` gets a request and a function that forwards it, and returns a response or raises `Cut`.
If it fails before forwarding, the API server never receives the request; if it fails afterwards,
the API server has processed it.
"""

import asyncio
import contextlib
import dataclasses
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

import aiohttp
import yaml
import yarl
from aiohttp import web

from clusters import controlplane, errors, kubeconfig, ports
from clusters.cluster import Cluster
from faults import websockets

_HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive", "upgrade"}
_AS = "Impersonate-User"
_SKIPPED = ("Accept-Encoding", "User-Agent", "Content-Type")


class Cut(Exception):
    """The connection breaks without a response."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as received, before any rule is applied."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    url: str  # path and query, as received

    @property
    def watch(self) -> bool:
        return self.query.get("watch", "").lower() in {"1", "true"}

    @property
    def json(self) -> dict[str, Any]:
        """The decoded body; empty when there is none."""
        found: dict[str, Any] = json.loads(self.body) if self.body else {}
        return found

    def __str__(self) -> str:
        return f"{'WATCH' if self.watch else self.method} {self.path}"


@dataclasses.dataclass(frozen=True)
class Answer:
    """A complete response."""

    code: int
    headers: Mapping[str, str]
    body: bytes


Forward: TypeAlias = Callable[[Request], Awaitable[Answer]]
Fault: TypeAlias = Callable[[Request, Forward], Awaitable[Answer]]
Match: TypeAlias = Callable[[Request], bool]


class Rule:
    """A fault for matching requests, after the first `skip`, at most `times` of them."""

    def __init__(self, match: Match, fault: Fault, *, skip: int, times: int | None) -> None:
        self._match = match
        self.fault = fault
        self._skip = skip
        self._left = times
        self.hits: list[Request] = []
        self.times: list[float] = []
        """When each of them arrived, by the monotonic clock."""
        self._changed = asyncio.Event()

    def takes(self, request: Request) -> bool:
        """Whether the fault applies to this request, which then counts as a hit."""
        if self._left == 0 or not self._match(request):
            return False
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._left is not None:
            self._left -= 1
        self.hits.append(request)
        self.times.append(time.monotonic())
        self._changed.set()
        return True

    def end(self) -> None:
        """Apply this rule to no further request."""
        self._left = 0

    async def hit(self, count: int = 1, *, seconds: float = 120.0) -> None:
        """Return once the fault has applied to that many requests."""
        async with asyncio.timeout(seconds):
            while len(self.hits) < count:
                self._changed.clear()
                await self._changed.wait()


class Proxy:
    """The proxy; open it with `async with`."""

    def __init__(self, cluster: Cluster, *, port: int | None = None) -> None:
        if cluster.parts is None:
            raise errors.HarnessError(
                f"a proxy needs the CA of cluster {cluster.name}, which was started outside: "
                f"{cluster.kubeconfig}: unset FARLET_HOME_KUBECONFIG and FARLET_FOREIGN_KUBECONFIG"
            )
        self._cluster = cluster
        self._authority = cluster.parts.plane.authority
        self._access = kubeconfig.read(cluster.kubeconfig)
        self.port = port or ports.free(1)[0]
        self._rules: list[Rule] = []
        self._streams: list[_Stream] = []
        self._opened = asyncio.Event()
        self._closed = False
        self._administrator: aiohttp.ClientSession | None = None
        self._anonymous: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._administrator = _session(self._access)
        # With a client certificate the API server would ignore the token that is passed on.
        self._anonymous = _session(dataclasses.replace(self._access, certificate=None, key=None))
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls()).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_watches()
        if self._runner is not None:
            await self._runner.cleanup()
        for session in (self._administrator, self._anonymous):
            if session is not None:
                await session.close()

    def login(self, original: Path) -> Path:
        """A kubeconfig of the same user that leads through this proxy."""
        content = yaml.safe_load(original.read_text())
        for entry in content["clusters"]:
            entry["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        path = original.with_name(f"{original.stem}-by-{self.port}.kubeconfig")
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
        return path

    def on(self, match: Match, fault: Fault, *, skip: int = 0, times: int | None = None) -> Rule:
        """Apply the fault to matching requests from now on; the first matching rule wins."""
        rule = Rule(match, fault, skip=skip, times=times)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Remove all rules."""
        for rule in self._rules:
            rule.end()
        self._rules.clear()

    async def watched(self, match: Match = lambda _: True, *, seconds: float = 120.0) -> None:
        """Return once a watch that matches is open."""
        async with asyncio.timeout(seconds):
            while not any(match(stream.request) for stream in self._streams):
                self._opened.clear()
                await self._opened.wait()

    def cut_watches(self, match: Match = lambda _: True) -> int:
        """Break the open watches that match, and return their number."""
        found = [stream for stream in self._streams if match(stream.request)]
        for stream in found:
            stream.cut.set()
        return len(found)

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Break every connection, whatever the rules; no request reaches the API server."""
        self._closed = True
        self.cut_watches()
        try:
            yield
        finally:
            self._closed = False

    async def inject_event(self, event: Mapping[str, Any], match: Match = lambda _: True) -> int:
        """Send an event to the open watches that match, and return their number."""
        found = [stream for stream in self._streams if match(stream.request)]
        for stream in found:
            await stream.response.write(json.dumps(event).encode() + b"\n")
        return len(found)

    def _tls(self) -> ssl.SSLContext:
        pair = self._authority.server(
            f"proxy-{self.port}", user="kube-apiserver", hosts=controlplane.NAMES
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(self._authority.files.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    async def _serve(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(
            method=incoming.method,
            path=incoming.path,
            query=dict(incoming.query),
            headers={k: v for k, v in incoming.headers.items() if k.lower() not in _HOP}
            | _identity(incoming),
            body=await incoming.read(),
            url=incoming.raw_path,
        )
        if self._closed:
            _abort(incoming)
            return web.Response()
        rule = next((rule for rule in self._rules if rule.takes(request)), None)
        try:
            if request.watch and rule is None:
                return await self._watch(request, incoming)
            if incoming.headers.get("Upgrade", "").lower() == "websocket" and rule is None:
                return await self._relay(request, incoming)
            answer = await (
                self._forward(request) if rule is None else rule.fault(request, self._forward)
            )
        except (Cut, aiohttp.ClientError, OSError):
            _abort(incoming)
            return web.Response()
        return web.Response(status=answer.code, headers=dict(answer.headers), body=answer.body)

    async def _forward(self, request: Request) -> Answer:
        async with self._ask(request) as answer:
            return Answer(answer.status, _passed(answer), await answer.read())

    async def _watch(self, request: Request, incoming: web.Request) -> web.StreamResponse:
        async with self._ask(request) as answer:
            if answer.status != 200:
                body = await answer.read()
                return web.Response(status=answer.status, headers=_passed(answer), body=body)
            response = web.StreamResponse(headers=_passed(answer))
            await response.prepare(incoming)
            await self._until_cut(request, incoming, response, _copy(response, answer))
            return response

    async def _relay(self, request: Request, incoming: web.Request) -> web.StreamResponse:
        """A WebSocket, such as a port-forward, message by message."""
        offered = incoming.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [word.strip() for word in offered.split(",") if word.strip()]
        try:
            upstream = await self._session(request).ws_connect(
                self._url(request),
                protocols=protocols,
                headers={
                    k: v for k, v in request.headers.items() if not websockets.is_handshake(k)
                },
                max_msg_size=0,
            )
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status, text=error.message)
        async with upstream:
            response = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
            await response.prepare(incoming)
            await self._until_cut(
                request, incoming, response, websockets.pass_on(response, upstream)
            )
            return response

    async def _until_cut(
        self,
        request: Request,
        incoming: web.Request,
        response: web.StreamResponse,
        copying: Coroutine[None, None, None],
    ) -> None:
        stream = _Stream(request, response, asyncio.Event())
        self._streams.append(stream)
        self._opened.set()
        try:
            await websockets.first(stream.cut.wait(), copying)
        finally:
            self._streams.remove(stream)
            if stream.cut.is_set():
                _abort(incoming)

    @contextlib.asynccontextmanager
    async def _ask(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._session(request).request(
            request.method,
            self._url(request),
            data=request.body or None,
            headers=request.headers,
            allow_redirects=False,
        ) as answer:
            yield answer

    def _session(self, request: Request) -> aiohttp.ClientSession:
        session = self._administrator if _AS in request.headers else self._anonymous
        if session is None:
            raise errors.HarnessError("this Proxy is not open; use `async with Proxy(...)`")
        return session

    def _url(self, request: Request) -> yarl.URL:
        """Forwarded as received: the API server decodes it."""
        return yarl.URL(self._access.server + request.url, encoded=True)


@dataclasses.dataclass(frozen=True, eq=False)
class _Stream:
    """An open watch or WebSocket."""

    request: Request
    response: web.StreamResponse
    cut: asyncio.Event


async def _copy(response: web.StreamResponse, answer: aiohttp.ClientResponse) -> None:
    """Forward complete lines only, so that an injected event never splits another one."""
    rest = b""
    async for chunk in answer.content.iter_any():
        head, newline, tail = (rest + chunk).rpartition(b"\n")
        rest = tail
        if newline:
            await response.write(head + newline)
    if rest:
        await response.write(rest)


def _session(access: kubeconfig.Access) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=access.ssl_context(), limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        auto_decompress=False,
        skip_auto_headers=_SKIPPED,
    )


def _identity(incoming: web.Request) -> dict[str, str]:
    """Headers with which the administrator impersonates the user of the client certificate.

    Empty for a client that has a token instead.
    """
    certificate = incoming.get_extra_info("peercert")
    if not certificate:
        return {}
    words = [pair for part in certificate.get("subject", ()) for pair in part]
    (user,) = [value for kind, value in words if kind == "commonName"]
    groups = [value for kind, value in words if kind == "organizationName"]
    if len(groups) > 1:
        raise errors.HarnessError(f"the proxy supports one group per user, but {user} has {groups}")
    return {_AS: user} | ({"Impersonate-Group": groups[0]} if groups else {})


def _passed(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}


def _abort(incoming: web.Request) -> None:
    if incoming.transport is not None:
        incoming.transport.abort()
