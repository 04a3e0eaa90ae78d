"""A TCP port that anyone can flood, and that stays usable for others and harmless for the process.

A listener counts open sockets: in total, and for each source address. It accepts few connections at
a time, so that a burst never holds many more files than the limit. When the port is full, the
oldest connection from the source that has the most is dropped for a newer one. So a flood displaces
itself, and a caller from another address gets through. A protocol protects a connection from that
with `keep`, for example once the caller is authorized.

The protocols themselves limit how long a request head may take and how long a connection idles.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from farlet.settings.values import Address

BACKLOG = 256
"""Connections that wait in the kernel. They take no files of the process."""

ACCEPTED_AT_ONCE = 8
"""Before other events of the loop are handled."""

PAUSE_SECONDS = 1.0
"""Without accepting, after the kernel had no resources for a connection."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections a listener keeps open at once."""

    total: int
    per_source: int
    """From one IPv4 address, or one IPv6 network of 64 bits."""
    seconds: float | None = None
    """After which a connection is cut that was not kept."""


class Listener:
    """Listens from `listen` until `close`. Connections outlive it."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol], limits: Limits) -> None:
        """`factory` returns the protocol of a new connection."""
        self._factory = factory
        self._limits = limits
        self._listening: list[socket.socket] = []
        self._open: dict[asyncio.BaseProtocol, _Connection] = {}
        self._total = 0
        self._counts: dict[str, int] = {}
        """Open connections by source."""
        self._droppable: dict[str, dict[_Connection, None]] = {}
        """Those that are not kept, by source; the oldest first."""
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_listening = self._is_exhausted = False

    @property
    def connections(self) -> int:
        return self._total

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted."""
        return self._is_listening

    @property
    def port(self) -> int:
        """The number of the port, also if the kernel chose it."""
        port: int = self._listening[0].getsockname()[1]
        return port

    async def bind(self, at: Address) -> None:
        """Take the port; the kernel refuses connections until `listen`. Raises `OSError`."""
        found = await asyncio.get_running_loop().getaddrinfo(
            at.host or None, at.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        port = at.port
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                try:
                    sock = socket.socket(family, kind, protocol)
                except OSError:  # a kernel without IPv6
                    continue
                self._listening.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address[0], port, *address[2:]))
                port = port or sock.getsockname()[1]
            if not self._listening:
                raise OSError(errno.EADDRNOTAVAIL, "no address to listen on")
            undo.pop_all()

    def listen(self) -> None:
        """Accept connections from now on. Raises `OSError`."""
        self._is_listening = True
        for sock in self._listening:
            sock.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Accept no more connections. Those that are open stay open."""
        self._is_listening = False
        for sock in self._listening:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._listening.clear()

    def keep(self, protocol: asyncio.BaseProtocol) -> None:
        """Do not drop the connection of `protocol` for newer ones."""
        if (connection := self._open.get(protocol)) is not None:
            self._forget(connection)

    def abort(self) -> None:
        """Cut the connections that are not kept."""
        for connections in tuple(self._droppable.values()):
            for connection in tuple(connections):
                self._drop(connection)

    # --- inside ---------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as err:
                if err.errno not in _EXHAUSTED:
                    raise
                self._pause(listening, err)
                return
            self._is_exhausted = False
            self._admit(accepted, _source(peer))

    def _admit(self, accepted: socket.socket, source: str) -> None:
        if not self._has_place(source):
            accepted.close()
            return
        connection = _Connection(accepted, source, self._closed)
        self._total += 1
        self._counts[source] = self._counts.get(source, 0) + 1
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        protocol = connection.protocol = self._factory()
        self._open[protocol] = connection
        self._droppable.setdefault(connection.source, {})[connection] = None
        if self._limits.seconds is not None:
            connection.timer = loop.call_later(self._limits.seconds, self._drop, connection)
        try:
            connection.transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection.sock
            )
        except OSError:  # the peer has reset it already
            connection.sock.close()
        else:
            if connection.dropped:
                connection.transport.abort()

    def _has_place(self, source: str) -> bool:
        """Whether one more connection fits, if necessary by dropping another one."""
        if self._counts.get(source, 0) >= self._limits.per_source:
            victims = self._droppable.get(source, {})
        elif self._total >= self._limits.total:
            victims = max(self._droppable.values(), key=len, default={})
        else:
            return True
        if not victims:
            return False
        self._drop(next(iter(victims)))
        return True

    def _drop(self, connection: _Connection) -> None:
        """Cut it, and give its place away now: the socket is closed before anything is accepted."""
        self._forget(connection)
        self._uncount(connection)
        connection.dropped = True
        if connection.transport is not None:
            connection.transport.abort()

    def _forget(self, connection: _Connection) -> None:
        """Remove it from those that can be dropped."""
        if connection.timer is not None:
            connection.timer.cancel()
        same_source = self._droppable.get(connection.source, {})
        same_source.pop(connection, None)
        if not same_source:
            self._droppable.pop(connection.source, None)

    def _closed(self, connection: _Connection) -> None:
        """Its socket is closed."""
        self._forget(connection)
        self._uncount(connection)
        connection.dropped = True
        if connection.protocol is not None:
            self._open.pop(connection.protocol, None)

    def _uncount(self, connection: _Connection) -> None:
        if connection.dropped:
            return
        self._total -= 1
        self._counts[connection.source] -= 1
        if not self._counts[connection.source]:
            del self._counts[connection.source]

    def _pause(self, listening: socket.socket, err: OSError) -> None:
        if not self._is_exhausted:
            log.error("failed to accept connections", err=err.strerror)
        self._is_exhausted = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(PAUSE_SECONDS, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)


class _Socket(socket.socket):
    """Reports when it is closed: only then the file is free."""

    def __init__(self, accepted: socket.socket, on_close: Callable[[], None]) -> None:
        super().__init__(fileno=accepted.detach())
        self.setblocking(False)
        self._on_close = on_close

    def close(self) -> None:
        super().close()
        self._on_close()


class _Connection:
    """One accepted connection."""

    def __init__(
        self, accepted: socket.socket, source: str, on_close: Callable[[_Connection], None]
    ) -> None:
        self.source = source
        self.sock = _Socket(accepted, lambda: on_close(self))
        self.protocol: asyncio.BaseProtocol | None = None
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.dropped = False
        """It was cut, and does not count any more."""


def _source(peer: tuple[object, ...]) -> str:
    """The address that counts as one source. A machine with IPv6 has a whole network of 64 bits."""
    host = str(peer[0]).partition("%")[0]
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
