"""What becomes of a foreign namespace that farlet created and that no home pod needs: pure.

It is deleted only if the API servers have answered that its home namespace is gone and that it
contains no object of others of the kinds that farlet lists: not every kind (docs/namespaces.md).
`decide` names the next fact that is required, or the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from farlet.constants import (
    CREATED_NAMESPACE,
    HOME_CLUSTER,
    HOME_NAMESPACE,
    HOME_NAMESPACE_CONFIG_MAP,
    KUBE_ROOT_CA,
)
from farlet.k8s_types import ObjectMeta

_PUBLISHED = frozenset({KUBE_ROOT_CA, "openshift-service-ca.crt", "istio-ca-root-cert"})
"""ConfigMaps that controllers of the foreign cluster write into every namespace."""

_SHOWN = 5
"""Names in a report."""


class Home(Enum):
    """The home namespace, as the home API server has answered."""

    EXISTS = auto()
    GONE = auto()
    FORBIDDEN = auto()
    """farlet is not allowed to read it."""


class Next(Enum):
    """What to do next."""

    READ_HOME = auto()
    READ_CONTENT = auto()
    DELETE = auto()
    """The foreign namespace, with uid and resourceVersion of `Facts.metadata`."""
    FORGET = auto()
    """It is not one that farlet deletes."""
    KEEP = auto()
    """Decide again later."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one foreign namespace; nothing of it is older than this decision."""

    foreign: str
    home_namespace: str
    home_id: str
    metadata: ObjectMeta | None
    """Metadata of the foreign namespace; `None`: it does not exist."""
    needed: bool = False
    """A home pod needs it."""
    home: Home | None = None
    """`None`: not read yet."""
    content: Mapping[str, Sequence[str]] | None = None
    """Complete: the names of all objects by resource; `None`: not read yet."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`report`: why the namespace stays, for an administrator; empty: nothing to report."""

    next: Next
    report: str = ""


def is_created_for(metadata: ObjectMeta, *, home: str, home_id: str) -> bool:
    """Whether farlet created this foreign namespace for that home namespace."""
    annotations = metadata.get("annotations", {})
    return (
        metadata.get("labels", {}).get(CREATED_NAMESPACE) == "true"
        and annotations.get(HOME_CLUSTER) == home_id
        and annotations.get(HOME_NAMESPACE) == home
    )


def decide(facts: Facts) -> Decision:
    """The next step. An object of another virtual node counts as one of others."""
    found = facts.metadata
    if facts.needed:
        return Decision(Next.KEEP)
    if found is None or "deletionTimestamp" in found:
        return Decision(Next.FORGET)
    if not is_created_for(found, home=facts.home_namespace, home_id=facts.home_id):
        return Decision(Next.FORGET)
    match facts.home:
        case None:
            return Decision(Next.READ_HOME)
        case Home.EXISTS:
            return Decision(Next.KEEP)
        case Home.FORBIDDEN:
            return Decision(Next.KEEP, _unreadable(facts))
        case Home.GONE:
            pass
    if facts.content is None:
        return Decision(Next.READ_CONTENT)
    others = others_in(facts.content)
    return Decision(Next.KEEP, _used(facts, others)) if others else Decision(Next.DELETE)


def others_in(content: Mapping[str, Sequence[str]]) -> list[str]:
    """The objects that are not part of every namespace, as `RESOURCE/NAME`.

    `content`: names by resource, without what belongs to the caller.
    """
    return [
        f"{resource}/{name}"
        for resource, names in content.items()
        for name in names
        if resource != "configmaps" or name not in _PUBLISHED | {HOME_NAMESPACE_CONFIG_MAP}
    ]


def _unreadable(facts: Facts) -> str:
    return (
        f"farlet created the foreign namespace {facts.foreign}, and no pod uses it now. farlet is "
        f"not allowed to read the home namespace {facts.home_namespace}, so it never deletes the "
        "foreign one. In the home cluster: kubectl apply -f manifests/home/created-namespaces.yaml"
    )


def _used(facts: Facts, others: Sequence[str]) -> str:
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return (
        f"the home namespace {facts.home_namespace} is gone, and its foreign namespace "
        f"{facts.foreign} contains objects that farlet does not delete: "
        f"{', '.join(others[:_SHOWN])}{more}. Delete them, and farlet deletes the namespace; or "
        f"keep it: kubectl label namespace {facts.foreign} {CREATED_NAMESPACE}-"
    )
