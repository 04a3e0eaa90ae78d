"""Ids that an OpenShift home cluster chose, by the range of the pod's home namespace. Pure.

SecurityContextConstraints admission writes a user id, a group id for volumes and an SELinux level
into each pod whose owner set none, and names itself in an annotation. Another OpenShift cluster
refuses them, since its namespaces have other ranges, and would choose its own. Any other cluster
runs them as they are; without them, containers would run as the user of their image.
"""

from __future__ import annotations

from typing import cast

from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.context import Context, SCCRanges
from farlet.k8s_types import Pod, PodSpec

_ANNOTATION = "openshift.io/scc"
_RANGES = range(1_000_000_000, 2_000_000_000)
"""`uidAllocatorRange` of OpenShift's default configuration. Owners choose smaller ids."""

_WHY = "the home cluster chose it by the range of the home namespace (--scc-ranges)"


def without_ranges(spec: PodSpec, pod: Pod, ctx: Context, changes: ChangeLog) -> PodSpec:
    """The spec without such ids where `ctx` drops them; the argument is not changed."""
    annotations = pod["metadata"].get("annotations") or {}
    if ctx.scc_ranges is SCCRanges.KEEP or _ANNOTATION not in annotations:
        return spec
    cleaned = cast("JSON", spec.copy())
    _clean(cleaned, "spec", changes)
    for group in ("initContainers", "containers", "ephemeralContainers"):
        containers = [dict(container) for container in cleaned.get(group) or ()]
        for container in containers:
            _clean(container, f"spec.{group}[{container['name']}]", changes)
        if containers:
            cleaned[group] = containers
    return cast("PodSpec", cleaned)


def _clean(owner: JSON, path: str, changes: ChangeLog) -> None:
    context = dict(owner.get("securityContext") or {})
    for field in ("runAsUser", "fsGroup"):
        value = context.get(field)
        if isinstance(value, int) and value in _RANGES:
            del context[field]
            changes.dropped(f"{path}.securityContext.{field}", _WHY, routine=True)
    options = dict(context.get("seLinuxOptions") or {})
    if options.pop("level", None) is not None:
        changes.dropped(f"{path}.securityContext.seLinuxOptions.level", _WHY, routine=True)
        context["seLinuxOptions"] = options
        if not options:
            del context["seLinuxOptions"]
    if context != (owner.get("securityContext") or {}):
        owner["securityContext"] = context
