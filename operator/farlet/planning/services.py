"""Which foreign Services and EndpointSlices have to change so that they show the home ones: pure.

Decided on complete lists of both sides. An object of another owner that has the name is not in the
list of reflected ones; its creation fails then, and it is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from farlet.constants import HOME_STATE, JSON
from farlet.context import Context
from farlet.forge import services
from farlet.k8s_types import ObjectMeta


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


def of_services(home: Iterable[JSON], foreign: Mapping[str, ObjectMeta]) -> list[Action]:
    """`foreign`: metadata of the reflected Services, by name."""
    return _actions([services.service(one) for one in home], foreign)


def of_slices(
    home: Iterable[JSON],
    foreign: Mapping[str, ObjectMeta],
    *,
    reflected: Collection[str],
    ctx: Context,
) -> list[Action]:
    """`reflected`: names of the Services that are reflected now.

    A slice belongs to a Service by a label. So without its Service, a slice would add endpoints to
    a Service of another owner.
    """
    wanted = []
    for one in home:
        shown = services.endpoint_slice(one, ctx)
        if shown is not None and shown["metadata"]["labels"][services.SERVICE_NAME] in reflected:
            wanted.append(shown)
    return _actions(wanted, foreign)


def _actions(wanted: Iterable[JSON | None], foreign: Mapping[str, ObjectMeta]) -> list[Action]:
    bodies = {one["metadata"]["name"]: one for one in wanted if one is not None}
    actions: list[Action] = [
        Delete(existing) for name, existing in foreign.items() if name not in bodies
    ]
    for name, body in bodies.items():
        existing = foreign.get(name)
        if existing is None:
            actions.append(Create(body))
        elif _shown(existing) != _shown(cast("ObjectMeta", body["metadata"])):
            actions.append(Replace(body, existing))
    return actions


def _shown(metadata: ObjectMeta) -> str | None:
    return metadata.get("annotations", {}).get(HOME_STATE)
