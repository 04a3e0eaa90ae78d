"""What happens to each field of a mirror's status, as two tables.

They are separate from the code that applies them, so that one page answers "why does the home pod
not show this?". `containers.py` copies exactly the fields marked COPIED; `status.py` writes exactly
those that are not DROPPED. A field of a newer Kubernetes, in neither table, is dropped: a home
server that does not know it would discard it, and every comparison would find it missing.

The rows are those of `PodStatus` and `ContainerStatus` in k8s.io/api core/v1 of Kubernetes 1.37,
which has all of the earlier versions that farlet supports.
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
        "never leaves Succeeded or Failed, never returns to Pending, and stays unfinished while "
        "the mirror is being replaced",
    ),
    "reason": Field(
        Rule.REWRITTEN,
        "the mirror's (Evicted, DeadlineExceeded), or why the foreign scheduler cannot place it; "
        "farlet removes a reason of its own once the cause is fixed",
    ),
    "message": Field(Rule.REWRITTEN, "follows reason"),
    "conditions": Field(Rule.REWRITTEN, "by type: forge/conditions.py"),
    "startTime": Field(
        Rule.REWRITTEN, "that of the first mirror, kept afterwards as a kubelet does"
    ),
    "hostIP": Field(
        Rule.OWNED, "IP of the virtual node, which is the pod's host in the home cluster"
    ),
    "hostIPs": Field(Rule.OWNED, "the first entry must equal hostIP"),
    "podIP": Field(
        Rule.REWRITTEN,
        "set (and translated) only if the pod networks are connected; otherwise the IP can belong "
        "to another pod of the home cluster",
    ),
    "podIPs": Field(Rule.REWRITTEN, "the first entry must equal podIP"),
    "initContainerStatuses": Field(
        Rule.REWRITTEN, "those of the home pod's init containers, in spec order"
    ),
    "containerStatuses": Field(
        Rule.REWRITTEN, "those of the home pod's containers, sorted by name"
    ),
    "ephemeralContainerStatuses": Field(
        Rule.REWRITTEN, "those of the home pod's ephemeral containers, sorted by name"
    ),
    "observedGeneration": Field(
        Rule.OWNED,
        "the generation of the home pod whose changes the foreign kubelet has seen; the mirror's "
        "value refers to the mirror",
    ),
    "resources": Field(
        Rule.REWRITTEN,
        "only if the home pod sets pod-level resources; otherwise it is a sum that can include "
        "containers injected in the foreign cluster",
    ),
    "allocatedResources": Field(Rule.REWRITTEN, "follows resources"),
    "qosClass": Field(
        Rule.DROPPED, "immutable; differs in the foreign cluster where a LimitRange added requests"
    ),
    "nominatedNodeName": Field(
        Rule.DROPPED, "names a foreign node; API servers reject it on a bound pod"
    ),
    "resourceClaimStatuses": Field(
        Rule.DROPPED, "names foreign ResourceClaims; NodeRestriction rejects it"
    ),
    "extendedResourceClaimStatus": Field(
        Rule.DROPPED, "names a foreign ResourceClaim; NodeRestriction rejects it"
    ),
    "nodeAllocatableResourceClaimStatuses": Field(Rule.DROPPED, "names foreign ResourceClaims"),
    "volumeHealth": Field(
        Rule.DROPPED,
        "reported by CSI drivers of the foreign cluster about its volumes; alpha in 1.37",
    ),
    "resize": Field(
        Rule.DROPPED,
        "deprecated; replaced by the conditions PodResizePending and PodResizeInProgress",
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
        Rule.COPIED,
        "the values in force, for in-place resize and for the scheduler; never more than the home "
        "container requests or already shows, since quotas of the home cluster count them",
    ),
    "allocatedResources": Field(Rule.COPIED, "follows resources"),
    "user": Field(Rule.COPIED, "the identity of the first process; the same operating system"),
    "state": Field(Rule.REWRITTEN, "never leaves terminated if the home API server forbids that"),
    "lastState": Field(
        Rule.REWRITTEN, "kept from the previous mirror, since a recreated mirror has none"
    ),
    "restartCount": Field(
        Rule.REWRITTEN, "includes the restarts in earlier mirrors; never decreases"
    ),
    "volumeMounts": Field(
        Rule.REWRITTEN,
        "those of the home container, without mounts injected in the foreign cluster",
    ),
    "allocatedResourcesStatus": Field(
        Rule.REWRITTEN,
        "only resources that the home container requests; the home API server rejects all "
        "others, and any for an ephemeral container",
    ),
    "stopSignal": Field(
        Rule.REWRITTEN,
        "only if the home container sets one, which shows that the home API server knows the "
        "field (alpha in 1.37)",
    ),
}
