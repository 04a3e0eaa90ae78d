"""Changes to the spec of every mirror that must not have a foreign ServiceAccount.

Without a ServiceAccount name, foreign admission gives a pod `default`, and mounts a token of it
unless the spec turns that off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.k8s_types import Container, PodSpec

Shape = Callable[[Container, str], Container]
"""(container, its path) -> a changed copy of the container."""


def without_account(spec: PodSpec, changes: ChangeLog) -> JSON:
    """A shallow copy of `spec` without a ServiceAccount and without a mounted token."""
    copy: JSON = {**spec}
    if copy.pop("serviceAccountName", None) is not None:
        changes.dropped(
            "spec.serviceAccountName", "it is an account of the home cluster", routine=True
        )
    copy.pop("serviceAccount", None)
    if copy.get("automountServiceAccountToken") is not False:
        changes.forced(
            "spec.automountServiceAccountToken",
            "a token of the foreign cluster must not be mounted",
            routine=True,
        )
    copy["automountServiceAccountToken"] = False
    return copy


def replace_containers(spec: JSON, shape: Shape) -> None:
    """Replaces every container of every kind in place; `spec` must be a copy."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        if spec.get(field):
            spec[field] = [
                shape(cast("Container", container), f"spec.{field}[{container['name']}]")
                for container in spec[field]
            ]
