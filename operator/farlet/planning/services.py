"""Which foreign Services and EndpointSlices have to change so that they show the home ones: pure.

Decided on complete lists of both sides, by the identities of the objects. A namespace has thousands
of endpoints, each change of one is a pass over all, and the loop that renews the Lease waits
meanwhile. So only what is written is forged, and only when its turn comes.

An object of another owner that has the name is not in the list of reflected ones; its creation
fails then, and it is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial

from farlet.constants import HOME_STATE, JSON
from farlet.context import Context
from farlet.forge import services
from farlet.k8s_types import ObjectMeta

_NONE: Mapping[str, str] = {}
_NUMBER = re.compile(r"[0-9]{1,20}")
"""A resourceVersion that can be compared (KEP-5504)."""


@dataclass(frozen=True, slots=True)
class Create:
    """POST this object."""

    body: JSON


@dataclass(frozen=True, slots=True)
class Replace:
    """PUT this object in the place of one with this metadata."""

    body: JSON
    existing: ObjectMeta


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE the object with this metadata."""

    existing: ObjectMeta


Action = Create | Replace | Delete


GONE = ""
"""The state of an object that does not exist at home."""


def subject(action: Action) -> tuple[str, str]:
    """The name of the object, and the state that it should show."""
    if isinstance(action, Delete):
        return action.existing["name"], GONE
    metadata = action.body["metadata"]
    return metadata["name"], metadata["annotations"][HOME_STATE]


def later(foreign: Mapping[str, ObjectMeta], version: int) -> dict[str, str]:
    """Name -> state of the objects that show home as it was after `version`.

    Another virtual node wrote them, whose watch is ahead of ours; or home was restored from a
    backup.
    """
    found = {}
    for name, metadata in foreign.items():
        state = _state(metadata) or ""
        shown = state.rpartition("/")[2]
        if _NUMBER.fullmatch(shown) and int(shown) > version:
            found[name] = state
    return found


def of_services(
    home: Iterable[JSON],
    foreign: Mapping[str, ObjectMeta],
    *,
    left_out: Mapping[str, str] = _NONE,
    kept: Set[str] = frozenset(),
) -> Iterator[Action]:
    """`foreign`: metadata of the reflected Services, by name.

    `left_out`: name -> state of those that the foreign API server did not accept a moment ago.
    `kept`: names of those that stay as they are.
    """
    wanted = {}
    for one in home:
        identity = services.service_identity(one)
        if identity is not None:
            wanted[identity.name] = _Wanted(
                identity.state, partial(services.service, one, identity)
            )
    return _actions(wanted, foreign, left_out, kept)


def of_slices(
    home: Iterable[JSON],
    foreign: Mapping[str, ObjectMeta],
    *,
    reflected: Collection[str],
    ctx: Context,
    left_out: Mapping[str, str] = _NONE,
    kept: Set[str] = frozenset(),
) -> Iterator[Action]:
    """`reflected`: names of the Services that are reflected now.

    A slice belongs to a Service by a label. So without its Service, a slice would add endpoints to
    a Service of another owner.
    """
    wanted = {}
    for one in home:
        identity = services.slice_identity(one, ctx)
        if identity is not None and identity.service in reflected:
            wanted[identity.name] = _Wanted(
                identity.state, partial(services.endpoint_slice, one, identity, ctx)
            )
    return _actions(wanted, foreign, left_out, kept)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A foreign object that should exist."""

    state: str
    forge: Callable[[], JSON]


def _actions(
    wanted: Mapping[str, _Wanted],
    foreign: Mapping[str, ObjectMeta],
    left_out: Mapping[str, str],
    kept: Set[str],
) -> Iterator[Action]:
    for name, existing in foreign.items():
        if name not in wanted and name not in kept and left_out.get(name) != GONE:
            yield Delete(existing)
    for name, one in wanted.items():
        if name in kept or left_out.get(name) == one.state:
            continue
        shown = foreign.get(name)
        if shown is None:
            yield Create(one.forge())
        elif _state(shown) != one.state:
            yield Replace(one.forge(), shown)


def _state(metadata: ObjectMeta) -> str | None:
    return metadata.get("annotations", {}).get(HOME_STATE)
