"""Kopf decorators, and nothing else: what Kopf sees of home is handed on as it is.

Kopf runs in a thread and loop of its own. A Kopf operator that ends cancels every task of its
loop that is younger than itself, and it takes many watch errors for its own end; so nothing
of the engine lives in there, and the engine starts Kopf again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from farlet.constants import JSON

Feed = Callable[[str | None, JSON], None]
"""Takes the type of a watch event (`None`: listed) and the pod. Callable from any thread."""

Login = Callable[[], Awaitable[kopf.ConnectionInfo]]


def register(registry: kopf.OperatorRegistry, *, node: str, login: Login, feed: Feed) -> None:
    """Register login, settings and the watch of the pods bound to `node`."""

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True  # a node may list neither namespaces nor CRDs
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.watching.field_selectors["v1", "pods"] = f"spec.nodeName={node}"
        settings.watching.chunk_size = 500
        settings.watching.connect_timeout = 10
        settings.networking.request_timeout = 30
        settings.queueing.idle_timeout = 1.0  # a worker per pod is kept no longer than of use
        settings.persistence.diffbase_storage = _NoDiffBase()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return await login()

    @kopf.on.event("v1", "pods", registry=registry)
    async def pod(event: kopf.RawEvent, **_: Any) -> None:
        feed(event["type"], dict(event["object"]))


class _NoDiffBase(kopf.DiffBaseStorage):
    """Kopf copies each object whole to find differences; with `on.event` alone nobody asks."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None
