"""What happens to each status field on its way home, as two tables.

They stand apart from the code that obeys them so that one page answers "why does home not show
this?". `containers.py` copies exactly the fields marked COPIED; `status.py` writes exactly those
that are not DROPPED. A field that is in neither table (of a newer Kubernetes) is dropped: a home
server that does not know it would throw it away, and every comparison would find it missing.

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
    """Farlet says it from what it knows itself; the mirror's value is not looked at."""
    DROPPED = "dropped"
    """Neither read abroad nor written at home."""


class Field(NamedTuple):
    """One row."""

    rule: Rule
    why: str


POD_STATUS: Mapping[str, Field] = {
    "phase": Field(
        Rule.REWRITTEN,
        "never leaves Succeeded or Failed, never goes back to Pending, and does not end with a "
        "mirror that is only being replaced",
    ),
    "reason": Field(
        Rule.REWRITTEN,
        "the mirror's (Evicted, DeadlineExceeded), or why it cannot be scheduled abroad; a former "
        "reason of farlet's own goes when it is cured",
    ),
    "message": Field(Rule.REWRITTEN, "goes with reason"),
    "conditions": Field(Rule.REWRITTEN, "by type: forge/conditions.py"),
    "startTime": Field(Rule.REWRITTEN, "the mirror's first one, then kept, as a kubelet keeps it"),
    "hostIP": Field(Rule.OWNED, "the pod's host at home is the virtual node"),
    "hostIPs": Field(Rule.OWNED, "the first entry must equal hostIP"),
    "podIP": Field(
        Rule.REWRITTEN,
        "home would route it to a stranger unless the pod networks are connected; translated then",
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
        "that may have been injected abroad",
    ),
    "allocatedResources": Field(Rule.REWRITTEN, "goes with resources"),
    "qosClass": Field(
        Rule.DROPPED, "immutable; differs abroad where a LimitRange filled in requests"
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
    "imageID": Field(Rule.COPIED, "says what really runs"),
    "containerID": Field(Rule.COPIED, "tells one run from the next; unknown to any home runtime"),
    "ready": Field(Rule.COPIED, "probes run abroad"),
    "started": Field(Rule.COPIED, "probes run abroad"),
    "resources": Field(Rule.COPIED, "what is in force, for in-place resize and for the scheduler"),
    "allocatedResources": Field(Rule.COPIED, "goes with resources"),
    "user": Field(Rule.COPIED, "the identity of the first process; the same operating system"),
    "state": Field(Rule.REWRITTEN, "never leaves terminated where the home server forbids it"),
    "lastState": Field(
        Rule.REWRITTEN, "a mirror made again has none, though the container did end before"
    ),
    "restartCount": Field(
        Rule.REWRITTEN, "plus the restarts before this mirror was made; never goes down"
    ),
    "volumeMounts": Field(Rule.REWRITTEN, "less the mounts that were injected abroad"),
    "allocatedResourcesStatus": Field(
        Rule.REWRITTEN,
        "of what home's container requests; the home server refuses others, and any on an "
        "ephemeral container",
    ),
    "stopSignal": Field(
        Rule.REWRITTEN,
        "where home's container sets one: alpha in 1.36, so only then home is known to store it",
    ),
}
