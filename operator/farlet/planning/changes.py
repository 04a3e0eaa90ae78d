"""What of a home pod has changed since its mirror was written, and the write that follows.

`forge.applied` knows whether something has changed; the write then contains the changed fields
only, as they would be in a new mirror. What others have added to the mirror stays. Pure.
"""

from __future__ import annotations

import hashlib

from farlet import constants
from farlet.access.changes import ChangeLog
from farlet.constants import APPLIED, JSON
from farlet.context import Context
from farlet.forge import applied, scheduling
from farlet.forge import pod as pods
from farlet.forge.applied import Applied
from farlet.k8s_types import NewPod, Pod
from farlet.planning.actions import UpdateMirror
from farlet.planning.predicates import epoch, uid


def update(
    home: Pod, mirror: Pod, *, selected: str | None, ctx: Context, now: float
) -> UpdateMirror | None:
    """The write for M; `None` if H has not changed since M was written.

    `selected` is the access mode that H selects now: with `remote` its marks for controllers of
    the foreign cluster travel, unless M runs in another mode.
    """
    record = applied.read(mirror)
    if record is None:
        return None
    changed = applied.changed(home, record)
    if not changed:
        return None
    marked = mirror["metadata"].get("annotations", {}).get(constants.ACCESS)
    access = constants.REMOTE if selected == marked == constants.REMOTE else ""
    carried = pods.carried(home, access=access, ctx=ctx)
    spec = _spec(home, mirror, changed, ctx=ctx, now=now)
    text = applied.text(
        home,
        mirror=mirror["metadata"].get("generation", 0) + 1 if spec else record.mirror,
        labels=carried.labels,
        annotations=carried.annotations,
    )
    if text is None:
        return None
    metadata: JSON = {"uid": uid(mirror), **_metadata(mirror, changed, record, carried)}
    metadata.setdefault("annotations", {})[APPLIED] = text
    body: JSON = {"metadata": metadata}
    if spec:
        # The list of tolerations is replaced, and the next generation is known, for this one only.
        metadata["resourceVersion"] = mirror["metadata"]["resourceVersion"]
        body["spec"] = spec
    return UpdateMirror(home, mirror, body, tuple(sorted(changed)), wanted(home))


def wanted(home: Pod) -> str:
    """Equal for two states of a home pod that ask for the same mirror."""
    together = "".join(f"{path}={one} " for path, one in sorted(applied.digests(home).items()))
    return hashlib.blake2b(together.encode(), digest_size=12).hexdigest()


def with_deadline_left(pod: NewPod, home: Pod, *, now: float) -> NewPod:
    """A new mirror of a pod that was started before: its deadline counts from then."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    started = epoch(home.get("status", {}).get("startTime"))
    if seconds is None or started is None:
        return pod
    left = max(1, int(seconds - (now - started)))
    return {**pod, "spec": {**pod["spec"], "activeDeadlineSeconds": left}}


def _metadata(
    mirror: Pod, changed: frozenset[str], record: Applied, carried: pods.Carried
) -> dict[str, dict[str, str | None]]:
    """Changed labels and annotations; `None` removes one that M had from H."""
    metadata = mirror["metadata"]
    result = {}
    for name, path, there, now, before in (
        ("labels", applied.LABELS, metadata.get("labels"), carried.labels, record.labels),
        (
            "annotations",
            applied.ANNOTATIONS,
            metadata.get("annotations"),
            carried.annotations,
            record.annotations,
        ),
    ):
        if path not in changed:
            continue
        present = there or {}
        patch: dict[str, str | None] = {k: v for k, v in now.items() if present.get(k) != v}
        gone = [key for key in before if key in present and key not in now]
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
    wanted = scheduling.tolerations(home, ctx, ChangeLog()) or []
    rest = list(wanted)
    merged = []
    for one in before:
        same = next((other for other in rest if _timeless(other) == _timeless(one)), one)
        merged.append(same)
        if same in rest:
            rest.remove(same)
    return [*merged, *rest]


def _timeless(toleration: JSON) -> JSON:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _deadline(home: Pod, mirror: Pod, *, now: float) -> int | None:
    """Seconds from the start of M until the deadline of H, which counts from the start of H."""
    seconds = home["spec"].get("activeDeadlineSeconds")
    if seconds is None:
        return None
    started = epoch(home.get("status", {}).get("startTime"))
    mirror_started = epoch(mirror.get("status", {}).get("startTime")) or now
    return max(1, int(seconds - (mirror_started - (started or mirror_started))))
