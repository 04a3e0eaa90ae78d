"""What is known of both clusters, in memory, by key.

Filled by watches and by the answers to our own writes, whichever is newer; `reconcile` reads it to
build snapshots. It sends no requests and decides nothing.

Ten thousand pods must fit: fields that nothing reads are dropped, and the rest is kept as JSON,
which takes a fifth of the memory of dicts and microseconds to read. Each `get` returns a copy, so
that no caller can change what is kept.
"""

from __future__ import annotations

import marshal
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
import structlog

from farlet import redaction
from farlet.access import Token
from farlet.constants import API_SERVER_SUPPORT, ObjectKey, Reason
from farlet.forge.references import Kind
from farlet.k8s_types import ObjectMeta, PartialObject, Pod, PodPhase
from farlet.planning import token_rotation
from farlet.planning.snapshot import Departure, Sign

T = TypeVar("T", Pod, PartialObject)
N = TypeVar("N")

log = structlog.get_logger()

_REASONS = {reason.value: reason.value for reason in Reason}

TOMBSTONES = 20_000
"""Deletions kept per table: enough for every answer and event that is still on its way."""

FOR_GOOD = sys.maxsize
"""Later than every version: an object whose deletion is certain never comes back."""


def key_of(obj: Pod | PartialObject) -> ObjectKey:
    """Namespace and name of an object."""
    metadata = obj["metadata"]
    return ObjectKey(metadata.get("namespace", ""), metadata["name"])


def version(metadata: ObjectMeta) -> int:
    """The resourceVersion as a number; comparable within one kind (KEP-5504)."""
    return int(metadata.get("resourceVersion") or 0)


class HomeNote(NamedTuple):
    """What is counted of a home pod."""

    phase: str
    mode: str | None
    """The value of the access annotation, even an empty one; `None` without it."""
    waits: str | None = None
    """Why farlet has not created its mirror: a value of `Reason`."""
    deleting: bool = False


class TokenTimes(NamedTuple):
    """Of the tokens of one mirror, in epoch seconds: the first issue and the first expiry."""

    issued: float
    expires: float


class MirrorNote(NamedTuple):
    """What is counted of a mirror. `tokens` is `None` if it has finished or has none."""

    phase: str
    tokens: TokenTimes | None
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class _Kept(Generic[N]):
    uid: str
    version: int
    json: bytes
    note: N
    arrived: int


class _Gone(NamedTuple):
    as_of: int
    """The version as of which it was gone."""
    arrived: int


