"""Requests about one home claim: claims, placeholders, and what is read before a deletion.

What is sent is decided in `planning.claims`. All raise what `ApiClient` raises, and `Refused`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import structlog

from farlet import errors, names
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import PROVISIONER, VIRTUAL_NODE_ID, ObjectKey, Reason
from farlet.context import Context
from farlet.forge import claims as forge
from farlet.forge.claims import ClaimKey, ForeignClaim, HomeClaim, HomeVolume
from farlet.home.claims import HomeClaims
from farlet.k8s_types import PersistentVolumeClaim
from farlet.planning.claims import Live
from farlet.planning.snapshot import Missing

log = structlog.get_logger()


class ClaimActions:
    """Sends requests, and passes on what the answers show."""

    def __init__(
        self,
        home: ApiClient,
        foreign: ApiClient,
        at_home: HomeClaims,
        *,
        ctx: Callable[[], Context],
        seen: Callable[[ClaimKey, PersistentVolumeClaim | None], None],
        confirm: Callable[[], Awaitable[None]],
        confirm_home: Callable[[], Awaitable[None]],
    ) -> None:
        """`seen` gets a foreign claim of an answer; `None`: 404. `confirm` raises unless the
        answers before it are of the recorded foreign cluster, `confirm_home` unless they are
        of the home cluster."""
        self._home = home
        self._foreign = foreign
        self._at_home = at_home
        self._ctx = ctx
        self._seen = seen
        self._confirm = confirm
        self._confirm_home = confirm_home

    async def create_claim(self, claim: HomeClaim) -> None:
        where = self._where(claim.key)
        body = forge.forge_claim(claim, self._ctx())
        try:
            answer = await self._foreign.create(resources.CLAIMS, body, namespace=where.namespace)
        except errors.Conflict:
            answer = await self._foreign.get(
                resources.CLAIMS, where.name, namespace=where.namespace
            )
            if ForeignClaim.of(answer, home=claim.key.namespace, ctx=self._ctx()) is None:
                raise errors.Refused(
                    Reason.NAME_CONFLICT,
                    f"the foreign namespace {where.namespace} has a claim {where.name} that this "
                    f"farlet did not create; the foreign claim for {claim.key} needs this name. "
                    "Delete it; farlet then continues",
                ) from None
        self._seen(claim.key, answer)

    async def create_volume(self, claim: HomeClaim) -> None:
        try:
            found = await self._home.get(resources.STORAGE_CLASSES, claim.storage_class)
        except errors.NotFound:
            raise errors.Refused(
                Reason.PROVISIONING_FAILED,
                f"the home cluster has no StorageClass {claim.storage_class} any more. Create it "
                "again",
            ) from None
        if found["provisioner"] != PROVISIONER:
            raise errors.Refused(
                Reason.PROVISIONING_FAILED,
                f"the StorageClass {claim.storage_class} has the provisioner "
                f"{found['provisioner']}, expected {PROVISIONER}",
            )
        policy = found.get("reclaimPolicy") or "Delete"
        body = forge.forge_volume(claim, self._where(claim.key), policy=policy, ctx=self._ctx())
        try:
            answer = await self._home.create(resources.VOLUMES, body)
        except errors.Conflict:
            name = names.volume_name(claim.key.uid)
            answer = await self._home.get(resources.VOLUMES, name)
            volume = HomeVolume.of(answer)
            labels = answer["metadata"].get("labels") or {}
            if volume is None or labels.get(VIRTUAL_NODE_ID) != self._ctx().virtual_node_id:
                raise errors.Refused(
                    Reason.NAME_CONFLICT,
                    f"the home cluster has a PersistentVolume {name} that this farlet did not "
                    f"create; the one for the claim {claim.key} needs this name",
                ) from None
        self._at_home.volumes.put(answer)
        log.info(
            "PersistentVolume created", claim=str(claim.key), foreign=str(self._where(claim.key))
        )

    async def expand_claim(self, foreign: ForeignClaim, size: str) -> bool:
        """Whether it had an effect: a webhook can keep the former size."""
        where = self._where(foreign.key)
        body = {
            "metadata": {"uid": foreign.uid},
            "spec": {"resources": {"requests": {"storage": size}}},
        }
        answer = await self._foreign.patch(
            resources.CLAIMS, where.name, body, namespace=where.namespace
        )
        self._seen(foreign.key, answer)
        now = ForeignClaim.of(answer, home=foreign.key.namespace, ctx=self._ctx())
        return now is None or not forge.is_larger(size, now.requested)

    async def expand_volume(self, volume: HomeVolume, size: str) -> bool:
        """Like `expand_claim`, of the placeholder."""
        body = {"metadata": {"uid": volume.uid}, "spec": {"capacity": {"storage": size}}}
        name = names.volume_name(volume.key.uid)
        answer = await self._home.patch(resources.VOLUMES, name, body)
        self._at_home.volumes.put(answer)
        now = HomeVolume.of(answer)
        return now is None or not forge.is_larger(size, now.capacity)

    async def show_capacity(self, claim: HomeClaim, size: str) -> bool:
        """Like `expand_claim`, of the status of the home claim."""
        body = {"metadata": {"uid": claim.key.uid}, "status": {"capacity": {"storage": size}}}
        answer = await self._home.patch(
            resources.CLAIM_STATUS, claim.key.name, body, namespace=claim.key.namespace
        )
        self._at_home.claims.put(answer)
        return not forge.is_larger(size, HomeClaim.of(answer).capacity)

    async def read_home(self, key: ClaimKey) -> Live:
        claim: HomeClaim | Missing = Missing.ABSENT
        volume: HomeVolume | Missing = Missing.ABSENT
        try:
            found = HomeClaim.of(
                await self._home.get(resources.CLAIMS, key.name, namespace=key.namespace)
            )
            claim = found if found.key == key else Missing.ABSENT
        except errors.NotFound:
            pass
        try:
            obj = await self._home.get(resources.VOLUMES, names.volume_name(key.uid))
            volume = HomeVolume.of(obj) or Missing.UNKNOWN
        except errors.NotFound:
            pass
        await self._confirm_home()
        return Live(claim, volume)

    async def read_foreign(self, key: ClaimKey) -> bool:
        """Whether the foreign claim does not exist."""
        where = self._where(key)
        try:
            found = await self._foreign.get(resources.CLAIMS, where.name, namespace=where.namespace)
        except (errors.NotFound, errors.Forbidden) as err:
            if isinstance(err, errors.Forbidden) and await self._exists(where.namespace):
                raise
            await self._confirm()
            self._seen(key, None)
            return True
        self._seen(key, found)
        if ForeignClaim.of(found, home=key.namespace, ctx=self._ctx()) is None:
            raise errors.Refused(
                Reason.NAME_CONFLICT,
                f"the foreign claim {where} has lost the label or annotations of farlet. Delete "
                "it, or the PersistentVolume of the home cluster, manually",
            )
        return False

    async def _exists(self, namespace: str) -> bool:
        """Whether a foreign namespace exists, as far as farlet is allowed to know. The permissions
        in it end with it."""
        try:
            await self._foreign.get(resources.NAMESPACES.metadata_only, namespace)
        except errors.NotFound:
            return False
        except errors.Forbidden:
            pass
        return True

    async def delete_claim(self, foreign: ForeignClaim, *, unused: bool) -> bool:
        """Whether it does not exist any more, confirmed as by `read_foreign`."""
        where = self._where(foreign.key)
        preconditions = {"uid": foreign.uid}
        if unused:
            preconditions["resourceVersion"] = foreign.version
        with contextlib.suppress(errors.NotFound):
            await self._foreign.delete(
                resources.CLAIMS,
                where.name,
                {"preconditions": preconditions},
                namespace=where.namespace,
            )
        return await self.read_foreign(foreign.key)

    async def delete_volume(self, volume: HomeVolume) -> None:
        body = {"preconditions": {"uid": volume.uid, "resourceVersion": volume.version}}
        with contextlib.suppress(errors.NotFound):
            await self._home.delete(resources.VOLUMES, names.volume_name(volume.key.uid), body)
        self._at_home.volumes.remove(volume.key)
        log.info("PersistentVolume deleted", claim=str(volume.key), foreign=volume.foreign)

    def _where(self, key: ClaimKey) -> ObjectKey:
        found = forge.foreign_key(key, self._ctx())
        assert found is not None, "only what is offloaded has a foreign claim"
        return found
