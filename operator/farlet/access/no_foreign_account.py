"""What every mirror shares that has no account of the foreign cluster.

A mirror must never hold a foreign ServiceAccount by accident: without a name, admission there
gives it `default`, and with it a token unless that is switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.k8s_types import Container, PodSpec

Shape = Callable[[Container, str], Container]
"""(container, its path) -> the container shaped; never changed in place."""


def without_account(spec: PodSpec, changes: ChangeLog) -> JSON:
    """A shallow copy of `spec` that holds no ServiceAccount and gets no token mounted."""
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


def each_container(spec: JSON, shape: Shape) -> None:
    """Replace every init container, sidecar and container of a spec that is already a copy."""
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [
                shape(cast("Container", container), f"spec.{field}[{container['name']}]")
                for container in spec[field]
            ]
