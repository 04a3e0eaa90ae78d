"""/pods and /runningpods/: the pods of this node as a v1 `PodList`, sent in pieces.

Ten thousand pods are 80 MiB of JSON. So a list is never in memory as a whole, stored documents are
sent unchanged where possible, and the event loop runs other tasks in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import orjson

from farlet.constants import JSON
from farlet.forge import containers
from farlet.k8s_types import Pod
from farlet.kubelet.responses import JSON_BODY, Response

BATCH = 50
"""Pods that are written before other tasks of the event loop run."""


def bound(documents: Sequence[bytes]) -> Response:
    """All pods that the home cluster bound to this node (`documents`: their JSON)."""
    return Response(200, _pod_list(documents, _unchanged), JSON_BODY)


def running(documents: Sequence[bytes]) -> Response:
    """Pods with a running container: names and images, as a kubelet's `ToAPIPod` lists them."""
    return Response(200, _pod_list(documents, _running), JSON_BODY)


def _unchanged(document: bytes) -> bytes:
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


async def _pod_list(
    documents: Sequence[bytes], to_item: Callable[[bytes], bytes | None]
) -> AsyncIterator[bytes]:
    comma = b""
    yield b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":['
    for number, document in enumerate(documents):
        if number % BATCH == 0:
            await asyncio.sleep(0)
        if (item := to_item(document)) is not None:
            yield comma + item
            comma = b","
    yield b"]}"