class Table(Generic[T, N]):
    """Objects of one kind, each with a note: what is known of it without reading the object.

    Of events and answers, an older version never replaces a newer one, nor a deletion. A complete
    list replaces both, whatever the versions are: an API server whose storage was restored from a
    backup has objects again that were deleted, and lower versions. Only what arrived after the
    list was requested, with a later version than the list, is newer than the list: the answer to
    a write of ours.
    """

    def __init__(self, trim: Callable[[T], T], note: Callable[[T], N]) -> None:
        self._trim: Callable[[T], T] = trim
        self._note: Callable[[T], N] = note
        self._objects: dict[ObjectKey, _Kept[N]] = {}
        self._doubted: OrderedDict[ObjectKey, bool] = OrderedDict()
        """Objects whose last version was not valid, and whether no list came since."""
        self._deleted: OrderedDict[str, _Gone] = OrderedDict()
        """By uid."""
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[ObjectKey]:
        return iter(self._objects)

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._objects

    def get(self, key: ObjectKey) -> T | None:
        """A copy of the newest version that was seen."""
        kept = self._objects.get(key)
        return None if kept is None else self._read(kept)

    def documents(self) -> list[bytes]:
        """The JSON of every object, as it is now."""
        return [kept.json for kept in self._objects.values()]

    def uid(self, key: ObjectKey) -> str | None:
        """The uid of the object of this key."""
        kept = self._objects.get(key)
        return None if kept is None else kept.uid

    def remains(self, obj: T) -> bool:
        """Whether this object still exists, in any version.

        What else is kept by its uid is removed when it goes, so nothing may be added later.
        """
        kept = self._objects.get(key_of(obj))
        return kept is not None and kept.uid == obj["metadata"].get("uid", "")

    def note(self, key: ObjectKey) -> N | None:
        """The note of an object."""
        kept = self._objects.get(key)
        return None if kept is None else kept.note

    def notes(self) -> Iterator[N]:
        """The notes of all objects, for counts: reading all objects would cost too much."""
        return (kept.note for kept in self._objects.values())

    def clear(self, namespace: str) -> None:
        """Drop the objects of a namespace whose watch has ended."""
        for key in self.keys(namespace):
            del self._objects[key]

    def keys(self, namespace: str) -> list[ObjectKey]:
        """The keys in one namespace."""
        return [key for key in self._objects if key.namespace == namespace]

    def trimmed(self, obj: T) -> T:
        """What is kept of an object, which may change: a list of thousands need not hold more."""
        return self._trim(obj)

    def put(self, obj: T) -> bool:
        """Keep `obj` unless it is outdated or deleted; returns whether it was kept."""
        metadata = obj["metadata"]
        now = version(metadata)
        gone = self._deleted.get(metadata.get("uid", ""))
        kept = self._objects.get(key_of(obj))
        if (gone is not None and now <= gone.as_of) or (kept is not None and kept.version >= now):
            return False
        self._keep(obj)
        return True

    def mark(self) -> int:
        """A moment: take it before a list is requested."""
        return self._arrivals

    def put_listed(self, obj: T, *, since: int, as_of: int) -> bool:
        """Keep `obj` of a complete list as of `as_of`, unless something newer arrived `since`.

        Returns whether it was not known so.
        """
        metadata = obj["metadata"]
        uid = metadata.get("uid", "")
        if (gone := self._deleted.get(uid)) is not None:
            if gone.arrived > since:
                return False
            del self._deleted[uid]
        kept = self._objects.get(key_of(obj))
        if kept is not None:
            same = kept.uid == uid and kept.version == version(metadata)
            if same or self._is_newer(kept, since=since, as_of=as_of):
                return False
        self._keep(obj)
        return True

    def contradicted_by(self, listed: Iterable[T | PartialObject], *, since: int) -> bool:
        """Whether a list shows an older version than one that was known when it was requested.

        Or an object whose deletion was known. Then the server has another history.
        """
        known = {kept.uid: kept for kept in self._objects.values() if kept.arrived <= since}
        for obj in listed:
            uid = obj["metadata"].get("uid", "")
            gone, kept = self._deleted.get(uid), known.get(uid)
            if gone is not None and gone.arrived <= since:
                return True
            if kept is not None and kept.version > version(obj["metadata"]):
                return True
        return False

    def _keep(self, obj: T) -> None:
        key, metadata = key_of(obj), obj["metadata"]
        self._arrivals += 1
        self._doubted.pop(key, None)
        self._objects[key] = _Kept(
            metadata.get("uid", ""),
            version(metadata),
            _compact(orjson.dumps(self._trim(obj))),
            self._note(obj),
            self._arrivals,
        )

    @staticmethod
    def _is_newer(kept: _Kept[N], *, since: int, as_of: int) -> bool:
        return kept.arrived > since and kept.version > as_of

    def remove(self, key: ObjectKey, uid: str, *, as_of: int = FOR_GOOD) -> None:
        """Drop the object if it has that uid and is not newer than `as_of`.

        `as_of` is the version at which a watch or list no longer showed it. That can also mean that
        it has lost the label it is selected by, so that a later version can come back. Example: a
        watch sends DELETED at version 12 because the label was removed; when the label is put back,
        version 15 of the same uid is accepted, while a late event of version 11 is not.
        """
        before = self._deleted.get(uid)
        self._bury(uid, as_of if before is None else max(as_of, before.as_of))
        kept = self._objects.get(key)
        if kept is not None and kept.uid == uid and kept.version <= as_of:
            del self._objects[key]
            self._doubted.pop(key, None)

    def doubt(self, key: ObjectKey) -> None:
        """The server shows this object in a form that is not valid: what is known is outdated."""
        if key not in self._doubted:
            log.warning("object from an API server is not valid", object=str(key))
        self._doubted[key] = True
        while len(self._doubted) > TOMBSTONES:
            self._doubted.popitem(last=False)

    def doubted(self, key: ObjectKey) -> bool:
        """Whether this object is unknown, until a valid version of it comes."""
        return key in self._doubted

    def _bury(self, uid: str, as_of: int) -> None:
        self._arrivals += 1
        self._deleted[uid] = _Gone(as_of, self._arrivals)
        while len(self._deleted) > TOMBSTONES:
            self._deleted.popitem(last=False)

    def has(self, key: ObjectKey, uid: str, version: int) -> bool:
        """Whether this version of an object is known, or a later one of the same uid."""
        kept = self._objects.get(key)
        known = kept is not None and kept.uid == uid and kept.version >= version
        return known and key not in self._doubted

    def deleted_for_good(self, uid: str) -> bool:
        """Whether this uid was deleted, and not only missing in a list or watch."""
        gone = self._deleted.get(uid)
        return gone is not None and gone.as_of == FOR_GOOD

    def deleted(self, uid: str) -> bool:
        """Whether a deletion of this uid was seen."""
        return uid in self._deleted

    def remove_missing(
        self, listed: Iterable[T | PartialObject], namespace: str | None, *, since: int, as_of: int
    ) -> list[T]:
        """Drop what a complete list as of `as_of` lacks, and return it.

        Not dropped is what is newer than the list. An object in doubt may be an item of the list
        that was not valid: it is missing from the next one.
        """
        uids = {obj["metadata"].get("uid") for obj in listed}
        missing = {
            key: kept
            for key, kept in self._objects.items()
            if (namespace is None or key.namespace == namespace)
            and kept.uid not in uids
            and not self._doubted.get(key)
            and not self._is_newer(kept, since=since, as_of=as_of)
        }
        for key, kept in missing.items():
            del self._objects[key]
            self._doubted.pop(key, None)
            self._bury(kept.uid, as_of)
        for key in self._doubted:
            self._doubted[key] &= namespace is not None and key.namespace != namespace
        return [self._read(kept) for kept in missing.values()]

    def take_deletions(self) -> bytes:
        """Remove the records of deletions. Returns them packed, for `restore_deletions`."""
        gone = self._deleted.values()
        records = [*self._deleted], [one.as_of for one in gone], [one.arrived for one in gone]
        taken = marshal.dumps(records)
        self._deleted.clear()
        return taken

    def restore_deletions(self, taken: bytes) -> None:
        """Keep again what was taken, in the same order."""
        uids, as_of, arrived = marshal.loads(taken)  # noqa: S302  packed by ourselves
        self._deleted.update(zip(uids, map(_Gone, as_of, arrived), strict=True))

    @staticmethod
    def _read(kept: _Kept[N]) -> T:
        obj: T = orjson.loads(kept.json)
        return obj


