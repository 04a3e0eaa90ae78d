"""Clients with the WebSocket protocol from before Kubernetes 1.30, which most libraries use.

The home API server translates the newer protocol for a kubelet; it passes this one on unchanged, by
GET, and so does farlet.
"""

import collections
from urllib.parse import urlencode

import aiohttp

from clusters import kubeconfig
from integration.streaming import Far

OLDER = "v4.channel.k8s.io"
OUTPUT, STATUS = 1, 3
PORT = 8080


async def test_exec_of_an_older_client_returns_output_and_status(far: Far) -> None:
    await far.pod("web")
    query = [("command", "echo"), ("command", "said"), ("stdout", "true")]
    channels = await _spoken(far, "exec", query)
    assert channels[OUTPUT] == b"said\n"
    assert b'"status":"Success"' in channels[STATUS]


async def test_attach_of_an_older_client_connects_to_the_running_program(far: Far) -> None:
    await far.pod("web", "bash", "-c", "while sleep 0.2; do echo tick; done")
    channels = await _spoken(far, "attach", [("stdout", "true")], until=b"tick\n")
    assert channels[OUTPUT].startswith(b"tick\n")


async def test_port_forward_of_an_older_client_starts_with_the_port(far: Far) -> None:
    await far.pod("web")
    number = PORT.to_bytes(2, "little")
    channels = await _spoken(far, "portforward", [("ports", str(PORT))], until=number)
    assert channels[0].startswith(number)


async def _spoken(
    far: Far, what: str, query: list[tuple[str, str]], *, until: bytes | None = None
) -> dict[int, bytes]:
    """The data of each channel, until the end or until one has received some bytes."""
    access = kubeconfig.read(far.clusters.home.kubeconfig)
    path = f"/api/v1/namespaces/{far.workspace.home}/pods/web/{what}?{urlencode(query)}"
    channels: dict[int, bytes] = collections.defaultdict(bytes)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=access.ssl_context()),
            timeout=aiohttp.ClientTimeout(total=180),
        ) as session,
        session.ws_connect(access.server + path, protocols=(OLDER,)) as socket,
    ):
        assert socket.protocol == OLDER
        async for message in socket:
            channel = message.data[0]
            channels[channel] += message.data[1:]
            if until is not None and until in channels[channel]:
                break
    return channels
