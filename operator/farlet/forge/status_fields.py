"""What happens to each field of a mirror's status, as two tables.

They are separate from the code that applies them, so that one page answers "why does the home pod
not show this?". `containers.py` copies exactly the fields marked COPIED; `status.py` writes exactly
those that are not DROPPED. A field of a newer Kubernetes, in neither table, is dropped: a home
server that does not know it would discard it, and every comparison would find it missing.

The rows are those of `PodStatus` and `ContainerStatus` in k8s.io/api core/v1 of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


class Rule(Enum):
    """What happens to a field."""

    COPIED = "copied"
    REWRITTEN = "rewritten"
    OWNED = "owned"
    """farlet computes it itself and ignores the mirror's value."""
    DROPPED = "dropped"
    """Neither read from the mirror nor written to the home pod."""


class Field(NamedTuple):
    """One row."""

    rule: Rule
    why: str


POD_STATUS: Mapping[str, Field] = {
    "phase": Field(
        Rule.REWRITTEN,
        "never leaves Succeeded or Failed, never returns to Pending, and does not end with a "
        "mirror that is only being replaced",
    ),
    "reason": Field(
        Rule.REWRITTEN,
        "the mirror's (Evicted, DeadlineExceeded), or why the foreign scheduler cannot place it; "
        "farlet removes its own reason once that is fixed",
    ),
    "message": Field(Rule.REWRITTEN, "goes with reason"),
    "conditions": Field(Rule.REWRITTEN, "by type: forge/conditions.py"),
    "startTime": Field(Rule.REWRITTEN, "the mirror's first one, then kept, as a kubelet keeps it"),
    "hostIP": Field(Rule.OWNED, "the pod's host at home is the virtual node"),
    "hostIPs": Field(Rule.OWNED, "the first entry must equal hostIP"),
    "podIP": Field(
        Rule.REWRITTEN,
        "home would route it to another pod unless the pod networks are connected; then translated",
    ),
    "podIPs": Field(Rule.REWRITTEN, "the first entry must equal podIP"),
    "initContainerStatuses": Field(Rule.REWRITTEN, "those of home's init containers, in its order"),
    "containerStatuses": Field(Rule.REWRITTEN, "those of home's containers, sorted by name"),
    "ephemeralContainerStatuses": Field(
        Rule.REWRITTEN, "those of home's ephemeral containers, sorted by name"
    ),
    "observedGeneration": Field(
        Rule.OWNED, "counts changes of the home spec; the mirror's counts those of another object"
    ),
    "resources": Field(
        Rule.REWRITTEN,
        "where home sets resources for the pod as a whole; elsewhere it is a sum over containers "
        "that may have been injected in the foreign cluster",
    ),
    "allocatedResources": Field(Rule.REWRITTEN, "goes with resources"),
    "qosClass": Field(
        Rule.DROPPED, "immutable; differs in the foreign cluster where a LimitRange added requests"
    ),
    "nominatedNodeName": Field(
        Rule.DROPPED, "names a foreign node; refused on a pod that is already bound"
    ),
    "resourceClaimStatuses": Field(
        Rule.DROPPED, "names foreign ResourceClaims; refused to nodes by NodeRestriction"
    ),
    "extendedResourceClaimStatus": Field(
        Rule.DROPPED, "names a foreign ResourceClaim; refused to nodes by NodeRestriction"
    ),
    "nodeAllocatableResourceClaimStatuses": Field(Rule.DROPPED, "names foreign ResourceClaims"),
    "resize": Field(
        Rule.DROPPED, "deprecated for the conditions PodResizePending and PodResizeInProgress"
    ),
}

CONTAINER_STATUS: Mapping[str, Field] = {
    "name": Field(Rule.COPIED, "the same container"),
    "image": Field(Rule.COPIED, "as the foreign runtime resolved it"),
    "imageID": Field(Rule.COPIED, "identifies the image that really runs"),
    "containerID": Field(
        Rule.COPIED, "identifies a run of the container; no home runtime knows it"
    ),
    "ready": Field(Rule.COPIED, "probes run in the foreign cluster"),
    "started": Field(Rule.COPIED, "probes run in the foreign cluster"),
    "resources": Field(
        Rule.COPIED, "the values in force, for in-place resize and for the scheduler"
    ),
    "allocatedResources": Field(Rule.COPIED, "goes with resources"),
    "user": Field(Rule.COPIED, "the identity of the first process; the same operating system"),
    "state": Field(Rule.REWRITTEN, "never leaves terminated where the home server forbids it"),
    "lastState": Field(
        Rule.REWRITTEN, "a recreated mirror has none, although the container has ended before"
    ),
    "restartCount": Field(
        Rule.REWRITTEN, "plus the restarts before this mirror was created; never decreases"
    ),
    "volumeMounts": Field(Rule.REWRITTEN, "without mounts injected in the foreign cluster"),
    "allocatedResourcesStatus": Field(
        Rule.REWRITTEN,
        "of what home's container requests; the home server refuses others, and any on an "
        "ephemeral container",
    ),
    "stopSignal": Field(
        Rule.REWRITTEN,
        "where home's container sets one: alpha in 1.36, and only then home certainly stores it",
    ),
}
