"""What one farlet process reports about itself at `/state`, for the manager and `farlet status`.

Texts are cut and lists are short: readers get these bytes from a pod, and the process builds them
for anyone who reaches the port. They contain no secrets. Readers accept what older and newer
versions of farlet report.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PATH = "/state"
MAX_BYTES = 256 << 10
"""A longer answer is not one of farlet."""
MAX_TEXT = 1024
"""As in an Event: a message of farlet contains what to do, and no command must be cut."""
MAX_ENTRIES = 200
_CUT = "..."


def _bounded(text: str) -> str:
    """The text, or its beginning with a mark that it was cut. Twice is the same as once."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - len(_CUT)] + _CUT


Text = Annotated[str, AfterValidator(_bounded)]

Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Moment = Annotated[float, Field(ge=0, le=253_402_300_799, allow_inf_nan=False)]
"""Epoch seconds, up to the year 9999."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class HomeAPIState(_Shape):
    """Where pods reach the home API server. `state`: the name of a class of `context.HomeAPI`."""

    state: Text = "NotConfigured"
    endpoint: Text | None = None
    """`host:port`."""
    reason: Text | None = None
    message: Text | None = None


class ForeignState(_Shape):
    """The foreign cluster. `cluster`: uid of farlet's system namespace, known to the leader.

    `reason`: that of the Node's condition `farlet.io/ForeignReachable`, while the leader has one;
    else whether the last request got no answer or its credentials were rejected.
    """

    reachable: bool = False
    reason: Text | None = None
    problem: Text | None = None
    server: Text | None = None
    cluster: Text | None = None


class NamespaceState(_Shape):
    """One offloaded namespace in use. `foreign` is empty if it is not offloaded."""

    home: Text
    foreign: Text
    reason: Text | None = None
    """Why its pods wait, as one word; they do not show it if farlet cannot write their status."""
    problem: Text | None = None


class Expiry(_Shape):
    """When credentials expire, in epoch seconds; `None`: never, or there are none."""

    home_credentials: Moment | None = None
    foreign_credentials: Moment | None = None
    serving_certificate: Moment | None = None
    pod_token: Moment | None = None
    """The first of the tokens of pods to expire."""


class State(_Shape):
    """One process. Counts of pods and namespaces are those of the leader."""

    node: Text
    version: Text = ""
    phase: Text
    """A value of `health.Phase`."""
    leader: bool = False
    problems: dict[Text, Text] = Field(default_factory=dict)
    """Failing checks of `/readyz` by name. On standby: why this process could not lead."""
    home_api: HomeAPIState = HomeAPIState()
    foreign: ForeignState = ForeignState()
    pods: dict[Text, dict[Text, Count]] = Field(default_factory=dict)
    """Numbers of home pods by access mode and phase."""
    waiting: dict[Text, Count] = Field(default_factory=dict)
    """Numbers of pods that wait, by reason."""
    namespaces: tuple[NamespaceState, ...] = ()
    """Those with a problem first, no more than `MAX_ENTRIES`, and no more than fit into an answer.
    """
    expires: Expiry = Expiry()

    @property
    def pod_count(self) -> int:
        """Number of home pods on the node."""
        return sum(number for phases in self.pods.values() for number in phases.values())


def write(state: State) -> bytes:
    """JSON for `read`: without the last namespaces where `MAX_BYTES` are not enough for all."""
    raw, kept = state.model_dump_json().encode(), len(state.namespaces)
    excess = len(raw) - MAX_BYTES
    if excess <= 0:
        return raw
    while excess > 0 and kept > 0:
        kept -= 1
        excess -= len(state.namespaces[kept].model_dump_json().encode())
    return (
        state.model_copy(update={"namespaces": state.namespaces[:kept]}).model_dump_json().encode()
    )


def read(raw: bytes) -> State:
    """Raises `ValueError` for anything else than a state."""
    if len(raw) > MAX_BYTES:
        raise ValueError(f"an answer of more than {MAX_BYTES >> 10} KiB")
    return State.model_validate_json(raw)
