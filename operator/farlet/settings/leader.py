"""Settings of leader election."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from farlet.constants import ObjectKey
from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, Duration
from farlet.settings.loading import Flag, Group

NODE: Final = "node"
"""The virtual node's own Lease in `kube-node-lease`."""

JITTER = 1.2
"""The renew deadline must leave time for a second try. The factor is the one of
`NewLeaderElector` in client-go's `tools/leaderelection`."""

_FORM = "DURATION"


def _lease(value: object) -> object:
    if value == NODE or isinstance(value, ObjectKey):
        return value
    namespace, slash, name = values.text(value).partition("/")
    if not slash:
        raise ValueError(f"{value!r} is not valid; expected {NODE} or NAMESPACE/NAME")
    return ObjectKey(values.dns_label(namespace), values.dns_name(name))


class LeaderSettings(BaseFarletSettings):
    """Leader election between several farlet processes of one node."""

    leader_elect: Annotated[bool, Flag(Group.LEADER, "true|false")] = Field(
        False, description="Enable leader election (active/standby)."
    )
    leader_elect_lease_duration: Annotated[
        float, Flag(Group.LEADER, _FORM, default="15s"), Duration
    ] = Field(
        15.0,
        description="Time that standby processes wait after the last observed renewal before they "
        "take over. Whole seconds. The home cluster considers a node dead after 50s without a "
        "heartbeat, so keep it below 40s if the node's Lease is the lock.",
    )
    leader_elect_renew_deadline: Annotated[
        float, Flag(Group.LEADER, _FORM, default="10s"), Duration
    ] = Field(
        10.0,
        description="Time after its last renewal at which a leader stops writing and exits.",
    )
    leader_elect_retry_period: Annotated[
        float, Flag(Group.LEADER, _FORM, default="2s"), Duration
    ] = Field(
        2.0,
        description="Interval at which the leader renews the Lease and a standby reads it.",
    )
    leader_elect_lease: Annotated[
        Literal["node"] | ObjectKey,
        Flag(Group.LEADER, "node|NAMESPACE/NAME"),
        BeforeValidator(_lease),
    ] = Field(
        NODE,
        description="The Lease that the leader holds. 'node': the Lease of the virtual node in "
        "kube-node-lease, which is the only one that a node identity may use. Its renewals are "
        "also the heartbeat of the node.",
    )

    @model_validator(mode="after")
    def _durations_are_consistent(self) -> LeaderSettings:
        lease, renew, retry = (
            self.leader_elect_lease_duration,
            self.leader_elect_renew_deadline,
            self.leader_elect_retry_period,
        )
        if lease < 1 or lease % 1:
            raise ValueError(
                f"--leader-elect-lease-duration is {lease:g}s, but a Lease has whole seconds; "
                "set it to 15s, for example"
            )
        if renew >= lease:
            raise ValueError(
                f"--leader-elect-renew-deadline ({renew:g}s) must be shorter than "
                f"--leader-elect-lease-duration ({lease:g}s): otherwise two processes could write "
                "at the same time"
            )
        if not 0 < retry * JITTER < renew:
            raise ValueError(
                f"--leader-elect-retry-period ({retry:g}s) must be more than 0 and, multiplied by "
                f"{JITTER:g}, less than --leader-elect-renew-deadline ({renew:g}s): otherwise a "
                "leader would exit before its second attempt"
            )
        return self
