"""Store what the watches of one foreign namespace report, and wake the pods it concerns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from farlet import store
from farlet.constants import ObjectKey
from farlet.k8s_types import ObjectMeta, PartialObject, Pod
from farlet.store import Store, Table, key_of


class Accounts(Mapping[str, ObjectMeta]):
    """The ServiceAccounts of one namespace, by name."""

    def __init__(self, namespace: str, table: Table[PartialObject]) -> None:
        self._namespace = namespace
        self._table = table

    def __getitem__(self, name: str) -> ObjectMeta:
        account = self._table.get(ObjectKey(self._namespace, name))
        if account is None:
            raise KeyError(name)
        return account["metadata"]

    def __iter__(self) -> Iterator[str]:
        return (key.name for key in self._table.keys(self._namespace))

    def __len__(self) -> int:
        return len(self._table.keys(self._namespace))


class Mirrors:
    """Handles the mirror pods of one foreign namespace."""

    def __init__(
        self,
        store: Store,
        *,
        home: str,
        foreign: str,
        wake: Callable[[ObjectKey], None],
        ended: Callable[[Pod], None],
    ) -> None:
        """`ended` gets each mirror that is being deleted, or is gone."""
        self._store = store
        self._home = home
        self._foreign = foreign
        self._wake = wake
        self._ended = ended

    def replaced(self, objects: Sequence[Pod], version: int) -> None:
        """A complete list: what it does not contain was deleted while no watch was open."""
        for gone in self._store.mirrors.missing_from(objects, self._foreign, version):
            self._vanished(gone, as_of=version)
        for pod in objects:
            self._put(pod)

    def changed(self, kind: str, obj: Pod) -> None:
        """One event. One that is older than the stored object changes nothing."""
        if kind == "DELETED":
            self._vanished(obj, as_of=store.version(obj["metadata"]))
        else:
            self._put(obj)

    def _put(self, pod: Pod) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            self._ended(pod)
        if self._store.mirrors.put(pod):
            self._wake(key_of(pod))

    def _vanished(self, pod: Pod, *, as_of: int) -> None:
        key, uid = key_of(pod), pod["metadata"].get("uid", "")
        self._store.mirrors.remove(key, uid, as_of=as_of)
        known = self._store.mirrors.get(key)
        if known is None or known["metadata"].get("uid") != uid:
            self._store.depart(key, ObjectKey(self._home, key.name), pod)
        self._ended(pod)
        self._wake(key)


class Partials:
    """Handles objects of which only the metadata is watched."""

    def __init__(
        self,
        table: Table[PartialObject],
        *,
        foreign: str,
        wake: Callable[[PartialObject], None],
    ) -> None:
        self._table = table
        self._foreign = foreign
        self._wake = wake

    def replaced(self, objects: Sequence[PartialObject], version: int) -> None:
        """A complete list: what it does not contain was deleted while no watch was open."""
        for gone in self._table.missing_from(objects, self._foreign, version):
            self._vanished(gone, as_of=version)
        for obj in objects:
            self.changed("ADDED", obj)

    def changed(self, kind: str, obj: PartialObject) -> None:
        """One event. One that is older than the stored object changes nothing."""
        if kind == "DELETED":
            self._vanished(obj, as_of=store.version(obj["metadata"]))
        elif self._table.put(obj):
            self._wake(obj)

    def _vanished(self, gone: PartialObject, *, as_of: int) -> None:
        self._table.remove(key_of(gone), gone["metadata"].get("uid", ""), as_of=as_of)
        self._wake(gone)
