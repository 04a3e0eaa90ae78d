"""What must be true of every pod after a campaign: pure, from records that farlet cannot change."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

RUNS_ONCE = frozenset({"Never"})


@dataclasses.dataclass
class Created:
    """A home pod that the campaign created; no name is used twice."""

    name: str
    policy: str
    writes: bool = False
    """Its container writes its name into the ledger and exits with 0."""
    rejected: bool = False
    """Its annotations are invalid: it must never run."""
    deleted: bool = False
    """The campaign deleted it in the home cluster."""
    disturbed: bool = False
    """Others deleted its mirror, or it may have restarted for another reason."""


@dataclasses.dataclass(frozen=True)
class Left:
    """A home pod at the end."""

    phase: str
    reason: str
    deleting: bool


@dataclasses.dataclass(frozen=True)
class Records:
    """Everything that a campaign left behind. Names are those of home pods and their mirrors."""

    pods: Mapping[str, Created]
    left: Mapping[str, Left]
    mirrors_created: Mapping[str, int]
    """From the audit log of the foreign API server."""
    home_deleted: frozenset[str]
    """Home pods that farlet deleted, from the audit log."""
    mirrors_deleted: frozenset[str]
    """Mirrors that farlet deleted, from the audit log."""
    ledger: Mapping[str, int]
    """By pod: how often its container began to run."""
    tokens: Sequence[tuple[str, str]] = ()
    """For each Secret: the uid of the home pod that its mirror belongs to, and the token's."""
    elsewhere: Sequence[str] = ()
    """What farlet wrote to a cluster that has none of its mirrors, from its audit log."""
    without_row: Sequence[str] = ()
    """Requests of farlet that its table of permissions lacks."""
    refused: Sequence[str] = ()
    """Requests of farlet that an API server rejected with 403, lags of caches excepted."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Sentences; all empty after a good campaign."""

    lost: list[str]
    run_twice: list[str]
    wrongly_deleted: list[str]
    wrong_tokens: list[str]
    elsewhere: list[str]
    without_row: list[str]
    refused: list[str]

    @property
    def all(self) -> list[str]:
        return [
            sentence for field in dataclasses.fields(self) for sentence in getattr(self, field.name)
        ]


def judge(records: Records) -> Verdict:
    """What is wrong."""
    return Verdict(
        lost=_lost(records),
        run_twice=_run_twice(records),
        wrongly_deleted=_wrongly_deleted(records),
        wrong_tokens=[
            f"the Secret of pod {owner} has a token of pod {bound}"
            for owner, bound in records.tokens
            if owner != bound
        ],
        elsewhere=[f"farlet wrote to another cluster: {what}" for what in records.elsewhere],
        without_row=[f"no row of the permissions allows: {what}" for what in records.without_row],
        refused=[f"an API server rejected: {what}" for what in records.refused],
    )


def _lost(records: Records) -> list[str]:
    found = []
    for pod in records.pods.values():
        left = records.left.get(pod.name)
        if pod.deleted:
            if left is not None:
                found.append(f"{pod.name} was deleted and still exists")
        elif left is None:
            if not pod.disturbed:
                found.append(f"{pod.name} does not exist any more")
        elif left.reason == "MirrorLost" and not pod.disturbed:
            found.append(f"{pod.name} is reported lost")
        elif pod.writes and not pod.disturbed and left.phase != "Succeeded":
            found.append(f"{pod.name} ended as {left.phase}")
        elif pod.writes and left.phase == "Succeeded" and not records.ledger.get(pod.name):
            found.append(f"{pod.name} is reported Succeeded and never ran")
    return found


def _run_twice(records: Records) -> list[str]:
    found = []
    for pod in records.pods.values():
        created, ran = records.mirrors_created.get(pod.name, 0), records.ledger.get(pod.name, 0)
        if pod.rejected and created:
            found.append(f"{pod.name} must not run and has had {created} mirrors")
        if pod.policy in RUNS_ONCE and created > 1:
            found.append(f"{pod.name} has had {created} mirrors")
        if ran > 1 and (pod.policy in RUNS_ONCE or not pod.disturbed):
            found.append(f"the container of {pod.name} ran {ran} times")
    unknown = collections.Counter(records.ledger)
    for pod in records.pods.values():
        unknown.pop(pod.name, None)
    return [*found, *(f"a container of an unknown pod {name} ran" for name in unknown)]


def _wrongly_deleted(records: Records) -> list[str]:
    found = []
    for name in sorted(records.home_deleted):
        pod = records.pods.get(name)
        if pod is None or not (pod.deleted or pod.disturbed):
            found.append(f"farlet deleted the home pod {name}")
    for name in sorted(records.mirrors_deleted):
        pod = records.pods.get(name)
        if pod is None or not (pod.deleted or pod.disturbed):
            found.append(f"farlet deleted the mirror of {name}")
    return found
