"""The settings of leadership: whether several processes may stand by for one node."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from farlet.constants import ObjectKey
from farlet.settings import values
from farlet.settings.base import BaseFarletSettings
from farlet.settings.loading import Flag, Group

NODE: Final = "node"
"""Stands for the virtual node's own Lease in `kube-node-lease`."""

JITTER = 1.2
"""Between two tries of a leader there must be time for the second; the factor is that of
`NewLeaderElector` in client-go's `tools/leaderelection`."""

_Seconds = BeforeValidator(values.duration)
_FORM = "DURATION"


def _lease(value: object) -> object:
    if value == NODE or isinstance(value, ObjectKey):
        return value
    namespace, slash, name = values.text(value).partition("/")
    if not slash:
        raise ValueError(f"{value!r} is neither {NODE} nor NAMESPACE/NAME")
    return ObjectKey(values.dns_label(namespace), values.dns_name(name))


class LeaderSettings(BaseFarletSettings):
    """Who of several may write."""

    leader_elect: Annotated[
        bool, Flag(Group.LEADER, "true|false"), BeforeValidator(values.switch)
    ] = Field(
        False,
        description="Let one of several processes write, and the others stand by to take over.",
    )
    leader_elect_lease_duration: Annotated[
        float, Flag(Group.LEADER, _FORM, default="15s"), _Seconds
    ] = Field(
        15.0,
        description="How long those who stand by wait after the last sign of the leader. Whole "
        "seconds. Home takes a node for dead that is silent for 50 s, so with the node's Lease "
        "keep it below 40 s.",
    )
    leader_elect_renew_deadline: Annotated[
        float, Flag(Group.LEADER, _FORM, default="10s"), _Seconds
    ] = Field(
        10.0,
        description="How long after its last renewal a leader begins no write any more, and ends.",
    )
    leader_elect_retry_period: Annotated[
        float, Flag(Group.LEADER, _FORM, default="2s"), _Seconds
    ] = Field(
        2.0,
        description="Time between two renewals, and between two looks of those who stand by.",
    )
    leader_elect_lease: Annotated[
        Literal["node"] | ObjectKey,
        Flag(Group.LEADER, "node|NAMESPACE/NAME"),
        BeforeValidator(_lease),
    ] = Field(
        NODE,
        description="The Lease that the leader holds. 'node' is that of the virtual node in "
        "kube-node-lease, the only one that a node identity may use; its renewals are the node's "
        "heartbeat as well.",
    )

    @model_validator(mode="after")
    def _durations_fit(self) -> LeaderSettings:
        lease, renew, retry = (
            self.leader_elect_lease_duration,
            self.leader_elect_renew_deadline,
            self.leader_elect_retry_period,
        )
        if lease < 1 or lease % 1:
            raise ValueError(
                f"--leader-elect-lease-duration is {lease:g} s, and a Lease counts whole seconds; "
                "give 15s, or another number of them"
            )
        if renew >= lease:
            raise ValueError(
                f"--leader-elect-renew-deadline ({renew:g} s) must be shorter than "
                f"--leader-elect-lease-duration ({lease:g} s), or two processes would write at "
                "the same time"
            )
        if not 0 < retry * JITTER < renew:
            raise ValueError(
                f"--leader-elect-retry-period ({retry:g} s) must be more than 0 and, times "
                f"{JITTER:g}, less than --leader-elect-renew-deadline ({renew:g} s), or a leader "
                "would give up before it had tried again"
            )
        return self
