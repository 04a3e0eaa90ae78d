"""Settings of the Node object, by which the foreign cluster appears in the home cluster."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from farlet.constants import (
    ARCH_LABEL,
    HOSTNAME_LABEL,
    NO_LOAD_BALANCER_LABEL,
    OS_LABEL,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_TAINT,
)
from farlet.forge import capacity
from farlet.forge.node import Taint
from farlet.forge.node_health import ForeignUnreachable
from farlet.settings import node_values, values
from farlet.settings.base import BaseFarletSettings, Duration, Several
from farlet.settings.loading import Flag, Group


class NodeShapeSettings(BaseFarletSettings):
    """Settings of the Node that also shape mirror pods: labels, taints, IP."""

    node_labels: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(node_values.label)], ...],
        Flag(Group.NODE, "KEY=VALUE", many=True),
        Several,
    ] = Field(
        (),
        description="Additional label of the Node. Overrides labels that farlet detects, such as "
        f"{ARCH_LABEL}. Mirror pods do not select by it, since foreign nodes do not have it. "
        "Repeatable, or a comma-separated list.",
    )
    foreign_node_labels: Annotated[
        tuple[Annotated[str, BeforeValidator(node_values.key)], ...],
        Flag(Group.NODE, "KEY", many=True),
        Several,
    ] = Field(
        (),
        description="Key of a label in --node-labels that foreign nodes have as well, so that "
        "mirror pods select by it. Repeatable, or a comma-separated list.",
    )
    node_taints: Annotated[
        tuple[Taint, ...],
        Flag(Group.NODE, "KEY[=VALUE]:EFFECT|none", many=True),
        BeforeValidator(node_values.taints),
    ] = Field(
        (Taint(VIRTUAL_NODE_TAINT, "", "NoSchedule"),),
        description="Taint of the Node, replacing the default taint. Mirror pods do not tolerate "
        "it. Repeatable, or a comma-separated list; 'none' for no taint.",
    )
    node_ip: Annotated[
        str | None,
        Flag(Group.NODE, "IP", default="the address of this machine towards the home API server"),
        BeforeValidator(values.ip),
    ] = Field(
        None,
        description="IP address of the Node, and hostIP of its pods. The home API server connects "
        "to the kubelet API at this address.",
    )

    def own_label_keys(self) -> frozenset[str]:
        """Keys of labels on the Node that foreign nodes do not have."""
        ours = {VIRTUAL_NODE_LABEL, HOSTNAME_LABEL, NO_LOAD_BALANCER_LABEL}
        travelling = {OS_LABEL, ARCH_LABEL, *self.foreign_node_labels}
        return frozenset(ours | ({key for key, _ in self.node_labels} - travelling))

    def taint_keys(self) -> frozenset[str]:
        """Keys of the taints that a pod tolerates to be scheduled to this node."""
        return frozenset(taint.key for taint in self.node_taints)


class NodeSettings(NodeShapeSettings):
    """All settings of the Node object."""

    node_annotations: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(node_values.annotation)], ...],
        Flag(Group.NODE, "KEY=VALUE", many=True),
        BeforeValidator(node_values.lines),
    ] = Field(
        (),
        description="Annotation of the Node. Repeatable; one per line in the environment variable.",
    )
    provider_id: Annotated[
        str | None, Flag(Group.NODE, "ID", default="not set"), BeforeValidator(values.text)
    ] = Field(
        None,
        description="spec.providerID of the Node, such as farlet://far. A cloud controller manager "
        "ignores nodes of other providers, but can delete a node without an ID that its cloud does "
        "not know.",
    )
    capacity: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(node_values.quantity)], ...],
        Flag(
            Group.NODE,
            "RESOURCE=QUANTITY",
            many=True,
            default="sum of the allocatable resources of foreign nodes",
        ),
        Several,
    ] = Field(
        (),
        description="Capacity of the Node; cpu, memory and pods are required. Without this "
        "setting, farlet must be allowed to list and watch the nodes of the foreign cluster. "
        "Repeatable, or a comma-separated list.",
    )
    foreign_unreachable: Annotated[
        ForeignUnreachable, Flag(Group.NODE, "|".join(ForeignUnreachable))
    ] = Field(
        ForeignUnreachable.HOLD,
        description="Status of the Node while the foreign API server does not answer. 'hold': the "
        "Node stays Ready, keeps its pods and gets no new ones. 'notready': the Node becomes "
        "NotReady, and the home cluster replaces its pods when their tolerations expire, as for a "
        "dead machine.",
    )
    foreign_unreachable_after: Annotated[
        float,
        Flag(Group.NODE, "DURATION", default="40s"),
        Duration,
    ] = Field(40.0, description="Time without an answer after which --foreign-unreachable applies.")

    @model_validator(mode="after")
    def _complete_and_unique(self) -> NodeSettings:
        for flag, pairs in (
            ("--capacity", self.capacity),
            ("--node-labels", self.node_labels),
            ("--node-annotations", self.node_annotations),
        ):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{flag} sets {', '.join(twice)} more than once; set each once")
        missing = [name for name in capacity.REQUIRED if name not in dict(self.capacity)]
        if self.capacity and missing:
            raise ValueError(
                f"--capacity (FARLET_CAPACITY) does not contain {', '.join(missing)}, without "
                "which the home scheduler places no pod on the Node. Set cpu, memory and pods, "
                "such as cpu=8,memory=32Gi,pods=110"
            )
        return self