def _compact(json: bytes) -> bytes:
    """A copy that takes no more memory than its length.

    What orjson returns keeps the whole buffer that it was written to: 8 KiB for 2.8 KiB of JSON.
    """
    return bytes(memoryview(json))


def _trimmed_home(pod: Pod) -> Pod:
    pod["metadata"].pop("managedFields", None)
    return pod


def _home_note(pod: Pod) -> HomeNote:
    # Interned, since thousands of pods share these texts.
    annotations = pod["metadata"].get("annotations") or {}
    mode = annotations.get(API_SERVER_SUPPORT)
    phase = _phase(pod)
    reason = pod.get("status", {}).get("reason") if phase == PodPhase.PENDING else None
    waits = _REASONS.get(reason) if isinstance(reason, str) else None
    deleting = "deletionTimestamp" in pod["metadata"]
    return HomeNote(phase, None if mode is None else sys.intern(mode), waits, deleting)


def _mirror_note(mirror: Pod) -> MirrorNote:
    phase, deleting = _phase(mirror), "deletionTimestamp" in mirror["metadata"]
    times = [t for t in token_rotation.recorded(mirror).values() if 0 < t[0] < t[1] < math.inf]
    if not times or phase in {PodPhase.SUCCEEDED, PodPhase.FAILED}:
        return MirrorNote(phase, None, deleting)
    issued, expires = (min(moments) for moments in zip(*times, strict=True))
    return MirrorNote(phase, TokenTimes(issued, expires), deleting)


