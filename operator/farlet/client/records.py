"""What a watch of a collection has shown, as small records in place of whole objects.

For collections of which farlet needs few fields of few objects. After a write of farlet's own, an
event can bring back an older record for a moment, so what cannot be undone rests on live reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from farlet.forge.claims import ClaimKey

T = TypeVar("T")


class Record(Protocol):
    """A part of one object."""

    @property
    def key(self) -> ClaimKey:
        """The home claim that the object is, or that it was created for."""
        ...

    @property
    def version(self) -> str:
        """resourceVersion of the object."""
        ...


R = TypeVar("R", bound=Record)


class Records(Generic[T, R]):
    """A `ResourceEventHandler` that keeps one record for each key."""

    def __init__(
        self, read: Callable[[T], R | None], *, on_change: Callable[[ClaimKey], None]
    ) -> None:
        """`read` returns the record of an object; `None`: farlet does not need this object."""
        self._read = read
        self._on_change = on_change
        self._records: dict[ClaimKey, R] = {}
        self._listed: dict[ClaimKey, R] = {}
        self._keys: defaultdict[str, set[ClaimKey]] = defaultdict(set)
        """By home namespace."""

    def __iter__(self) -> Iterator[R]:
        return iter(self._records.values())

    def get(self, key: ClaimKey) -> R | None:
        """The record, if there is one."""
        return self._records.get(key)

    def keys(self, namespace: str) -> Collection[ClaimKey]:
        """Those of the records of one home namespace."""
        return tuple(self._keys.get(namespace, ()))

    def put(self, obj: T) -> None:
        """An object as an answer shows it."""
        record = self._read(obj)
        if record is not None:
            self._put(record)

    def remove(self, key: ClaimKey) -> None:
        """The object is gone."""
        if self._records.pop(key, None) is None:
            return
        self._keys[key.namespace].discard(key)
        if not self._keys[key.namespace]:
            del self._keys[key.namespace]
        self._on_change(key)

    # --- ResourceEventHandler -----------------------------------------------------------------

    def listing(self) -> None:
        """A list is about to be requested."""
        self._listed = {}

    def listed(self, obj: T) -> None:
        """One object of a list."""
        record = self._read(obj)
        if record is not None:
            self._listed[record.key] = record

    def replaced(self, _objects: Sequence[T], _version: int) -> None:
        """A list is complete; `listed` got what it contains."""
        before, self._records = self._records, self._listed
        self._listed = {}
        self._keys.clear()
        for key in self._records:
            self._keys[key.namespace].add(key)
        for key in before.keys() | self._records.keys():
            if before.get(key) != self._records.get(key):
                self._on_change(key)

    def changed(self, kind: str, obj: T) -> None:
        """One event."""
        record = self._read(obj)
        if record is None:
            return
        if kind == "DELETED":
            self.remove(record.key)
        else:
            self._put(record)

    def _put(self, record: R) -> None:
        before = self._records.get(record.key)
        # API servers always write a version.
        if before is not None and int(before.version or 0) >= int(record.version or 0):
            return
        self._records[record.key] = record
        self._keys[record.key.namespace].add(record.key)
        self._on_change(record.key)
