"""The foreign claims of one foreign namespace, and the Warnings about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.records import Records
from farlet.client.reflector import Reflector
from farlet.constants import VIRTUAL_NODE_ID
from farlet.context import Context
from farlet.foreign.mirror_events import DENIED_SECONDS
from farlet.forge.claims import ClaimKey, ForeignClaim
from farlet.k8s_types import Event, PersistentVolumeClaim
from farlet.planning.snapshot import Missing


class ForeignClaims:
    """Follows the claims that farlet created in `foreign` for claims of the namespace `home`."""

    def __init__(
        self,
        cluster: ApiClient,
        *,
        home: str,
        foreign: str,
        ctx: Callable[[], Context],
        on_change: Callable[[ClaimKey], None],
        on_warning: Callable[[ClaimKey, str], None] | None,
        on_state: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        """`on_warning` gets the messages of Warning Events; `None`: Events are not watched."""
        self.home = home
        self.foreign = foreign
        self.claims: Records[PersistentVolumeClaim, ForeignClaim] = Records(
            lambda obj: ForeignClaim.of(obj, home=home, ctx=ctx()), on_change=on_change
        )
        self._watch = Reflector(
            cluster,
            resources.CLAIMS,
            self.claims,
            before_list=self.claims.listing,
            on_listed=self.claims.listed,
            namespace=foreign,
            on_state=on_state,
            label_selector=f"{VIRTUAL_NODE_ID}={ctx().virtual_node_id}",
            confirm=confirm,
        )
        self._events: Reflector[Event] | None = None
        if on_warning is not None:
            self._events = Reflector(
                cluster,
                resources.WATCHED_EVENTS,
                _Warnings(self.claims, on_warning),
                namespace=foreign,
                on_state=_nothing,
                on_listed=_nothing,
                field_selector="involvedObject.kind=PersistentVolumeClaim",
                denied_seconds=DENIED_SECONDS,
            )

    def claim(self, key: ClaimKey) -> ForeignClaim | Missing:
        """As it was last seen."""
        found = self.claims.get(key)
        return found if found is not None else Missing.of(in_sync=self._watch.in_sync)

    @property
    def in_sync(self) -> bool:
        """Whether a claim that is not among `claims` does not exist."""
        return self._watch.in_sync

    @property
    def error(self) -> errors.FarletError | None:
        """Why claims cannot be watched now."""
        return self._watch.error

    def void(self) -> None:
        """What was read may be that of another cluster: read it again."""
        self._watch.void()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run())
            if self._events is not None:
                tasks.create_task(self._events.run())


class _Warnings:
    """Passes on Warnings that a watch shows. Provisioners repeat them, so those of a list, which an
    earlier process may have passed on, are left out."""

    def __init__(
        self,
        claims: Records[PersistentVolumeClaim, ForeignClaim],
        on_warning: Callable[[ClaimKey, str], None],
    ) -> None:
        self._claims = claims
        self._on_warning = on_warning

    def replaced(self, _objects: Sequence[Event], _version: int) -> None:
        """A list is complete."""

    def changed(self, kind: str, obj: Event) -> None:
        """One event of the watch."""
        uid = obj["involvedObject"].get("uid", "")
        if kind == "DELETED" or obj.get("type") != "Warning":
            return
        for claim in self._claims:
            if claim.uid == uid:
                self._on_warning(claim.key, obj.get("message") or obj.get("reason") or "")


def _nothing(*_: object) -> None:
    """No pod is concerned."""
