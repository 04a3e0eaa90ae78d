"""What an administrator can do if farlet cannot watch Events of mirrors."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import capture_logs

from farlet import errors
from farlet.constants import JSON
from farlet.foreign import mirror_events
from unit.fakeclient import FakeClient

DENIED = (
    'events is forbidden: User "system:serviceaccount:farlet-far:farlet" cannot list resource '
    '"events" in API group "" in the namespace "shop-home"'
)


class Denying(FakeClient):
    async def call(self, method: str, path: str, **_: Any) -> JSON:
        raise errors.Forbidden(
            cluster="foreign", request=path, code=403, status_reason="Forbidden", message=DENIED
        )


async def test_the_log_names_the_command_for_a_node_of_farlet_connect() -> None:
    watch = mirror_events.reflector(
        Denying(), home="shop", foreign="shop-home", offer=lambda *_: None
    )
    with capture_logs() as lines:
        task = asyncio.create_task(watch.run())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
    (fix,) = (line["fix"] for line in lines if "fix" in line)
    assert "--node far --namespace shop (" in fix
    assert fix.endswith("--mirror-events=none (spec.reflection.events of a VirtualNode)")