def _no_note(_obj: PartialObject) -> None:
    """Nothing is counted of these."""


def _phase(pod: Pod) -> str:
    return sys.intern(pod.get("status", {}).get("phase", PodPhase.UNKNOWN.value))


def _trimmed_mirror(pod: Pod) -> Pod:
    """A mirror with only those fields of its spec that `plan` reads."""
    pod["metadata"].pop("managedFields", None)
    spec = pod.get("spec", {})
    read = (
        *("nodeName", "readinessGates", "terminationGracePeriodSeconds"),
        *("tolerations", "activeDeadlineSeconds"),
    )
    kept: Any = {key: value for key, value in spec.items() if key in read}
    if ephemeral := spec.get("ephemeralContainers"):
        kept["ephemeralContainers"] = [{"name": container["name"]} for container in ephemeral]
    pod["spec"] = kept
    _cut_texts(pod.get("status"))
    return pod


def _cut_texts(status: Any) -> None:
    """Cut all texts of a mirror's status, in place: who can write it may write megabytes."""
    left = [status]
    while left:
        node = left.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node or ())
        for key, value in items:
            if isinstance(value, str):
                if len(value) > redaction.KUBELET_CHARS:
                    node[key] = redaction.cut(value, redaction.KUBELET_CHARS)
            elif isinstance(value, dict | list):
                left.append(value)


def _trimmed_partial(obj: PartialObject) -> PartialObject:
    metadata = obj["metadata"]
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations") or {}
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    # Never more than metadata: the answer to a written Secret holds its tokens.
    return {"metadata": metadata}


def _uid(pod: Pod) -> str:
    return pod["metadata"].get("uid", "")


class Departures(MutableMapping[ObjectKey, Departure]):
    """By foreign key: how mirrors left. As in tables, the objects are kept as JSON.

    Where thousands of pods are deleted together, thousands of mirrors leave before the first home
    pods do. As dicts, each took 16 KiB.
    """

    class _Kept(NamedTuple):
        json: bytes
        """`last` and `shown`."""
        sign: Sign
        posted: bool
        doubted: bool

    def __init__(self) -> None:
        self._kept: dict[ObjectKey, Departures._Kept] = {}

    def doubt(self, namespace: str) -> None:
        """All departures from a foreign namespace may be of another cluster."""
        for key, kept in self._kept.items():
            if key.namespace == namespace:
                self._kept[key] = kept._replace(doubted=True)

    def __getitem__(self, key: ObjectKey) -> Departure:
        kept = self._kept[key]
        last, shown = orjson.loads(kept.json)
        return Departure(last, kept.sign, shown, posted=kept.posted, doubted=kept.doubted)

    def __setitem__(self, key: ObjectKey, departure: Departure) -> None:
        json = _compact(orjson.dumps([departure.last, departure.shown]))
        self._kept[key] = self._Kept(json, departure.sign, departure.posted, departure.doubted)

    def __delitem__(self, key: ObjectKey) -> None:
        del self._kept[key]

    def __iter__(self) -> Iterator[ObjectKey]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


PartialTable = Table[PartialObject, None]

_ANSWERS = frozenset({Sign.ANSWER, Sign.NOT_FOUND})


