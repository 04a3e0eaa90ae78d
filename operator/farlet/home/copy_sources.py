"""The home ConfigMaps and Secrets that pods of this node refer to, each watched alone.

The Node authorizer lets a node read such an object by its name, once a pod that refers to it is
bound to the node. Only metadata is watched: content is read when it is copied, and never kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.reflector import Reflector
from farlet.client.resources import Resource
from farlet.constants import JSON
from farlet.forge.copies import Source
from farlet.forge.references import Kind
from farlet.k8s_types import PartialObject
from farlet.planning.copies import HomeObject
from farlet.planning.snapshot import Missing
from farlet.store import version

RETRY_FIRST_SECONDS = 0.1
"""The graph of the Node authorizer can lag for a pod that was bound a moment ago."""

RESOURCES: Mapping[Kind, Resource[JSON]] = MappingProxyType(
    {Kind.CONFIG_MAP: resources.WHOLE_CONFIG_MAPS, Kind.SECRET: resources.WHOLE_SECRETS}
)


class _Followed:
    """Receives the events of one object."""

    def __init__(self, client: ApiClient, source: Source, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.found: HomeObject | None = None
        self._as_of = 0
        self.reflector = Reflector(
            client,
            RESOURCES[source.kind].metadata_only,
            self,
            namespace=source.namespace,
            field_selector=f"metadata.name={source.name}",
            on_state=changed,
            retry_first=RETRY_FIRST_SECONDS,
        )

    def replaced(self, objects: Sequence[PartialObject], version: int) -> None:
        self._as_of = version
        self._set(HomeObject.of(dict(objects[0])) if objects else None)

    def changed(self, kind: str, obj: PartialObject) -> None:
        now = version(obj["metadata"])
        if now > self._as_of:
            self._as_of = now
            self._set(None if kind == "DELETED" else HomeObject.of(dict(obj)))

    def read(self, found: HomeObject | None) -> None:
        """As a GET has answered."""
        if found is not None:
            self._as_of = max(self._as_of, int(found.version))
        self.found = found

    def _set(self, found: HomeObject | None) -> None:
        before = self.found
        if found is not None and before is not None and before.uid == found.uid:
            found = found._replace(token=before.token)  # the type of a Secret never changes
        self.found = found
        self._changed()


class Sources:
    """Starts and ends the watches. `on_change` gets each object of which more is known."""

    def __init__(
        self, client: ApiClient, *, on_change: Callable[[Source], None], tasks: asyncio.TaskGroup
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._tasks = tasks
        self._followed: dict[Source, tuple[_Followed, asyncio.Task[None]]] = {}

    def follow(self, source: Source) -> None:
        """Watch this object, if that is not done already."""
        if source not in self._followed:
            one = _Followed(self._client, source, lambda: self._on_change(source))
            task = self._tasks.create_task(one.reflector.run(), name=str(source))
            self._followed[source] = (one, task)

    def forget(self, source: Source) -> None:
        """No pod refers to it any more."""
        if (found := self._followed.pop(source, None)) is not None:
            found[1].cancel()

    def tasks(self) -> list[asyncio.Task[None]]:
        """All watches, to be cancelled at the end."""
        return [task for _, task in self._followed.values()]

    def get(self, source: Source) -> HomeObject | Missing:
        """As it was last seen; unknown before the first answer.

        A 403 says nothing about the object, and keeps what is known.
        """
        one = self._of(source)
        if one is None or not one.reflector.has_synced:
            return Missing.UNKNOWN
        return Missing.ABSENT if one.found is None else one.found

    def error(self, source: Source) -> errors.FarletError | None:
        """Why its watch does not work now."""
        one = self._of(source)
        return None if one is None else one.reflector.error

    def read(self, source: Source, found: HomeObject | None) -> None:
        """A GET has answered; `None`: 404."""
        if (one := self._of(source)) is not None:
            one.read(found)

    def _of(self, source: Source) -> _Followed | None:
        found = self._followed.get(source)
        return None if found is None else found[0]
