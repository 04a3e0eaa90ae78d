"""What is known of both clusters, in memory, by key.

Filled by watches and by the answers to our own writes, whichever is newer; read by
`reconcile` to make snapshots. Knows no API server and decides nothing.

Ten thousand pods must fit: what nothing reads is dropped on the way in, and the rest is kept as
JSON, which takes a fifth of the memory of dicts and microseconds to read. So nobody can change
what is kept: each `get` is a copy.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson

from farlet.access import Token
from farlet.constants import API_SERVER_SUPPORT, ObjectKey
from farlet.k8s_types import ObjectMeta, PartialObject, Pod
from farlet.planning import token_rotation

T = TypeVar("T", Pod, PartialObject)

TOMBSTONES = 20_000
"""Deletions remembered per table: enough for every answer and event still in flight."""

FOR_GOOD = sys.maxsize
"""Later than every version: what was deleted for certain never comes back."""


def key_of(obj: Pod | PartialObject) -> ObjectKey:
    """Namespace and name of an object."""
    metadata = obj["metadata"]
    return ObjectKey(metadata.get("namespace", ""), metadata["name"])


def version(metadata: ObjectMeta) -> int:
    """The resourceVersion as a number; comparable within one kind (KEP-5504)."""
    return int(metadata.get("resourceVersion") or 0)


@dataclass(frozen=True, slots=True)
class _Kept:
    uid: str
    version: int
    json: bytes
    note: tuple[str, ...]


class Table(Generic[T]):
    """Objects of one kind. An older version never replaces a newer one, nor a deletion."""

    def __init__(
        self, trim: Callable[[T], T], note: Callable[[T], tuple[str, ...]] = lambda _: ()
    ) -> None:
        self._trim: Callable[[T], T] = trim
        self._note: Callable[[T], tuple[str, ...]] = note
        self._objects: dict[ObjectKey, _Kept] = {}
        self._deleted: OrderedDict[str, int] = OrderedDict()
        """uid -> the version as of which it was gone."""

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[ObjectKey]:
        return iter(self._objects)

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._objects

    def get(self, key: ObjectKey) -> T | None:
        """A copy of the newest known version."""
        known = self._objects.get(key)
        return None if known is None else self._read(known)

    def documents(self) -> list[bytes]:
        """The JSON of every object, as it is now."""
        return [known.json for known in self._objects.values()]

    def uid(self, key: ObjectKey) -> str | None:
        """The uid of what is known under this key."""
        known = self._objects.get(key)
        return None if known is None else known.uid

    def notes(self) -> Iterator[tuple[str, ...]]:
        """What was noted of each object when it was kept; reading them all costs too much."""
        return (known.note for known in self._objects.values())

    def clear(self, namespace: str) -> None:
        """Forget what is known of a namespace that is followed no longer."""
        for key in self.keys(namespace):
            del self._objects[key]

    def keys(self, namespace: str) -> list[ObjectKey]:
        """The keys in one namespace."""
        return [key for key in self._objects if key.namespace == namespace]

    def put(self, obj: T) -> bool:
        """Keep `obj` unless something newer is known; returns whether it was kept."""
        metadata = obj["metadata"]
        uid, now = metadata.get("uid", ""), version(metadata)
        if now <= self._deleted.get(uid, -1):
            return False
        key = key_of(obj)
        known = self._objects.get(key)
        if known is not None and known.version >= now:
            return False
        self._objects[key] = _Kept(uid, now, orjson.dumps(self._trim(obj)), self._note(obj))
        return True

    def remove(self, key: ObjectKey, uid: str, *, as_of: int = FOR_GOOD) -> None:
        """Drop the object if it still is that uid, and not newer.

        `as_of`: the version at which a watch or list did not show it any more. That may also
        mean that it has lost the label it is selected by, so that a later version may come back.
        """
        self._deleted[uid] = max(as_of, self._deleted.get(uid, -1))
        while len(self._deleted) > TOMBSTONES:
            self._deleted.popitem(last=False)
        known = self._objects.get(key)
        if known is not None and known.uid == uid and known.version <= as_of:
            del self._objects[key]

    def deleted(self, uid: str) -> bool:
        """The deletion of this uid was seen."""
        return uid in self._deleted

    def missing_from(
        self, listed: Iterable[T | PartialObject], namespace: str | None, as_of: int
    ) -> list[T]:
        """Known objects, not newer than `as_of`, that a complete list lacks."""
        uids = {obj["metadata"].get("uid") for obj in listed}
        return [
            self._read(known)
            for key, known in self._objects.items()
            if (namespace is None or key.namespace == namespace)
            and known.uid not in uids
            and known.version <= as_of
        ]

    @staticmethod
    def _read(known: _Kept) -> T:
        obj: T = orjson.loads(known.json)
        return obj


def _trimmed_home(pod: Pod) -> Pod:
    pod["metadata"].pop("managedFields", None)
    return pod


def _phase_and_access(pod: Pod) -> tuple[str, ...]:
    """The phase, and the access that was asked for if any was, be it by an empty word.

    Interned, since thousands share them.
    """
    annotations = pod["metadata"].get("annotations") or {}
    wanted = annotations.get(API_SERVER_SUPPORT)
    return (_phase(pod),) if wanted is None else (_phase(pod), sys.intern(wanted))


def _phase_and_tokens(mirror: Pod) -> tuple[str, ...]:
    """The phase, and of an unfinished mirror with tokens: the first issued, the first to expire."""
    phase = _phase(mirror)
    times = [t for t in token_rotation.recorded(mirror).values() if 0 < t[0] < t[1] < math.inf]
    if not times or phase in {"Succeeded", "Failed"}:
        return (phase,)
    return phase, str(min(issued for issued, _ in times)), str(min(ends for _, ends in times))


def _phase(pod: Pod) -> str:
    return sys.intern(pod.get("status", {}).get("phase", "Unknown"))


def _trimmed_mirror(pod: Pod) -> Pod:
    """Of a mirror's spec only what `plan` asks for; the rest stands in the home pod."""
    pod["metadata"].pop("managedFields", None)
    spec = pod.get("spec", {})
    kept: Any = {key: spec[key] for key in ("nodeName", "readinessGates") if key in spec}
    pod["spec"] = kept
    return pod


