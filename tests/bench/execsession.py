"""One `kubectl exec -i ... -- cat`, over a WebSocket, line by line.

The protocol is `v5.channel.k8s.io` (`k8s.io/apimachinery/pkg/util/remotecommand`): the first byte
of each message names a channel. Sent data must come back unchanged, and at the end of its input the
command must succeed.
"""

import asyncio
import contextlib
import dataclasses
import json
import random
import secrets
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp

PROTOCOL = "v5.channel.k8s.io"
LINE_BYTES = 1024
EVERY_SECONDS = 1.0
OPENING_SECONDS = 180.0
"""Seconds to start two hundred commands on two cores."""
ANSWER_SECONDS = 60.0

_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255


class Broken(Exception):
    """A session did not behave as expected."""


@dataclasses.dataclass
class Session:
    """The result of one session; times in seconds."""

    opened_after: float = 0.0
    round_trips: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Minute:
    """When all sessions are open (or have failed), and when all must end."""

    opened: asyncio.Barrier
    over: asyncio.Event


async def run(
    client: aiohttp.ClientSession, server: str, *, namespace: str, pod: str, minute: Minute
) -> Session:
    """Hold one session until the end. Raises nothing except cancellation."""
    seen = Session()
    waits = True
    try:
        begun = time.monotonic()
        async with _opened(client, server, namespace=namespace, pod=pod) as stream:
            async with asyncio.timeout(OPENING_SECONDS):
                await _line(stream)
            seen.opened_after = time.monotonic() - begun
            waits = False
            await minute.opened.wait()
            await asyncio.sleep(random.uniform(0, EVERY_SECONDS))  # not all at the same time
            while not minute.over.is_set():
                sent = time.monotonic()
                async with asyncio.timeout(ANSWER_SECONDS):
                    await _line(stream)
                seen.round_trips.append(time.monotonic() - sent)
                await asyncio.sleep(EVERY_SECONDS)
            async with asyncio.timeout(ANSWER_SECONDS):
                await _end(stream)
    except (aiohttp.ClientError, TimeoutError, OSError, Broken) as err:
        seen.error = f"{type(err).__name__}: {err}"
        if waits:
            await minute.opened.wait()
    return seen


async def trips(
    client: aiohttp.ClientSession, server: str, *, namespace: str, pod: str, count: int
) -> list[float]:
    """Seconds of each round trip, one after another. Raises `Broken` and what aiohttp raises."""
    found: list[float] = []
    async with _opened(client, server, namespace=namespace, pod=pod) as stream:
        await _line(stream)  # the command runs
        for _ in range(count):
            sent = time.monotonic()
            await _line(stream)
            found.append(time.monotonic() - sent)
        await _end(stream)
    return found


@contextlib.asynccontextmanager
async def _opened(
    client: aiohttp.ClientSession, server: str, *, namespace: str, pod: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = (
        f"{server}/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec"
        "?command=cat&stdin=true&stdout=true&stderr=true&container=main"
    )
    async with client.ws_connect(url, protocols=[PROTOCOL], max_msg_size=0) as stream:
        yield stream


async def _line(stream: aiohttp.ClientWebSocketResponse) -> None:
    """Send a line and wait until it is returned."""
    line = secrets.token_hex(LINE_BYTES // 2).encode() + b"\n"
    await stream.send_bytes(bytes([_STDIN]) + line)
    back = b""
    while len(back) < len(line):
        channel, content = await _message(stream)
        if channel != _STDOUT:
            raise Broken(f"channel {channel} sent {content[:200]!r}")
        back += content
    if back != line:
        raise Broken("the returned data differs from the sent data")


async def _end(stream: aiohttp.ClientWebSocketResponse) -> None:
    """Close the input; the command must succeed."""
    await stream.send_bytes(bytes([_CLOSE, _STDIN]))
    while True:
        channel, content = await _message(stream)
        if channel == _ERROR:
            status = json.loads(content)
            if status.get("status") != "Success":
                raise Broken(f"the command ended with {status}")
            return
        if content:
            raise Broken(f"channel {channel} sent {content[:200]!r} at the end")


async def _message(stream: aiohttp.ClientWebSocketResponse) -> tuple[int, bytes]:
    """Channel and content of the next message that has content or closes a channel."""
    while True:
        message = await stream.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise Broken(f"the stream ended: {message.type.name} {message.data!r}")
        channel, content = message.data[0], message.data[1:]
        if content or channel == _ERROR:
            return channel, content
