"""Kopf decorators and nothing else: `farlet manager` is an ordinary Kopf operator.

All handlers are `on.event` handlers, for which Kopf writes neither annotations nor finalizers. They
pass changes on; what follows is decided from the objects as they are then.
"""

from __future__ import annotations

from typing import Any, Protocol

import kopf

from farlet import errors
from farlet.constants import JSON
from farlet.manager.virtual_node import FARLET, GROUP, NAME_LABEL, PLURAL, VERSION


class Manager(Protocol):
    """What gets the changes, in Kopf's event loop."""

    async def start(self) -> None:
        """Before Kopf watches anything. Raises `FarletError`."""
        ...

    async def stop(self) -> None:
        """After the last event."""
        ...

    async def login(self) -> kopf.AiohttpSession:
        """Credentials for Kopf's own requests."""
        ...

    def changed(self, found: JSON, *, deleted: bool) -> None:
        """An object of any watched kind has changed."""
        ...


_OWNED = (
    ("apps", "v1", "deployments"),
    ("", "v1", "serviceaccounts"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
)


def register(registry: kopf.OperatorRegistry, manager: Manager) -> None:
    """Register start, stop, login and the watches."""

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True  # it may list neither namespaces nor CRDs
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.watching.connect_timeout = 10
        settings.networking.request_timeout = 30
        settings.queueing.idle_timeout = 1.0
        try:
            await manager.start()
        except errors.FarletError as err:
            raise kopf.PermanentError(str(err)) from None

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await manager.stop()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return await manager.login()

    async def event(event: kopf.RawEvent, **_: Any) -> None:
        manager.changed(dict(event["object"]), deleted=event["type"] == "DELETED")

    ours = {NAME_LABEL: FARLET}
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry, id="node")(event)
    kopf.on.event("", "v1", "pods", registry=registry, labels=ours, id="pod")(event)
    kopf.on.event("", "v1", "secrets", registry=registry, id="secret")(event)
    kopf.on.event(
        "certificates.k8s.io",
        "v1",
        "certificatesigningrequests",
        registry=registry,
        id="certificatesigningrequests",
    )(event)
    for group, version, plural in _OWNED:
        kopf.on.event(group, version, plural, registry=registry, id=plural)(event)
