"""/pods and /runningpods/: the pods of this node as `PodList`s of v1, piece by piece.

Ten thousand pods are 80 MiB of JSON. So no list is ever held as a whole, what the store keeps is
sent as it is where it can be, and the loop gets its turn in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import orjson

from farlet.constants import JSON
from farlet.forge import containers
from farlet.k8s_types import Pod
from farlet.kubelet.responses import JSON_BODY, Response

AT_ONCE = 50


def bound(documents: Sequence[bytes]) -> Response:
    """All pods that are bound to this node, as home knows them (`documents`: their JSON)."""
    return Response(200, _listed(documents, _whole), JSON_BODY)


def running(documents: Sequence[bytes]) -> Response:
    """Pods with a container that runs: names and images, as `ToAPIPod` of a kubelet tells them."""
    return Response(200, _listed(documents, _running), JSON_BODY)


def _whole(document: bytes) -> bytes:
    return document


def _running(document: bytes) -> bytes | None:
    pod: Pod = orjson.loads(document)
    found: list[JSON] = [
        {"name": name, "image": status.get("image", ""), "resources": {}}
        for group in containers.GROUPS
        for name, status in containers.statuses(pod, group).items()
        if "running" in status.get("state", {})
    ]
    if not found:
        return None
    metadata = pod["metadata"]
    return orjson.dumps(
        {
            "metadata": {key: metadata.get(key) for key in ("name", "namespace", "uid")},
            "spec": {"containers": found},
            "status": {},
        }
    )


async def _listed(
    documents: Sequence[bytes], shown: Callable[[bytes], bytes | None]
) -> AsyncIterator[bytes]:
    comma = b""
    yield b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":['
    for number, document in enumerate(documents):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
        if (item := shown(document)) is not None:
            yield comma + item
            comma = b","
    yield b"]}"