@dataclass(slots=True)
class Store:
    """Home pods by their key; mirrors, Secrets and ServiceAccounts by their foreign key."""

    home: Table[Pod, HomeNote] = field(default_factory=lambda: Table(_trimmed_home, _home_note))
    mirrors: Table[Pod, MirrorNote] = field(
        default_factory=lambda: Table(_trimmed_mirror, _mirror_note)
    )
    secrets: PartialTable = field(default_factory=lambda: Table(_trimmed_partial, _no_note))
    accounts: PartialTable = field(default_factory=lambda: Table(_trimmed_partial, _no_note))
    copies: dict[Kind, PartialTable] = field(
        default_factory=lambda: {kind: Table(_trimmed_partial, _no_note) for kind in Kind}
    )
    """Copies of home ConfigMaps and Secrets that have the mark of this virtual node."""
    departed: Departures = field(default_factory=Departures)
    """How mirrors left, kept while their home pod exists."""
    _requested: set[ObjectKey] = field(default_factory=set)
    """Foreign keys: a mirror was requested, no answer showed it, and it was not read since."""
    tokens: dict[str, dict[str, Token]] = field(default_factory=dict)
    """By home uid and `TokenSpec.key`: granted, and not delivered yet or a moment ago."""

    def put_mirror(self, mirror: Pod) -> bool:
        """Keep a mirror unless it is outdated or deleted; returns whether it was kept."""
        kept = self.mirrors.put(mirror)
        if kept:
            self.returned(mirror)
        return kept

    def returned(self, mirror: Pod) -> None:
        """A mirror is known again: how it left proves nothing any more.

        Its label was put back, or the foreign cluster was restored.
        """
        before = self.departed.get(key_of(mirror))
        if before is not None and _uid(before.last) == _uid(mirror):
            del self.departed[key_of(mirror)]

    def depart(self, foreign: ObjectKey, home: ObjectKey, mirror: Pod, sign: Sign) -> None:
        """Keep how a mirror left and its last state, while its home pod exists to show it.

        After an answer to a write, the event of the same end says nothing new: it shows the mirror
        as it was before the write, with finalizers that the write removed.
        """
        if home not in self.home:
            return
        # A watch can lag: another mirror was requested, or is known, before this one's end is.
        posted = foreign in self._requested or self.mirrors.uid(foreign) not in {None, _uid(mirror)}
        departure = Departure(_trimmed_mirror(mirror), sign, mirror["metadata"], posted=posted)
        before = self.departed.get(foreign)
        if before is not None and _uid(before.last) == _uid(mirror):
            if before.sign in _ANSWERS and sign not in _ANSWERS:
                departure = replace(before, last=departure.last)
            departure = replace(departure, posted=posted or before.posted)
            if version(before.last["metadata"]) > version(mirror["metadata"]):
                departure = replace(departure, last=before.last)
        self.departed[foreign] = departure

    def posting(self, foreign: ObjectKey, home: ObjectKey) -> None:
        """A mirror of this name is about to be requested."""
        if home in self.home:
            self._requested.add(foreign)
        if (before := self.departed.get(foreign)) is not None:
            self.departed[foreign] = replace(before, posted=True)

    def posted(self, foreign: ObjectKey) -> None:
        """An answer or a read showed the mirror that was requested."""
        self._requested.discard(foreign)

    def doubt_departures(self, namespace: str) -> None:
        """What is known of a foreign namespace may be of another cluster or another history."""
        self.departed.doubt(namespace)

    def forget(self, key: ObjectKey, foreign: ObjectKey | None, uid: str) -> None:
        """Home pod `uid` is deleted: drop what was kept only for it."""
        self.tokens.pop(uid, None)
        if foreign is not None and key not in self.home:
            self.departed.pop(foreign, None)
            self._requested.discard(foreign)

    def gather_deletions(self) -> None:
        """Move the records of deletions together, out of the memory that deleted pods leave.

        Each uid was created with its pod and keeps the page around it in use. All are removed
        before the first is created again; otherwise, it would get a place between the others.
        """
        tables: list[Table[Any, Any]] = [self.home, self.mirrors, self.secrets, self.accounts]
        tables += self.copies.values()
        taken = [table.take_deletions() for table in tables]
        for table, deletions in zip(tables, taken, strict=True):
            table.restore_deletions(deletions)
