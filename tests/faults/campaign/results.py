"""What came of a campaign: its figures, what a long one must have had, and its page."""

import collections
import dataclasses
import datetime
import statistics
from pathlib import Path

from bench import report
from faults.campaign import judge
from faults.campaign.judge import Records
from faults.campaign.schedule import Kind

LEAST_TIMES, LEAST_FAULTS, LEAST_OVERLAPPING, LEAST_PODS = 40, 1_000, 200, 3_000
LEAST_CONTAINERS = 100
"""What a long campaign must have had at least; the first for each kind."""
RESULTS = Path(__file__).parents[3] / "docs" / "soak"


@dataclasses.dataclass(frozen=True)
class Result:
    """What a campaign was, and what came of it."""

    faults: collections.Counter[Kind]
    overlapping: int
    records: Records
    verdict: judge.Verdict
    tracebacks: list[str]
    pauses: list[float]
    """Seconds after the last fault of each round until both clusters agreed."""
    minutes: float
    restarts: int
    """Farlets that an administrator restarted because they ended their term."""

    @property
    def shortfalls(self) -> list[str]:
        """What a long campaign must have had and this one had not."""
        had = {
            "faults": (self.faults.total(), LEAST_FAULTS),
            "overlapping faults": (self.overlapping, LEAST_OVERLAPPING),
            "pods": (len(self.records.pods), LEAST_PODS),
            "containers that ran": (
                sum(map(len, self.records.ledger.values())),
                LEAST_CONTAINERS,
            ),
            **{kind.about: (self.faults[kind], LEAST_TIMES) for kind in Kind},
        }
        return [f"{what}: {had} of {least}" for what, (had, least) in had.items() if had < least]


def page(result: Result, *, seed: int) -> str:
    """The page of a campaign that ended today."""
    today = datetime.datetime.now(datetime.UTC).date()
    records, verdict = result.records, result.verdict
    rows = {
        f"faults, in {result.minutes:.0f} minutes": result.faults.total(),
        "of these, while another lasted": result.overlapping,
        "pods": len(records.pods),
        "containers that ran and wrote it down": sum(map(len, records.ledger.values())),
        "adoptions of the restored cluster": len(records.adoptions),
        "farlets restarted since they had ended their term": result.restarts,
        "pods lost": len(verdict.lost),
        "pods run twice": len(verdict.run_twice),
        "runs that a kubelet began on the word of its own restored API server": (
            len(verdict.by_kubelets)
        ),
        "mirrors and runs of pods whose mirror no restored cluster had on record": (
            len(verdict.by_farlet)
        ),
        "pods or mirrors wrongly deleted": len(verdict.wrongly_deleted),
        "tokens for wrong pods": len(verdict.wrong_tokens),
        "writes to another cluster": len(verdict.elsewhere),
        "requests that the table of permissions lacks": len(verdict.without_row),
        "rejected requests, lags of caches excepted": len(verdict.refused),
        "adoptions that no restore explains": len(verdict.adopted),
        "tracebacks in the logs": len(result.tracebacks),
        "rounds of faults": len(result.pauses),
        "seconds from the end of the last fault of a round until both clusters agreed, mean": (
            f"{statistics.fmean(result.pauses):.0f}"
        ),
        "the same, longest": f"{max(result.pauses):.0f}",
    }
    machine = (
        f"`make soak`, seed {seed}, on {report.machine_text(report.machine())}; both control "
        "planes, a real foreign node with a gateway, and two farlets with leader election on this "
        "machine. Two proxies between farlet and the API servers inject the faults of requests."
    )
    lines = [
        f"# Random faults, {today}",
        "",
        "Purpose: check that no fault, and no order of faults, loses a pod or runs it twice.",
        "",
        machine,
        "",
        "| | |",
        "|---|---|",
        *(f"| {what} | {count} |" for what, count in rows.items()),
        "",
        "| fault | times |",
        "|---|---|",
        *(f"| {kind.about} | {result.faults[kind]} |" for kind in Kind),
    ]
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Keep the page among the records of long runs."""
    today = datetime.datetime.now(datetime.UTC).date()
    (RESULTS / f"{today}-random-faults.md").write_text(text)
