"""A connection to a port of a foreign pod, through a port-forward of the foreign API server.

It reaches what listens on the loopback interface of the pod, and needs no network between farlet
and the pod. The request is a WebSocket with the protocol `v4.channel.k8s.io`: each message begins
with a channel number, 0 for data and 1 for errors, and the first message on each channel is the
port (`portforward/websocket.go` in `k8s.io/cri-streaming`). Kubelets support it since 1.6; the
newer protocol, SPDY in a WebSocket, would need SPDY here. Each request carries one connection,
without half-close.
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
"""For the foreign API server to accept the request, for which it asks the kubelet."""

MAX_KUBELET_ERROR = 1000
"""Characters."""

_PROTOCOL = "v4.channel.k8s.io"
_BUFFER = 64 * 1024
_CHUNK = _BUFFER - 15
"""A message around it has a head of 14 bytes and the channel number: together one write."""
_DATA, _ERROR = 0, 1
_PORT_BYTES = 2
_REFUSAL_BYTES = 64 * 1024


class Forward:
    """One port-forward. The caller closes its `socket`."""

    def __init__(
        self,
        response: raw_response.RawResponse,
        caller_socket: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.socket = caller_socket
        self._kubelet_error: str | None = None
        self._response = response
        self._reader = reader
        self._writer = writer
        self._protocol = Connection(ConnectionType.CLIENT, trailing_data=response.early)
        self._sending = asyncio.Lock()
        self._message_starts = True
        """The next byte is a channel number."""
        self._channel = _DATA
        self._port_bytes = dict.fromkeys((_DATA, _ERROR), _PORT_BYTES)
        """How many bytes of the port are still to come on each channel."""

    @property
    def kubelet_error(self) -> str | None:
        """The kubelet's error, for example that nothing listens on the port."""
        return self._kubelet_error

    async def run(self) -> None:
        """Carry data until either side ends."""
        pumps = [
            asyncio.create_task(self._send(), name="port-forward, sending"),
            asyncio.create_task(self._receive(), name="port-forward, receiving"),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._writer.close()
            self._response.abort()
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
                    if data := self._payload(event):
                        self._writer.write(data)
                        await self._writer.drain()
                elif isinstance(event, Ping):
                    await self._write(event.response())
                elif isinstance(event, CloseConnection):
                    return
            data = await self._response.channel.read()
            if not data:
                return
            self._protocol.receive_data(data)

    async def _write(self, event: Event) -> None:
        async with self._sending:
            # The other end can close while this waits for data or for the lock.
            if self._protocol.state is not ConnectionState.OPEN:
                raise ConnectionResetError("the other end has closed the port-forward")
            await self._response.channel.write(self._protocol.send(event))

    def _payload(self, event: BytesMessage) -> bytes:
        """The data in a message, or in a part of one."""
        data = bytes(event.data)
        if self._message_starts and data:
            self._channel, data = data[0], data[1:]
            self._message_starts = False
        self._message_starts = self._message_starts or event.message_finished
        port_bytes = self._port_bytes.get(self._channel, 0)
        self._port_bytes[self._channel] = max(0, port_bytes - len(data))
        data = data[port_bytes:]
        if self._channel == _ERROR and data:
            error = (self._kubelet_error or "") + data.decode("utf-8", "replace")
            self._kubelet_error = error[:MAX_KUBELET_ERROR]
        return data if self._channel == _DATA else b""


@contextlib.asynccontextmanager
async def opened(cluster: ApiClient, pod: ObjectKey, port: int) -> AsyncIterator[Forward]:
    """A port-forward that lasts no longer than the block.

    When either side ends, so does the other. A port on which nothing listens ends at once with a
    `kubelet_error`: the API server accepts the request before the kubelet connects. Raises
    `Unreachable` and kinds of `ApiError`.
    """
    response = await _request(cluster, pod, port)
    caller_socket, own_socket = socket.socketpair()
    caller_socket.setblocking(False)
    try:
        reader, writer = await asyncio.open_connection(sock=own_socket, limit=_BUFFER)
    except BaseException:
        response.abort()
        caller_socket.close()
        raise
    forward = Forward(response, caller_socket, reader, writer)
    running = asyncio.create_task(forward.run(), name=f"port-forward to {pod}")
    try:
        yield forward
    finally:
        running.cancel()
        # The task does not close them if it has not started yet.
        writer.transport.abort()
        response.abort()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()


async def _request(cluster: ApiClient, pod: ObjectKey, port: int) -> raw_response.RawResponse:
    resource = resources.POD_PORT_FORWARD
    path = resource.path(pod.namespace, pod.name)
    request = decode.RequestInfo(cluster.name, f"GET {path}")
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
            response = await cluster.open_stream(
                "GET",
                resource,
                pod.name,
                namespace=pod.namespace,
                query=f"ports={port}",
                headers=headers,
            )
            try:
                if not response.switched:
                    decode.read(request, response.status, await response.text(_REFUSAL_BYTES))
                    raise request.unreachable(decode.NOT_KUBERNETES.format(response.status))
                accepted = response.headers("sec-websocket-accept")
                if accepted != [generate_accept_token(key.encode()).decode()]:
                    raise request.unreachable("the server did not accept the WebSocket request")
            except BaseException:
                response.abort()
                raise
    except (OSError, TimeoutError) as err:
        raise request.unreachable(err) from err
    return response
