"""What of a home pod has changed since its mirror was written, and the write that follows.

`forge.applied` knows whether something has changed; the write then contains the changed fields
only, as they would be in a new mirror. What others have added to the mirror stays. Pure.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Mapping
from itertools import chain
from typing import NamedTuple

import orjson

from farlet import constants
from farlet.access.changes import ChangeLog
from farlet.constants import APPLIED, JSON
from farlet.context import Context
from farlet.forge import applied, scheduling
from farlet.forge import pod as pods
from farlet.forge.applied import Applied
from farlet.k8s_types import NewPod, ObjectMeta, Pod
from farlet.planning.actions import ResizeMirror, UpdateMirror
from farlet.planning.predicates import epoch, uid

LATE_SECONDS = 5
"""A mirror that starts later than its home pod by no more than this keeps its deadline: to correct
it is not worth a write."""


class Due(NamedTuple):
    """What M lacks of H."""

    update: UpdateMirror | None = None
    resize: ResizeMirror | None = None


NOTHING_DUE = Due()


def due(
    home: Pod,
    mirror: Pod,
    *,
    selected: str | None,
    ctx: Context,
    now: float,
    rejected: Container[str] = (),
) -> Due:
    """The writes for M.

    `selected` is the access mode that H selects now: with `remote` its marks for controllers of
    the foreign cluster travel, unless M runs in another mode. An update whose `wanted` is one of
    `rejected` is not due. A resize is: the status shows that M lacks it.
    """
    before = applied.read(mirror)
    if before is None:
        return NOTHING_DUE
    changed = applied.changed(home, before)
    if _started_late(home, mirror, now=now):
        changed |= {applied.DEADLINE}
    if not changed:
        return NOTHING_DUE
    resized = frozenset(filter(applied.is_resource, changed))
    updated = changed - resized
    sends = updated and wanted(home, resize=False) not in rejected
    return Due(
        _update(home, mirror, before, updated, resized, selected=selected, ctx=ctx, now=now)
        if sends
        else None,
        _resize(home, mirror, before, updated, resized) if resized else None,
    )


def _update(
    home: Pod,
    mirror: Pod,
    before: Applied,
    updated: frozenset[str],
    resized: frozenset[str],
    *,
    selected: str | None,
    ctx: Context,
    now: float,
) -> UpdateMirror | None:
    marked = mirror["metadata"].get("annotations", {}).get(constants.ACCESS)
    access = constants.REMOTE if selected == marked == constants.REMOTE else ""
    carried = pods.carried(home, access=access, ctx=ctx)
    own = home["metadata"]
    spec = _spec(home, mirror, updated, ctx=ctx, now=now)
    record = applied.record(
        home,
        mirror=mirror["metadata"].get("generation", 0) + 1 if spec else before.mirror,
        labels=_from_home(
            applied.LABELS in updated, carried.labels, before.labels, own.get("labels")
        ),
        annotations=_from_home(
            applied.ANNOTATIONS in updated,
            carried.annotations,
            before.annotations,
            own.get("annotations"),
        ),
    )
    text = applied.encoded(applied.without(record, resized, before))
    if text is None:
        return None
    metadata: JSON = {"uid": uid(mirror), **_metadata(own, mirror, updated, before, carried)}
    metadata.setdefault("annotations", {})[APPLIED] = text
    body: JSON = {"metadata": metadata}
    if spec:
        # The list of tolerations is replaced, and the next generation is known, for this one only.
        metadata["resourceVersion"] = mirror["metadata"]["resourceVersion"]
        body["spec"] = spec
    return UpdateMirror(home, mirror, body, tuple(sorted(updated)), wanted(home, resize=False))


def _resize(
    home: Pod, mirror: Pod, before: Applied, updated: frozenset[str], resized: frozenset[str]
) -> ResizeMirror:
    """Amounts are set, never removed, as in `validateContainerResize` of
    `pkg/apis/core/validation`; what a LimitRange has added stays.
    """
    spec: JSON = {}
    for (group, name), amounts in applied.resources(home).items():
        if applied.resources_path(group, name) in resized:
            spec.setdefault(group, []).append({"name": name, "resources": amounts})
    if applied.RESOURCES in resized:
        spec["resources"] = applied.amounts(home["spec"].get("resources"))
    now = applied.record(home, mirror=0, labels=before.labels, annotations=before.annotations)
    record = applied.without(now, updated, before)
    body: JSON = {"metadata": {"uid": uid(mirror)}, "spec": spec}
    return ResizeMirror(home, mirror, body, record, wanted(home, resize=True))


def wanted(home: Pod, *, resize: bool) -> str:
    """Equal for two states of a home pod that ask for the same."""
    asked = sorted(
        one for one in applied.digests(home).items() if applied.is_resource(one[0]) is resize
    )
    together = "".join(f"{path}={digest} " for path, digest in asked)
    return hashlib.blake2b(together.encode(), digest_size=12).hexdigest()


def with_deadline_left(pod: NewPod, home: Pod, *, now: float) -> NewPod:
    """A new mirror of a pod that was started before: its deadline counts from then."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    started = epoch(home.get("status", {}).get("startTime"))
    if seconds is None or started is None:
        return pod
    left = max(1, int(seconds - (now - started)))
    return {**pod, "spec": {**pod["spec"], "activeDeadlineSeconds": left}}


