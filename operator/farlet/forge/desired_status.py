"""The status that a home pod should have, and the one request that brings it there.

`status.py` computes a `DesiredStatus`; `patch` compares it with the home pod. It compares only
fields that farlet writes, so it never changes or reverts what other components wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from farlet.constants import JSON
from farlet.forge import conditions, merge, status_fields
from farlet.k8s_types import Pod, PodStatus

WRITTEN = tuple(
    name
    for name, field in status_fields.POD_STATUS.items()
    if field.rule is not status_fields.Rule.DROPPED
)
_ADDRESSES = frozenset({"podIPs", "hostIPs"})


@dataclass(frozen=True, slots=True)
class DesiredStatus:
    """The status and annotations that the home pod should have.

    `status` has every field of `WRITTEN` that the pod should have and, of the conditions, those
    that farlet owns. `annotations`: key -> value, None for an annotation to remove.
    """

    status: PodStatus
    annotations: Mapping[str, str | None]


def unchanged(home: Pod) -> DesiredStatus:
    """What the home pod has already, of what farlet writes; the caller may add to its status."""
    live = cast("JSON", home.get("status", {}))
    status: JSON = {field: live[field] for field in WRITTEN if field in live}
    status["conditions"] = conditions.owned(home)
    return DesiredStatus(cast("PodStatus", status), {})


def patch(home: Pod, desired: DesiredStatus) -> JSON | None:
    """Body of a strategic merge PATCH of pods/status; None if nothing differs.

    It contains the uid, so that the server refuses it for a pod with another uid (422, since
    `metadata.uid` is immutable), and the differences, like a kubelet's (`PatchPodStatus` in
    pkg/util/pod). By the patch strategies of k8s.io/api core/v1 conditions merge by type,
    addresses by ip, objects by key; lists of container statuses are replaced as a whole. A null
    removes a field.
    """
    live, target = cast("JSON", home.get("status", {})), cast("JSON", desired.status)
    status: JSON = {}
    for field in WRITTEN:
        before, after = live.get(field), target.get(field)
        if field == "conditions" or merge.same(before, after):
            continue
        if not after and not isinstance(after, dict):
            status[field] = None
        elif before and field in _ADDRESSES:
            status[field] = [{"$patch": "replace"}, *after]
        elif isinstance(before, dict):
            status[field] = merge.difference(before, after)
        else:
            status[field] = after
    changed = _changed_conditions(home, desired)
    if changed:
        status["conditions"] = changed
    current = home["metadata"].get("annotations", {})
    annotations = {k: v for k, v in desired.annotations.items() if current.get(k) != v}
    if not status and not annotations:
        return None
    body: JSON = {"metadata": {"uid": home["metadata"]["uid"]}}
    if annotations:
        body["metadata"]["annotations"] = annotations
    if status:
        body["status"] = status
    return body


def _changed_conditions(home: Pod, desired: DesiredStatus) -> list[JSON]:
    """The elements to send; the server merges them by type."""
    live = cast("dict[str, JSON]", conditions.by_type(home))
    changed: list[JSON] = []
    for condition in cast("list[JSON]", desired.status.get("conditions", [])):
        old = live.pop(condition["type"], None)
        if old is None:
            changed.append(condition)
        elif not merge.same(old, condition):
            changed.append({**condition, **merge.difference(old, condition)})
    changed += [{"$patch": "delete", "type": gone} for gone in live if gone in conditions.OWNED]
    return changed
