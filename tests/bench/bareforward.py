"""The speed of `kubectl port-forward` into a pod of the real foreign node.

A gateway's link is such a port-forward, so lists cannot pass through a gateway faster than this.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator

from bench.environment import Environment
from clusters import images, kwok, rest
from clusters.kubectl import Kubectl

_NAME = "sink"
_PORT = 8000
_LISTENS = "/tmp/listens"
_PIECE = bytes(64 * 1024)
_PROGRAM = f"""
import pathlib, socket
with socket.create_server(("127.0.0.1", {_PORT})) as server:
    pathlib.Path("{_LISTENS}").touch()
    while True:
        client = server.accept()[0]
        left = int.from_bytes(client.recv(8, socket.MSG_WAITALL), "big")
        while left and (data := client.recv(1 << 18)):
            left -= len(data)
        client.sendall(b"!")
        client.close()
"""


@dataclasses.dataclass(frozen=True)
class Sink:
    """A pod that reads whatever arrives."""

    kubectl: Kubectl

    async def mib_per_second(self, size: int) -> float:
        """Send `size` bytes through a port-forward of their own."""
        async with self.kubectl.forwarding(f"pod/{_NAME}", f":{_PORT}") as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            begun = time.monotonic()
            writer.write(size.to_bytes(8, "big"))
            for start in range(0, size, len(_PIECE)):
                writer.write(_PIECE[: size - start])
                await writer.drain()
            await reader.readexactly(1)  # the pod has read everything
            seconds = time.monotonic() - begun
            writer.close()
        return size / seconds / 2**20


@contextlib.asynccontextmanager
async def sink(on: Environment) -> AsyncIterator[Sink]:
    """Create the pod, wait until it listens; delete it at the end."""
    container = {
        "name": "main",
        "image": images.CLIENTS,
        "command": ["python3", "-c", _PROGRAM],
        "readinessProbe": {"exec": {"command": ["cat", _LISTENS]}, "periodSeconds": 1},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _NAME},
        "spec": {
            "nodeSelector": {kwok.LABEL: "real"},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }
    namespace = on.names.foreign
    await on.foreign.create("pods", pod, namespace=namespace)
    try:
        await on.foreign.until("pods", rest.ready, name=_NAME, namespace=namespace, seconds=120)
        yield Sink(Kubectl.of(on.clusters.foreign, namespace))
    finally:
        await on.foreign.delete("pods", name=_NAME, namespace=namespace)
