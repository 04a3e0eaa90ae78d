"""Bytes to a port of a pod abroad, by the port-forward of the foreign API server.

It reaches what listens on loopback within the pod, and needs no network between farlet and the pod.
Asked for as a WebSocket with the protocol `v4.channel.k8s.io`: each message has a channel number
before it, 0 for bytes and 1 for an error, and what comes first on either is the port
(`portforward/websocket.go` in `k8s.io/cri-streaming`). Kubelets have spoken that since 1.6; the
newer way, SPDY within a WebSocket, would need SPDY here. One connection per request, without
half-close: what runs on it must do without.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
from collections.abc import AsyncIterator

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping
from wsproto.utilities import generate_accept_token

from farlet.client import decode, raw_response, resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey

OPEN_SECONDS = 10.0
"""For the foreign API server, which asks the kubelet, to accept it."""

COMPLAINT_CHARACTERS = 1000

_PROTOCOL = "v4.channel.k8s.io"
_CHUNK = 32 * 1024
_DATA, _ERROR = 0, 1
_PORT_BYTES = 2
_REFUSAL_BYTES = 64 * 1024


class Forward:
    """One port-forward. `socket` is connected; whoever uses it closes it."""

    def __init__(
        self,
        exchange: raw_response.RawResponse,
        theirs: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.socket = theirs
        self.complaint: str | None = None
        """What the kubelet said of the port, as that nothing listens there."""
        self._exchange = exchange
        self._reader = reader
        self._writer = writer
        self._protocol = Connection(ConnectionType.CLIENT, trailing_data=exchange.early)
        self._sending = asyncio.Lock()
        self._fresh = True
        """The next bytes begin a message."""
        self._channel = _DATA
        self._greeting = dict.fromkeys((_DATA, _ERROR), _PORT_BYTES)
        """Bytes still to come on each channel that only repeat the port."""

    async def run(self) -> None:
        """Carry bytes until either side ends."""
        pumps = [
            asyncio.create_task(self._send(), name="port-forward, there"),
            asyncio.create_task(self._receive(), name="port-forward, back"),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._writer.close()
            self._exchange.abort()
        for result in await asyncio.gather(*pumps, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result

    async def _send(self) -> None:
        while data := await self._reader.read(_CHUNK):
            await self._write(BytesMessage(data=bytes((_DATA,)) + data))

    async def _receive(self) -> None:
        while True:
            for event in self._protocol.events():
                if isinstance(event, BytesMessage):
                    if data := self._told(event):
                        self._writer.write(data)
                        await self._writer.drain()
                elif isinstance(event, Ping):
                    await self._write(event.response())
                elif isinstance(event, CloseConnection):
                    return
            data = await self._exchange.channel.read()
            if not data:
                return
            self._protocol.receive_data(data)

    async def _write(self, event: Event) -> None:
        async with self._sending:
            # The other end may have said goodbye while we waited for bytes, or for our turn.
            if self._protocol.state is not ConnectionState.OPEN:
                raise ConnectionResetError("the other end has closed the port-forward")
            await self._exchange.channel.write(self._protocol.send(event))

    def _told(self, event: BytesMessage) -> bytes:
        """Bytes of the port in a message, or in a piece of one."""
        data = bytes(event.data)
        if self._fresh and data:
            self._channel, data = data[0], data[1:]
            self._fresh = False
        self._fresh = self._fresh or event.message_finished
        greeting = self._greeting.get(self._channel, 0)
        self._greeting[self._channel] = max(0, greeting - len(data))
        data = data[greeting:]
        if self._channel == _ERROR and data:
            said = (self.complaint or "") + data.decode("utf-8", "replace")
            self.complaint = said[:COMPLAINT_CHARACTERS]
        return data if self._channel == _DATA else b""


@contextlib.asynccontextmanager
async def opened(cluster: ApiClient, pod: ObjectKey, port: int) -> AsyncIterator[Forward]:
    """A port-forward that lasts no longer than the context.

    When either side ends, so does the other. A port where nothing listens shows as an end with a
    `complaint`: the API server accepts before the kubelet has tried. Raises `Unreachable` and
    kinds of `ApiError`.
    """
    exchange = await _ask(cluster, pod, port)
    theirs, ours = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=_CHUNK)
    forward = Forward(exchange, theirs, reader, writer)
    running = asyncio.create_task(forward.run(), name=f"port-forward to {pod}")
    try:
        yield forward
    finally:
        running.cancel()
        # It may not have begun to run.
        writer.transport.abort()
        exchange.abort()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()


async def _ask(cluster: ApiClient, pod: ObjectKey, port: int) -> raw_response.RawResponse:
    """The upgrade, accepted."""
    resource = resources.POD_PORT_FORWARD
    path = resource.path(pod.namespace, pod.name)
    asked = decode.RequestInfo(cluster.name, f"GET {path}")
    key = base64.b64encode(os.urandom(16)).decode()
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Protocol", _PROTOCOL),
    ]
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            exchange = await cluster.open_stream(
                "GET",
                resource,
                pod.name,
                namespace=pod.namespace,
                query=f"ports={port}",
                headers=headers,
            )
            try:
                if not exchange.switched:
                    decode.read(asked, exchange.status, await exchange.text(_REFUSAL_BYTES))
                    raise asked.unreachable(decode.NOT_KUBERNETES.format(exchange.status))
                accepted = exchange.headers("sec-websocket-accept")
                if accepted != [generate_accept_token(key.encode()).decode()]:
                    raise asked.unreachable("an upgrade that is no WebSocket of ours")
            except BaseException:
                exchange.abort()
                raise
    except (OSError, TimeoutError) as err:
        raise asked.unreachable(err) from err
    return exchange
