"""How a mirror reaches a Kubernetes API: one strategy per access mode, loaded by entry points.

A strategy is pure. It declares what it needs (tokens, objects, ServiceAccounts) and returns
changed specs; the reconciler does the I/O. A plugin adds a strategy through the entry-point group
`farlet.access`; its name is then a value of the annotation `liqo.io/api-server-support`. A strategy
must not import `asyncio`, `time` or any client.
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
    """A token to request: one TokenRequest, bound to the home pod.

    `audience` None: the request names none, which means the API server's own audience.
    `key` is the item of the mirror's Secret that will contain the token.
    """

    key: str
    audience: str | None
    expiration_seconds: int


@dataclass(frozen=True, slots=True)
class Token:
    """A granted token. Times are epoch seconds. `repr` hides the value, so that no log shows it."""

    value: str
    issued: float
    expires: float

    def __repr__(self) -> str:
        return f"Token(issued={self.issued}, expires={self.expires})"


@dataclass(frozen=True, slots=True)
class ServiceAccountRequirement:
    """A foreign ServiceAccount that must exist before farlet creates the mirror."""

    name: str
    label: str | None = None
    """A label that the ServiceAccount must have, with the value `true`."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A changed copy of a spec, and the changes."""

    spec: PodSpec
    changes: tuple[Change, ...] = ()
    home_api: str = ""
    """`str` of the home API endpoint that the spec uses; empty if it uses none."""


@runtime_checkable
class AccessStrategy(Protocol):
    """The behaviour of an access mode. All methods are pure and raise only `Refused`."""

    @property
    def name(self) -> str:
        """The access mode: the annotation value that selects this strategy."""
        ...

    @property
    def summary(self) -> str:
        """One line for `farlet access-modes`."""
        ...

    def requirements(self, pod: Pod, ctx: Context) -> tuple[ServiceAccountRequirement, ...]:
        """What must exist in the foreign cluster first.

        Raises `Refused` for a pod that this mode cannot serve.
        """
        ...

    def token_specs(self, pod: Pod, ctx: Context) -> tuple[TokenSpec, ...]:
        """Tokens to request in the home cluster for this pod; empty for none."""
        ...

    def mutate(self, spec: PodSpec, pod: Pod, ctx: Context) -> Mutation:
        """Shapes a spec that `forge.pod` has already cleaned. Must not change its argument.

        It has ephemeral containers where `forge.ephemeral` adds one to a mirror.
        """
        ...

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        """Objects to create with the mirror: at most one Secret, owned by `owner` (the mirror).

        `tokens` maps `TokenSpec.key` to the token; `data` contains only the tokens in this map, so
        a refresh writes only new ones.
        """
        ...


def load_strategies() -> dict[str, AccessStrategy]:
    """All strategies by name.

    Raises `StartError` when a plugin cannot be imported, is not a strategy, or has a name that
    another one has.
    """
    strategies: dict[str, AccessStrategy] = {}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        origin = f"access strategy {entry.name!r} ({entry.value})"
        try:
            strategy = entry.load()()
        except (ImportError, AttributeError, TypeError) as err:
            raise StartError(
                f"{origin} could not be loaded: {err}. Fix or uninstall its package"
            ) from err
        if not isinstance(strategy, AccessStrategy) or strategy.name != entry.name:
            raise StartError(
                f"{origin} is not a strategy of that name. Fix or uninstall its package"
            )
        if entry.name in strategies:
            raise StartError(
                f"{origin} has the same name as the one in "
                f"{type(strategies[entry.name]).__module__}. Uninstall one of the two"
            )
        strategies[entry.name] = strategy
    return strategies
