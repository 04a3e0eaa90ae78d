"""The claims and placeholder volumes of mapped StorageClasses in the home cluster.

A node is not allowed to watch claims before a pod of it uses them, nor to write PersistentVolumes.
So this has an identity of its own at home, which is verified at start.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.records import Records
from farlet.client.reflector import Reflector
from farlet.constants import VIRTUAL_NODE_ID, ObjectKey
from farlet.context import Context
from farlet.forge.claims import ClaimKey, HomeClaim, HomeVolume
from farlet.k8s_types import PersistentVolume, PersistentVolumeClaim
from farlet.planning.snapshot import Missing


class HomeClaims:
    """Watches both. `on_change` gets the claim of which more is known."""

    def __init__(
        self,
        client: ApiClient,
        *,
        ctx: Callable[[], Context],
        on_change: Callable[[ClaimKey], None],
        on_state: Callable[[], None],
    ) -> None:
        """`on_state`: a watch was lost or is open again."""
        self._classes = dict(ctx().storage_class_map)
        self._on_change = on_change
        self._named: dict[ObjectKey, ClaimKey] = {}
        self.claims: Records[PersistentVolumeClaim, HomeClaim] = Records(
            self._read, on_change=self._claim_changed
        )
        self.volumes: Records[PersistentVolume, HomeVolume] = Records(
            HomeVolume.of, on_change=on_change
        )
        self._claims_watch = Reflector(
            client,
            resources.CLAIMS,
            self.claims,
            before_list=self.claims.listing,
            on_listed=self.claims.listed,
            on_state=on_state,
        )
        self._volumes_watch = Reflector(
            client,
            resources.VOLUMES,
            self.volumes,
            before_list=self.volumes.listing,
            on_listed=self.volumes.listed,
            on_state=on_state,
            label_selector=f"{VIRTUAL_NODE_ID}={ctx().virtual_node_id}",
        )
        self.watches = (self._claims_watch, self._volumes_watch)

    def _read(self, obj: PersistentVolumeClaim) -> HomeClaim | None:
        claim = HomeClaim.of(obj)
        return claim if claim.storage_class in self._classes else None

    def keys(self, namespace: str) -> Set[ClaimKey]:
        """The claims of one namespace of which a claim or a placeholder was seen."""
        return {*self.claims.keys(namespace), *self.volumes.keys(namespace)}

    def claim(self, key: ClaimKey) -> HomeClaim | Missing:
        """As it was last seen."""
        found = self.claims.get(key)
        return found if found is not None else Missing.of(in_sync=self._claims_watch.in_sync)

    def named(self, namespace: str, name: str) -> HomeClaim | Missing:
        """The claim that has this name now."""
        key = self._named.get(ObjectKey(namespace, name))
        return Missing.of(in_sync=self._claims_watch.in_sync) if key is None else self.claim(key)

    def volume(self, key: ClaimKey) -> HomeVolume | Missing:
        """As it was last seen."""
        found = self.volumes.get(key)
        return found if found is not None else Missing.of(in_sync=self._volumes_watch.in_sync)

    @property
    def volumes_in_sync(self) -> bool:
        """Whether a placeholder that is not among `volumes` does not exist."""
        return self._volumes_watch.in_sync

    def _claim_changed(self, key: ClaimKey) -> None:
        name = ObjectKey(key.namespace, key.name)
        if self.claims.get(key) is not None:
            self._named[name] = key
        elif self._named.get(name) == key:
            del self._named[name]
        self._on_change(key)

    @property
    def error(self) -> errors.FarletError | None:
        """Why a watch does not work now."""
        return self._claims_watch.error or self._volumes_watch.error
