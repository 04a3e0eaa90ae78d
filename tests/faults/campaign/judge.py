"""What must be true of every pod after a campaign: pure, from records that farlet cannot change."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

RUNS_ONCE = frozenset({"Never"})
CLOCK_SECONDS = 1.0
"""Containers write whole seconds into the ledger."""


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
    created_at: float = 0.0
    """When its creation was answered, by the monotonic clock."""
    deleted_at: float | None = None
    """When its deletion was answered."""
    undone: bool = False
    """It was created after the backup that the home cluster was restored from."""
    back: bool = False
    """It was deleted, and the restored home cluster has it again."""
    forgotten: int = 0
    """How often the restored home cluster had it without a record of its mirror."""
    mirror_gone: bool = False
    """Its mirror was created after the backup that the foreign cluster was restored from."""
    unrecorded: int = 0
    """How often the home cluster had no record of that mirror when the foreign one was restored."""

    @property
    def expected(self) -> bool:
        """Whether it must exist at the end."""
        return not self.undone and (self.back or not self.deleted)

    @property
    def restored(self) -> bool:
        """Whether a restored cluster knew less of it, or more, than farlet had seen."""
        return self.back or self.mirror_gone or bool(self.forgotten)


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
    ledger: Mapping[str, Sequence[float]]
    """By pod: when its container began to run, in seconds since 1970."""
    tokens: Sequence[tuple[str, str]] = ()
    """For each Secret: the uid of the home pod that its mirror belongs to, and the token's."""
    elsewhere: Sequence[str] = ()
    """What farlet wrote to a cluster that has none of its mirrors, from its audit log."""
    without_row: Sequence[str] = ()
    """Requests of farlet that its table of permissions lacks."""
    refused: Sequence[str] = ()
    """Requests of farlet that an API server rejected with 403, lags of caches excepted."""
    restores: Sequence[float] = ()
    """When a cluster was restored, in seconds since 1970."""
    foreign_restores: Sequence[float] = ()
    """Those of them that concern the foreign cluster."""
    adoptions: Sequence[float] = ()
    """When an administrator adopted the foreign cluster because farlet asked for it."""


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
    adopted: list[str]
    """Adoptions that no restore explains."""
    by_kubelets: list[str] = dataclasses.field(default_factory=list)
    """Not a violation: runs that a kubelet began on the word of its own restored API server."""
    by_farlet: list[str] = dataclasses.field(default_factory=list)
    """Not a violation: what farlet began a second time since the clusters had no record of the
    first after a restore, as docs/recovery.md says."""

    @property
    def all(self) -> list[str]:
        """The violations."""
        return [
            sentence
            for field in dataclasses.fields(self)
            if field.name not in {"by_kubelets", "by_farlet"}
            for sentence in getattr(self, field.name)
        ]


def judge(records: Records) -> Verdict:
    """What is wrong."""
    runs = [_runs(pod, records) for pod in records.pods.values()]
    unknown = [
        f"a container of an unknown pod {name} ran"
        for name in records.ledger
        if name not in records.pods
    ]
    return Verdict(
        lost=_lost(records),
        run_twice=[*(sentence for one in runs for sentence in one.wrong), *unknown],
        wrongly_deleted=_wrongly_deleted(records),
        wrong_tokens=[
            f"the Secret of pod {owner} has a token of pod {bound}"
            for owner, bound in records.tokens
            if owner != bound
        ],
        elsewhere=[f"farlet wrote to another cluster: {what}" for what in records.elsewhere],
        without_row=[f"no row of the permissions allows: {what}" for what in records.without_row],
        refused=[f"an API server rejected: {what}" for what in records.refused],
        adopted=list(_without_restore(records)),
        by_kubelets=[sentence for one in runs for sentence in one.by_kubelets],
        by_farlet=[sentence for one in runs for sentence in one.by_farlet],
    )


def _lost(records: Records) -> list[str]:
    found = []
    for pod in records.pods.values():
        left = records.left.get(pod.name)
        if not pod.expected:
            if left is not None:
                found.append(f"{pod.name} was deleted and still exists")
        elif left is None:
            if not pod.disturbed:
                found.append(f"{pod.name} does not exist any more")
        elif left.reason == "MirrorLost" and not (pod.disturbed or pod.back or pod.mirror_gone):
            found.append(f"{pod.name} is reported lost")
        elif pod.writes and not (pod.disturbed or pod.restored) and left.phase != "Succeeded":
            found.append(f"{pod.name} ended as {left.phase}")
        elif pod.writes and left.phase == "Succeeded" and not records.ledger.get(pod.name):
            found.append(f"{pod.name} is reported Succeeded and never ran")
    return found


@dataclasses.dataclass(frozen=True)
class _Runs:
    """What is to be said of the runs of a pod."""

    wrong: list[str] = dataclasses.field(default_factory=list)
    by_kubelets: list[str] = dataclasses.field(default_factory=list)
    by_farlet: list[str] = dataclasses.field(default_factory=list)


def _runs(pod: Created, records: Records) -> _Runs:
    said = _Runs()
    created = records.mirrors_created.get(pod.name, 0)
    times = sorted(records.ledger.get(pod.name, ()))
    if pod.rejected and created:
        said.wrong.append(f"{pod.name} must not run and has had {created} mirrors")
    once = pod.policy in RUNS_ONCE
    allowed = pod.forgotten + pod.unrecorded if once else len(times)
    if once and created > 1:
        sentence = f"{pod.name} has had {created} mirrors"
        (said.wrong if created - 1 > allowed else said.by_farlet).append(sentence)
    if pod.disturbed and not once:
        return said
    again = min(allowed, created - 1) if once or pod.restored else 0
    for first, second in itertools.pairwise(times):
        if any(_between(first, moment, second) for moment in records.foreign_restores):
            said.by_kubelets.append(f"the container of {pod.name} ran again")
        elif again > 0:
            again -= 1
            said.by_farlet.append(f"the container of {pod.name} ran again")
        else:
            said.wrong.append(f"the container of {pod.name} ran {len(times)} times")
            break
    return said


def _between(first: float, moment: float, second: float) -> bool:
    return first - CLOCK_SECONDS <= moment <= second + CLOCK_SECONDS


def _without_restore(records: Records) -> Iterator[str]:
    """A restore explains one adoption."""
    before = 0.0
    for adoption in sorted(records.adoptions):
        if not any(before <= moment <= adoption for moment in records.restores):
            yield "farlet asked for an adoption that no restore explains"
        before = adoption


def _wrongly_deleted(records: Records) -> list[str]:
    found = []
    for name in sorted(records.home_deleted):
        pod = records.pods.get(name)
        if pod is None or not (pod.deleted or pod.disturbed):
            found.append(f"farlet deleted the home pod {name}")
    for name in sorted(records.mirrors_deleted):
        pod = records.pods.get(name)
        if pod is None or not (pod.deleted or pod.disturbed or pod.undone):
            found.append(f"farlet deleted the mirror of {name}")
    return found