def _from_home(
    changed: bool, carried: Iterable[str], before: Iterable[str], own: Mapping[str, str] | None
) -> Iterable[str]:
    """The keys that M has from H after a write. M keeps one that a changed setting now keeps from
    new mirrors, until H removes it.
    """
    return {*carried, *(key for key in before if key in (own or {}))} if changed else before


def _metadata(
    home: ObjectMeta,
    mirror: Pod,
    changed: frozenset[str],
    before: Applied,
    carried: pods.Carried,
) -> dict[str, dict[str, str | None]]:
    """Changed labels and annotations; `None` removes one that M had from H, which H removed."""
    metadata = mirror["metadata"]
    result = {}
    for name, path, own, there, now, had in (
        (
            "labels",
            applied.LABELS,
            home.get("labels"),
            metadata.get("labels"),
            carried.labels,
            before.labels,
        ),
        (
            "annotations",
            applied.ANNOTATIONS,
            home.get("annotations"),
            metadata.get("annotations"),
            carried.annotations,
            before.annotations,
        ),
    ):
        if path not in changed:
            continue
        present = there or {}
        patch: dict[str, str | None] = {k: v for k, v in now.items() if present.get(k) != v}
        gone = [key for key in had if key in present and key not in (own or {})]
        patch |= {key: None for key in gone if not key.startswith(constants.RESERVED)}
        if patch:
            result[name] = patch
    return result


def _spec(home: Pod, mirror: Pod, changed: frozenset[str], *, ctx: Context, now: float) -> JSON:
    """A strategic merge patch of the spec, by the rules of `ValidatePodUpdate` in
    `pkg/apis/core/validation`: tolerations can only be added, a deadline only get shorter.
    """
    spec: JSON = {}
    for (group, name), image in applied.images(home).items():
        if applied.image_path(group, name) in changed:
            spec.setdefault(group, []).append({"name": name, "image": image})
    theirs = mirror.get("spec", {})
    if applied.TOLERATIONS in changed:
        before = theirs.get("tolerations") or []
        merged = _tolerations(before, home["spec"].get("tolerations") or [], ctx)
        if merged != before:
            spec["tolerations"] = merged
    if applied.DEADLINE in changed:
        seconds = _deadline(home, mirror, now=now)
        limit = theirs.get("activeDeadlineSeconds")
        if seconds is not None and (limit is None or seconds < limit):
            spec["activeDeadlineSeconds"] = seconds
    return spec


def _tolerations(before: list[JSON], home: list[JSON], ctx: Context) -> list[JSON]:
    """Those of M, with new seconds where H has others, and those that H has more."""
    rest: dict[bytes, deque[JSON]] = defaultdict(deque)
    for one in scheduling.tolerations(home, ctx, ChangeLog()) or []:
        rest[_timeless(one)].append(one)
    merged = []
    for one in before:
        same = rest.get(_timeless(one))
        merged.append(same.popleft() if same else one)
    return [*merged, *chain.from_iterable(rest.values())]


def _timeless(toleration: JSON) -> bytes:
    """Equal for tolerations that differ in their seconds only."""
    timeless = {key: value for key, value in toleration.items() if key != "tolerationSeconds"}
    return orjson.dumps(timeless, option=orjson.OPT_SORT_KEYS)


def _started_late(home: Pod, mirror: Pod, *, now: float) -> bool:
    """M has waited for its node, so that its deadline would pass later than that of H."""
    limit = mirror.get("spec", {}).get("activeDeadlineSeconds")
    if limit is None or "startTime" not in mirror.get("status", {}):
        return False
    seconds = _deadline(home, mirror, now=now)
    return seconds is not None and limit - seconds > LATE_SECONDS


def _deadline(home: Pod, mirror: Pod, *, now: float) -> int | None:
    """Seconds from the start of M until the deadline of H, which counts from the start of H."""
    seconds = home["spec"].get("activeDeadlineSeconds")
    if seconds is None:
        return None
    started = epoch(home.get("status", {}).get("startTime"))
    mirror_started = epoch(mirror.get("status", {}).get("startTime")) or now
    return max(1, int(seconds - (mirror_started - (started or mirror_started))))
