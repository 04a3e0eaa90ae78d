"""kubectl port-forward to a pod of the virtual node."""

import asyncio
import os

import pytest

from clusters.kubectl import FORWARDING, SPDY
from integration.streaming import Far

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

MIB = 1 << 20
ECHO = """
import asyncio
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 7777)
    print("listening", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def echoed(port: int, blob: bytes) -> bytes:
    """The response to `data` over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(blob)
        await writer.drain()

    sending = asyncio.create_task(send())
    back = await reader.readexactly(len(blob))
    await sending
    writer.close()
    return back


async def listening(far: Far) -> None:
    await far.pod("web", "python3", "-c", ECHO)
    async with far.kubectl().running("logs", "-f", "web") as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"listening\n"


@pytest.mark.parametrize("environment", [{}, SPDY], ids=["WebSocket", "SPDY"])
async def test_64_mib_pass_through_a_port_in_both_directions(
    far: Far, environment: dict[str, str]
) -> None:
    await listening(far)
    blob = os.urandom(64 * MIB)
    async with far.kubectl(**environment).forwarding("web", ":7777") as port:
        assert await echoed(port, blob) == blob


@pytest.mark.parametrize("environment", [{}, SPDY], ids=["WebSocket", "SPDY"])
async def test_50_concurrent_connections_are_separate(
    far: Far, environment: dict[str, str]
) -> None:
    await listening(far)
    blobs = [os.urandom(MIB // 4) for _ in range(50)]
    async with far.kubectl(**environment).forwarding("web", ":7777") as port:
        assert await asyncio.gather(*(echoed(port, blob) for blob in blobs)) == blobs


async def test_a_closed_port_is_reported(far: Far) -> None:
    await listening(far)
    async with far.kubectl().running("port-forward", "web", ":7778") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = FORWARDING.search(await process.stdout.readline())
        assert found is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
        assert await reader.read() == b""
        writer.close()
        assert b"error forwarding port 7778 to pod" in await process.stderr.readline()
