"""How a mirror reaches a Kubernetes API: one strategy per mode, found by entry points.

A strategy is pure. It declares what it wants (tokens, objects, conditions to wait for) and
returns changed specs; the reconciler does the I/O. Third parties may add one through the
entry-point group `farlet.access`; its name is then a value of the annotation
`liqo.io/api-server-support`. A strategy must not import `asyncio`, `time` or any client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol, runtime_checkable

from farlet.access.changes import Change
from farlet.context import Context
from farlet.errors import StartError
from farlet.k8s_types import OwnerReference, Pod, PodSpec, Secret

ENTRY_POINTS = "farlet.access"


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """A token wanted: one TokenRequest, bound to the home pod.

    `audience` None: the request names none, which means the API server's own.
    `key` is the item of the mirror's Secret that will hold it.
    """

    key: str
    audience: str | None
    expiration_seconds: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token granted. Times are epoch seconds. `repr` hides the value: it must never be logged."""

    value: str
    issued: float
    expires: float

    def __repr__(self) -> str:
        return f"Token(issued={self.issued}, expires={self.expires})"


@dataclass(frozen=True, slots=True)
class ServiceAccountRequirement:
    """A foreign ServiceAccount that must exist before the mirror is made."""

    name: str
    label: str | None = None
    """Label that must be `true` on it."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A changed copy of a spec and what was changed in it."""

    spec: PodSpec
    changes: tuple[Change, ...] = ()
    home_api: str = ""
    """Where the spec leads to home (`str` of the endpoint), if it does."""


@runtime_checkable
class AccessStrategy(Protocol):
    """What a mode of API access must answer. All methods are pure and raise only `Refused`."""

    @property
    def name(self) -> str:
        """The annotation value that selects it."""
        ...

    @property
    def summary(self) -> str:
        """One line for `farlet strategies`."""
        ...

    def requirements(self, pod: Pod, ctx: Context) -> tuple[ServiceAccountRequirement, ...]:
        """What must exist abroad first. Raises `Refused` for a pod this mode cannot serve."""
        ...

    def token_specs(self, pod: Pod, ctx: Context) -> tuple[TokenSpec, ...]:
        """Tokens to request at home for this pod; empty for none."""
        ...

    def mutate(self, spec: PodSpec, pod: Pod, ctx: Context) -> Mutation:
        """Shape a spec that `forge.pod` has already cleaned. Must not change its argument."""
        ...

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        """Objects beside the mirror, at most one Secret, owned by `owner` (the mirror).

        `tokens` maps `TokenSpec.key` to the token; those that are absent are left out of `data`
        (a refresh writes only what is new).
        """
        ...


def load_strategies() -> dict[str, AccessStrategy]:
    """All strategies by name.

    Raises `StartError` when a plugin cannot be imported, is no strategy, or takes a taken name.
    """
    found: dict[str, AccessStrategy] = {}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        origin = f"access strategy {entry.name!r} ({entry.value})"
        try:
            strategy = entry.load()()
        except (ImportError, AttributeError, TypeError) as err:
            raise StartError(
                f"{origin} could not be loaded: {err}. Repair or uninstall its package"
            ) from err
        if not isinstance(strategy, AccessStrategy) or strategy.name != entry.name:
            raise StartError(
                f"{origin} is not a strategy of that name. Repair or uninstall its package"
            )
        if entry.name in found:
            raise StartError(
                f"{origin} takes a name that {type(found[entry.name]).__module__} has already. "
                "Uninstall one of the two"
            )
        found[entry.name] = strategy
    return found
