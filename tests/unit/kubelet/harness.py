"""The kubelet API on a real port, a caller that sends raw bytes, and a scripted foreign server.

TLS, HTTP and sockets are real. Only authentication and authorization are replaced.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusters import pki
from farlet.client import cluster as clusters
from farlet.client import tls_stream
from farlet.constants import HOME_UID, VIRTUAL_NODE_ID, ObjectKey
from farlet.context import Context, NamespaceMap
from farlet.kubelet import authentication, authorization, request_handler, server
from farlet.listeners.listener import Limits
from farlet.settings.values import Address
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from unit.reconcile import apiserver

CONTEXT = Context(node="far", home_id="there", namespaces=NamespaceMap(home="h", own="farlet"))
TOKEN = "farlets-own-token"
POD = "/api/v1/namespaces/shop-h/pods/web"
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")
EXEC = "POST /exec/shop/web/main?command=sh&input=1&output=1"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)

Script = Callable[["Peer"], Awaitable[object]]


@dataclass
class Peer:
    """One end of a connection, used by a test."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> str:
        """The head of a request or an answer."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")

    async def request(self, line: str, *headers: str, early: bytes = b"") -> None:
        """Send a request; `early` goes in the same write."""
        head = "\r\n".join([f"{line} HTTP/1.1", "Host: node", *headers, "", ""])
        await self.send(head.encode("latin-1") + early)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of an answer."""
        first, *lines = (await self.head()).strip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        status = int(first.split(" ")[1])
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        body = b""
        while headers.get("transfer-encoding") == "chunked":
            size = int(await self.reader.readline(), 16)
            body += (await self.reader.readexactly(size + 2))[:-2]
            if size == 0:
                break
        return status, headers, body

    async def rest(self) -> bytes:
        """All bytes until the other side closes or cuts the connection."""
        read = b""
        try:
            while data := await self.reader.read(65536):
                read += data
        except (ConnectionError, ssl.SSLError):
            pass
        return read

    def cut(self) -> None:
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


@dataclass
class Upstream:
    """The foreign API server: every connection runs `script`."""

    script: Script | None = None
    peers: list[Peer] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        assert self.script is not None
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except AssertionError as err:
            self.failures.append(err)
        finally:
            writer.close()


class Authenticator(authentication.Authenticator):
    """Accepts the token `known` and any certificate."""

    def __init__(self) -> None:
        pass

    async def authenticate(
        self, peer_certificate_der: bytes | None, authorization: str | None
    ) -> authentication.User | None:
        accepted = peer_certificate_der is not None or authorization == "Bearer known"
        return authentication.User("someone") if accepted else None


class Authorizer(authorization.Authorizer):
    """Records reviews, and allows all of them or none."""

    def __init__(self) -> None:
        self.reviews: list[tuple[str, str, tuple[str, ...]]] = []
        self.allows = True

    async def is_allowed(
        self, user: authentication.User, verb: str, path: str, subresources: Sequence[str]
    ) -> bool:
        self.reviews.append((verb, path, tuple(subresources)))
        return self.allows


@dataclass
class Harness:
    """The running kubelet API and the foreign API server."""

    port: int
    upstream: Upstream
    store: Store
    server: server.KubeletServer
    authorizer: Authorizer
    cluster: clusters.Cluster
    metrics: Metrics
    context: ssl.SSLContext
    foreign: asyncio.Server
    immediate: asyncio.Event
    stack: AsyncExitStack

    async def call(self) -> Peer:
        """A caller with a client certificate."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname="node"
        )
        self.stack.callback(writer.close)
        return Peer(reader, writer)

    async def until_streams(self, number: int) -> None:
        """Return once this number of streams is open."""
        sample = self.metrics.registry.get_sample_value
        labels = {"method": "POST", "path": "exec", "server_type": "readwrite"}
        labels["long_running"] = "true"
        while True:
            if sample("kubelet_http_inflight_requests", labels) == number:
                return
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop the server, as at the end of the process."""
        await self.server.__aexit__(None, None, None)


