"""Store what the watches of one foreign namespace report, and wake the pods it concerns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from farlet import store
from farlet.constants import ObjectKey
from farlet.k8s_types import ObjectMeta, PartialObject, Pod
from farlet.planning import wakes
from farlet.planning.snapshot import Sign
from farlet.store import PartialTable, Store, key_of


class Accounts(Mapping[str, ObjectMeta]):
    """The ServiceAccounts of one namespace, by name."""

    def __init__(self, namespace: str, table: PartialTable) -> None:
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
        wake: Callable[[ObjectKey, float], None],
        ended: Callable[[Pod], None],
    ) -> None:
        """`wake` gets the seconds until the pass; `ended` each mirror that is being deleted, or is
        gone."""
        self._store = store
        self._home = home
        self._foreign = foreign
        self._wake = wake
        self._ended = ended
        self._since = 0

    def listing(self) -> None:
        """A list is about to be requested.

        The watch was lost, perhaps since the foreign cluster was restored from a backup, which
        later versions do not show.
        """
        self._store.doubt_departures(self._foreign)
        self._since = self._store.mirrors.mark()

    def replaced(self, objects: Sequence[Pod], version: int) -> None:
        """A complete list: what it does not contain was deleted while no watch was open."""
        mirrors, since = self._store.mirrors, self._since
        for gone in mirrors.remove_missing(objects, self._foreign, since=since, as_of=version):
            self._removed(gone, Sign.LIST)
        for pod in objects:
            if "deletionTimestamp" in pod["metadata"]:
                self._ended(pod)
            if mirrors.put_listed(pod, since=since, as_of=version):
                self._store.returned(pod)
                self._wake(key_of(pod), wakes.COALESCE_SECONDS)

    def changed(self, kind: str, obj: Pod) -> None:
        """One event. One that is older than the stored object changes nothing."""
        metadata = obj["metadata"]
        if kind == "DELETED":
            as_of = store.version(metadata)
            self._store.mirrors.remove(key_of(obj), metadata.get("uid", ""), as_of=as_of)
            self._removed(obj, Sign.EVENT)
            return
        if "deletionTimestamp" in metadata:
            self._ended(obj)
        before = self._store.mirrors.note(key_of(obj))
        if self._store.put_mirror(obj):
            phase = None if before is None else before.phase
            self._wake(key_of(obj), wakes.after_change(obj, phase_before=phase))

    def _removed(self, pod: Pod, sign: Sign) -> None:
        key, uid = key_of(pod), pod["metadata"].get("uid", "")
        if self._store.mirrors.uid(key) != uid:
            self._store.depart(key, ObjectKey(self._home, key.name), pod, sign)
        self._ended(pod)
        self._wake(key, 0)


class Partials:
    """Handles objects of which only the metadata is watched."""

    def __init__(
        self,
        table: PartialTable,
        *,
        foreign: str,
        wake: Callable[[PartialObject], None],
    ) -> None:
        self._table = table
        self._foreign = foreign
        self._wake = wake
        self._since = 0

    def listing(self) -> None:
        """A list is about to be requested."""
        self._since = self._table.mark()

    def replaced(self, objects: Sequence[PartialObject], version: int) -> None:
        """A complete list: what it does not contain was deleted while no watch was open."""
        table, since = self._table, self._since
        for gone in table.remove_missing(objects, self._foreign, since=since, as_of=version):
            self._wake(gone)
        for obj in objects:
            if table.put_listed(obj, since=since, as_of=version):
                self._wake(obj)

    def changed(self, kind: str, obj: PartialObject) -> None:
        """One event. One that is older than the stored object changes nothing."""
        metadata = obj["metadata"]
        if kind == "DELETED":
            as_of = store.version(metadata)
            self._table.remove(key_of(obj), metadata.get("uid", ""), as_of=as_of)
            self._wake(obj)
        elif self._table.put(obj):
            self._wake(obj)
