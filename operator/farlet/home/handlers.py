"""Kopf decorators and nothing else: pod events are passed on unchanged.

Kopf runs in a thread and loop of its own. A Kopf operator that ends cancels every task of its loop
that is younger than itself, and many watch errors end it. So nothing of the engine runs in that
loop, and Kopf is restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from farlet.constants import JSON
from farlet.home.kopf_session import KopfSessions

Feed = Callable[[str | None, JSON], None]
"""Takes the type of a watch event (`None`: listed) and the pod. Callable from any thread."""


def register(
    registry: kopf.OperatorRegistry, *, node: str, sessions: KopfSessions, feed: Feed
) -> None:
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
        settings.queueing.idle_timeout = 1.0  # an idle worker per pod costs memory
        settings.persistence.diffbase_storage = _NoDiffBase()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return await sessions.log_in()

    @kopf.on.cleanup(registry=registry)
    async def close(**_: Any) -> None:
        await sessions.close()

    @kopf.on.event("v1", "pods", registry=registry)
    async def pod(event: kopf.RawEvent, **_: Any) -> None:
        feed(event["type"], dict(event["object"]))


class _NoDiffBase(kopf.DiffBaseStorage):
    """Kopf copies each whole object to find differences, which `on.event` does not need.

    With an empty object in place of `None`, Kopf would look for its own annotations in it.
    """

    def build(self, **_: Any) -> Any:
        return None

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None