def pods(name: str = "web", *, recorded: bool = True) -> tuple[Any, Any]:
    """A home pod with a container `main`, and its mirror."""
    record = [{"type": "farlet.io/Mirrored", "status": "True", "message": f"mirror-{name}"}]
    home = {
        "metadata": {
            "namespace": "shop",
            "name": name,
            "uid": f"home-{name}",
            "resourceVersion": "1",
        },
        "spec": {"nodeName": "far", "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "conditions": record if recorded else []},
    }
    mirror = {
        "metadata": {
            "namespace": "shop-h",
            "name": name,
            "uid": f"mirror-{name}",
            "resourceVersion": "1",
            "labels": {VIRTUAL_NODE_ID: CONTEXT.virtual_node_id},
            "annotations": {HOME_UID: f"home-{name}"},
        },
    }
    return home, mirror


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext, Path]:
    """TLS of a server `node`, that of a caller with a certificate, and the file of their CA."""
    authority = pki.authority(folder, name="ca")
    node = authority.server("node", user="node", hosts=["node", "127.0.0.1"])
    caller = authority.client("caller", user="home-api-server")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(node.certificate, node.key)
    serving.load_verify_locations(authority.files.certificate)
    serving.verify_mode = ssl.CERT_OPTIONAL
    calling = ssl.create_default_context(cafile=str(authority.files.certificate))
    calling.load_cert_chain(caller.certificate, caller.key)
    return serving, calling, authority.files.certificate


@asynccontextmanager
async def channel_pairs(
    folder: Path, number: int
) -> AsyncIterator[list[tuple[tls_stream.TLSStream, tls_stream.TLSStream]]]:
    """TLS connections, each as a pair of client end and server end."""
    serving, calling, _ = contexts(folder)
    scratch = bytearray(tls_stream.CHUNK)
    accepted: asyncio.Queue[tls_stream.TLSStream] = asyncio.Queue()
    listener = await asyncio.get_running_loop().create_server(
        lambda: tls_stream.TLSStream(scratch, opened=accepted.put_nowait), "127.0.0.1", 0
    )
    pairs = []
    for _ in range(number):
        one = await tls_stream.connect("127.0.0.1", listener.sockets[0].getsockname()[1], scratch)
        other = await accepted.get()
        await asyncio.gather(
            one.secure(calling, server_side=False, server_hostname="node"),
            other.secure(serving, server_side=True),
        )
        pairs.append((one, other))
    try:
        yield pairs
    finally:
        listener.close()
        for pair in pairs:
            for channel in pair:
                channel.abort()


@asynccontextmanager
async def running(
    folder: Path,
    *,
    script: Script | None = None,
    grace: float = 0.0,
    connections: int = 2048,
    table: request_handler.Table | None = None,
    may_appear: Callable[[ObjectKey], bool] = lambda _: False,
) -> AsyncIterator[Harness]:
    """Start both servers with the pod `shop/web`, until the context ends."""
    serving, calling, ca = contexts(folder / "pki")
    immediate = asyncio.Event()
    upstream, store, metrics, authorizer = Upstream(script), Store(), Metrics(), Authorizer()
    home, mirror = pods()
    store.home.put(home)
    store.mirrors.put(mirror)
    async with AsyncExitStack() as stack:
        foreign = await asyncio.start_server(upstream.connected, "127.0.0.1", 0, ssl=serving)
        stack.callback(foreign.close)
        ca_file: dict[str, Any] = {"certificate-authority": str(ca)}
        kubeconfig = apiserver.kubeconfig(
            folder / "kubeconfig",
            f"https://127.0.0.1:{foreign.sockets[0].getsockname()[1]}",
            token=TOKEN,
            **ca_file,
        )
        cluster = await stack.enter_async_context(apiserver.connection(kubeconfig))
        endpoints = request_handler.RequestHandler(
            store=store,
            foreign=cluster,
            ctx=lambda: CONTEXT,
            authenticator=Authenticator(),
            authorizer=authorizer,
            metrics=metrics.kubelet,
            table=table or {},
            problem=lambda: None,
            may_appear=may_appear,
        )
        listener = await stack.enter_async_context(
            server.KubeletServer(
                endpoints.handle,
                at=Address("127.0.0.1", 0),
                contexts=lambda: serving,
                grace=grace,
                immediate=immediate,
                limits=Limits(connections, per_source=connections),
            )
        )
        yield Harness(
            port=listener.port,
            upstream=upstream,
            store=store,
            server=listener,
            authorizer=authorizer,
            cluster=cluster,
            metrics=metrics,
            context=calling,
            foreign=foreign,
            immediate=immediate,
            stack=stack,
        )
        for peer in upstream.peers:
            peer.cut()
    for failure in upstream.failures:
        raise failure


async def accept(peer: Peer) -> str:
    """Read an upgrade and accept it; returns its head."""
    head = await peer.head()
    await peer.send(SWITCHED)
    return head