def _trimmed_partial(obj: PartialObject) -> PartialObject:
    metadata = obj["metadata"]
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations", {})
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    # Never more than metadata: the answer to a written Secret holds its tokens.
    return {"metadata": metadata}


@dataclass(slots=True)
class Store:
    """Home pods by their key; mirrors, Secrets and ServiceAccounts by their foreign key."""

    home: Table[Pod] = field(default_factory=lambda: Table[Pod](_trimmed_home, _phase_and_access))
    mirrors: Table[Pod] = field(
        default_factory=lambda: Table[Pod](_trimmed_mirror, _phase_and_tokens)
    )
    secrets: Table[PartialObject] = field(default_factory=lambda: Table[Any](_trimmed_partial))
    accounts: Table[PartialObject] = field(default_factory=lambda: Table[Any](_trimmed_partial))
    departed: dict[ObjectKey, Pod] = field(default_factory=dict)
    """By foreign key: mirrors as last seen, kept while their home pod is there."""
    tokens: dict[str, dict[str, Token]] = field(default_factory=dict)
    """By home uid and `Claim.key`: granted, not yet delivered."""

    def depart(self, foreign: ObjectKey, home: ObjectKey, mirror: Pod) -> None:
        """Keep a mirror's last state for as long as its home pod is there to be told of it."""
        if home in self.home:
            self.departed[foreign] = _trimmed_mirror(mirror)

    def forget(self, key: ObjectKey, foreign: ObjectKey | None, uid: str) -> None:
        """Home pod `uid` is gone: what was kept only for it goes as well."""
        self.tokens.pop(uid, None)
        if foreign is not None and key not in self.home:
            self.departed.pop(foreign, None)
