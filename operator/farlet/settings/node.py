"""The settings of the Node object: how the foreign cluster appears at home."""

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
from farlet.settings.base import BaseFarletSettings, Several
from farlet.settings.loading import Flag, Group


class NodeLook(BaseFarletSettings):
    """What of the Node decides how pods that wished to come here look abroad."""

    node_labels: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(node_values.label)], ...],
        Flag(Group.NODE, "KEY=VALUE", many=True),
        Several,
    ] = Field(
        (),
        description="A further label of the Node; wins over those that farlet finds itself, such "
        f"as {ARCH_LABEL}. What pods demand of it does not travel, since foreign nodes lack it. "
        "May be given more than once, or as a list with commas.",
    )
    foreign_node_labels: Annotated[
        tuple[Annotated[str, BeforeValidator(node_values.key)], ...],
        Flag(Group.NODE, "KEY", many=True),
        Several,
    ] = Field(
        (),
        description="The key of a label among --node-labels that foreign nodes carry as well: what "
        "pods demand of it travels. May be given more than once, or as a list with commas.",
    )
    node_taints: Annotated[
        tuple[Taint, ...],
        Flag(Group.NODE, "KEY[=VALUE]:EFFECT|none", many=True),
        BeforeValidator(node_values.taints),
    ] = Field(
        (Taint(VIRTUAL_NODE_TAINT, "", "NoSchedule"),),
        description="A taint of the Node, in place of the default one; pods' tolerations of it "
        "do not travel. May be given more than once, or as a list with commas; 'none' for none.",
    )
    node_ip: Annotated[
        str | None,
        Flag(Group.NODE, "IP", default="that of this machine towards the home API server"),
        BeforeValidator(values.ip),
    ] = Field(
        None,
        description="IP address of the Node, and hostIP of its pods. The home API server calls the "
        "kubelet API there.",
    )

    def own_label_keys(self) -> frozenset[str]:
        """Keys of labels on the Node that foreign nodes lack."""
        ours = {VIRTUAL_NODE_LABEL, HOSTNAME_LABEL, NO_LOAD_BALANCER_LABEL}
        travelling = {OS_LABEL, ARCH_LABEL, *self.foreign_node_labels}
        return frozenset(ours | ({key for key, _ in self.node_labels} - travelling))

    def taint_keys(self) -> frozenset[str]:
        """Keys of the taints that a pod had to tolerate to come here."""
        return frozenset(taint.key for taint in self.node_taints)


class NodeSettings(NodeLook):
    """What the scheduler and people see of the virtual node."""

    node_annotations: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(node_values.annotation)], ...],
        Flag(Group.NODE, "KEY=VALUE", many=True),
        BeforeValidator(node_values.lines),
    ] = Field(
        (),
        description="An annotation of the Node. May be given more than once; one per line in the "
        "environment.",
    )
    provider_id: Annotated[
        str | None, Flag(Group.NODE, "ID", default="none is set"), BeforeValidator(values.text)
    ] = Field(
        None,
        description="spec.providerID of the Node, such as farlet://far. A cloud controller leaves "
        "nodes of other providers alone, and may delete one without an ID that it does not find.",
    )
    capacity: Annotated[
        tuple[Annotated[tuple[str, str], BeforeValidator(node_values.amount)], ...],
        Flag(
            Group.NODE,
            "RESOURCE=AMOUNT",
            many=True,
            default="the sum of what is allocatable on foreign nodes",
        ),
        Several,
    ] = Field(
        (),
        description="What fits on the Node; cpu, memory and pods must be among it. Without it, "
        "farlet must be allowed to list and watch the nodes of the foreign cluster. May be given "
        "more than once, or as a list with commas.",
    )
    foreign_unreachable: Annotated[
        ForeignUnreachable, Flag(Group.NODE, "|".join(ForeignUnreachable))
    ] = Field(
        ForeignUnreachable.HOLD,
        description="What home is told while the foreign API server does not answer. 'hold': the "
        "Node stays ready, so that no pod is replaced, and gets no new ones. 'notready': the Node "
        "becomes NotReady, and home replaces pods after their tolerations, as with a dead machine.",
    )
    foreign_unreachable_after: Annotated[
        float,
        Flag(Group.NODE, "DURATION", default="40s"),
        BeforeValidator(values.duration),
    ] = Field(40.0, description="How long the foreign API server may be silent before that.")

    @model_validator(mode="after")
    def _clear(self) -> NodeSettings:
        for flag, pairs in (
            ("--capacity", self.capacity),
            ("--node-labels", self.node_labels),
            ("--node-annotations", self.node_annotations),
        ):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{flag} gives {', '.join(twice)} more than once; give one value")
        missing = [name for name in capacity.REQUIRED if name not in dict(self.capacity)]
        if self.capacity and missing:
            raise ValueError(
                f"--capacity (FARLET_CAPACITY) lacks {', '.join(missing)}: without it the "
                "scheduler at home places nothing on the Node. Give cpu, memory and pods, such as "
                "cpu=8,memory=32Gi,pods=110"
            )
        return self
