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
from farlet.forge import applied, scheduling, timestamps
from farlet.forge import pod as pods
from farlet.forge.applied import Applied
from farlet.k8s_types import NewPod, ObjectMeta, Pod
from farlet.planning.actions import ResizeMirror, UpdateMirror
from farlet.planning.predicates import uid

LATE_SECONDS = 5
"""A mirror that starts later than its home pod by no more than this keeps its deadline: correcting
it is not worth a write."""


class Due(NamedTuple):
    """What M lacks compared with H."""

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
    resized = frozenset(filter(applied.is_resource, changed))
    updated = changed - resized
    left = _left_after_wait(home, mirror, now=now)
    update = None
    if updated and (asked := wanted(home, resize=False)) not in rejected:
        update = _update(
            home, mirror, before, updated, resized, asked, left, selected=selected, ctx=ctx, now=now
        )
    elif left is not None and (asked := _wanted_after_wait(home)) not in rejected:
        # Alone: it must not wait for a change that was rejected.
        sent: frozenset[str] = frozenset()
        update = _update(
            home, mirror, before, sent, changed, asked, left, selected=selected, ctx=ctx, now=now
        )
    return Due(update, _resize(home, mirror, before, updated, resized) if resized else None)


def _update(
    home: Pod,
    mirror: Pod,
    before: Applied,
    updated: frozenset[str],
    pending: frozenset[str],
    asked: str,
    left: int | None,
    *,
    selected: str | None,
    ctx: Context,
    now: float,
) -> UpdateMirror | None:
    """The write of `updated` and of the deadline that is `left`. Others stay `pending`."""
    marked = mirror["metadata"].get("annotations", {}).get(constants.ACCESS)
    access = constants.REMOTE if selected == marked == constants.REMOTE else ""
    carried = pods.carried(home, access=access, ctx=ctx)
    own = home["metadata"]
    spec = _spec(home, mirror, updated, left, ctx=ctx, now=now)
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
    text = applied.encoded(applied.without(record, pending, before))
    if text is None:
        return None
    metadata: JSON = {"uid": uid(mirror), **_metadata(own, mirror, updated, before, carried)}
    metadata.setdefault("annotations", {})[APPLIED] = text
    body: JSON = {"metadata": metadata}
    if spec:
        # The list of tolerations is replaced, and the next generation is known, for this one only.
        metadata["resourceVersion"] = mirror["metadata"]["resourceVersion"]
        body["spec"] = spec
    fields = updated if left is None else updated | {applied.DEADLINE}
    return UpdateMirror(home, mirror, body, tuple(sorted(fields)), asked)


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


def every_wanted(home: Pod) -> set[str]:
    """`wanted` of all changes that H, as it is now, can ask for."""
    return {wanted(home, resize=True), wanted(home, resize=False), _wanted_after_wait(home)}


def _wanted_after_wait(home: Pod) -> str:
    """Like `wanted`, of the deadline of a mirror that has waited for its node."""
    return f"wait {applied.digests(home)[applied.DEADLINE]}"


def with_deadline_left(pod: NewPod, home: Pod, *, now: float) -> NewPod:
    """A new mirror of a pod that was started before: its deadline counts from then."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    started = timestamps.epoch(home.get("status", {}).get("startTime"))
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


def _spec(
    home: Pod,
    mirror: Pod,
    changed: frozenset[str],
    left: int | None,
    *,
    ctx: Context,
    now: float,
) -> JSON:
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
    seconds = _deadline(home, mirror, now=now) if applied.DEADLINE in changed else None
    limits = [one for one in (seconds, left) if one is not None]
    limit = theirs.get("activeDeadlineSeconds")
    if limits and (limit is None or min(limits) < limit):
        spec["activeDeadlineSeconds"] = min(limits)
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


def _left_after_wait(home: Pod, mirror: Pod, *, now: float) -> int | None:
    """Seconds that M may run since it started, where it has waited for its node so that its
    deadline would pass later than that of H; `None` if it has not.

    Only the foreign cluster's own times are compared. A further mirror, which was created with
    less than the deadline, may so keep up to that much too long.
    """
    seconds = home["spec"].get("activeDeadlineSeconds")
    limit = mirror.get("spec", {}).get("activeDeadlineSeconds")
    if seconds is None or limit is None:
        return None
    created = timestamps.epoch(mirror["metadata"].get("creationTimestamp"))
    started = _mirror_started(mirror)
    if created is None or started is None or started > now:
        return None
    left = max(1, int(seconds - (started - created)))
    return left if limit - left > LATE_SECONDS else None


def _mirror_started(mirror: Pod) -> float | None:
    """When a kubelet started M; `None` if none has.

    The clock of a node can be ahead. The API server's own, which wrote `PodScheduled` as it bound
    M (`setPodNodeAndMetadata` in `pkg/registry/core/pod/storage`), is that of its creation.
    """
    status = mirror.get("status", {})
    started = timestamps.epoch(status.get("startTime"))
    if started is None:
        return None
    bound = (
        timestamps.epoch(one.get("lastTransitionTime"))
        for one in status.get("conditions") or ()
        if one.get("type") == "PodScheduled" and one.get("status") == "True"
    )
    return min([started, *(one for one in bound if one is not None)])


def _deadline(home: Pod, mirror: Pod, *, now: float) -> int | None:
    """Seconds from the start of M until the deadline of H, which counts from the start of H."""
    seconds = home["spec"].get("activeDeadlineSeconds")
    if seconds is None:
        return None
    mirror_started = min(_mirror_started(mirror) or now, now)
    started = timestamps.epoch(home.get("status", {}).get("startTime")) or mirror_started
    return max(1, int(seconds - (mirror_started - started)))
