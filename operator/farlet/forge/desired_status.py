"""What home should show of a pod, and the one request that makes it so.

`status.py` computes a `DesiredStatus`; `patch` compares it with what home shows. Only fields that
farlet writes are compared, so that nothing of anybody else's is ever touched or taken back.
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
    """What home should show.

    `status` holds all fields of `WRITTEN` that should stand there and, of the conditions, those
    that farlet owns. `annotations`: key -> value, None where it should not stand.
    """

    status: PodStatus
    annotations: Mapping[str, str | None]


def unchanged(home: Pod) -> DesiredStatus:
    """What home shows already, of what farlet writes; its status is a copy to be added to."""
    live = cast("JSON", home.get("status", {}))
    status: JSON = {field: live[field] for field in WRITTEN if field in live}
    status["conditions"] = conditions.owned(home)
    return DesiredStatus(cast("PodStatus", status), {})


def patch(home: Pod, wanted: DesiredStatus) -> JSON | None:
    """Body of a strategic merge PATCH of pods/status; None where home shows it already.

    It carries the uid, so that a pod of another uid refuses it (422, `metadata.uid` being
    immutable), and what differs, as the kubelet's does (`PatchPodStatus` in pkg/util/pod). By
    the patch strategies of k8s.io/api core/v1 conditions merge by type, addresses by ip,
    objects by key; lists of container statuses are replaced as wholes. A null removes.
    """
    live, target = cast("JSON", home.get("status", {})), cast("JSON", wanted.status)
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
    changed = _changed_conditions(home, wanted)
    if changed:
        status["conditions"] = changed
    current = home["metadata"].get("annotations", {})
    annotations = {k: v for k, v in wanted.annotations.items() if current.get(k) != v}
    if not status and not annotations:
        return None
    body: JSON = {"metadata": {"uid": home["metadata"].get("uid", "")}}
    if annotations:
        body["metadata"]["annotations"] = annotations
    if status:
        body["status"] = status
    return body


def _changed_conditions(home: Pod, wanted: DesiredStatus) -> list[JSON]:
    """Elements that merge by type into what home shows."""
    live = cast("dict[str, JSON]", conditions.by_type(home))
    changed: list[JSON] = []
    for condition in cast("list[JSON]", wanted.status.get("conditions", [])):
        old = live.pop(condition["type"], None)
        if old is None:
            changed.append(condition)
        elif not merge.same(old, condition):
            changed.append({**condition, **merge.difference(old, condition)})
    changed += [{"$patch": "delete", "type": gone} for gone in live if gone in conditions.OWNED]
    return changed
