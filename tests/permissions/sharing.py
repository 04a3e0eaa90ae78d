"""Shares the rules among processes, each with clusters of its own, and runs their tests.

One process runs one test after another: pytest cannot run two at the same time.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clusters import pair
from clusters import progress as progresses
from clusters.pair import Clusters
from permissions import removal, rules, session
from permissions.evidence import Evidence
from permissions.rules import Rule
from permissions.session import Outcome

SLOWER, MORE_SECONDS = 1.5, 15.0
"""Time for a test without its rule: this factor of its usual time, and these seconds."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What the test of a rule showed. `problem`: why it does not show that the rule is required."""

    rule: str
    test: str
    seconds: float
    cause: str
    problem: str | None

    def line(self) -> str:
        """For a terminal."""
        shown = self.cause if self.problem is None else f"{self.problem} ({self.cause})"
        verdict = "ok   " if self.problem is None else "WRONG"
        return f"{verdict} {self.seconds:4.0f} s  {self.rule}: {shown}"


def shares(chosen: Mapping[str, str], workers: int) -> list[dict[str, str]]:
    """The rules of each worker; those of one test stay together, as it also runs with all rules."""
    groups: dict[str, dict[str, str]] = {}
    for rule, test in chosen.items():
        groups.setdefault(test, {})[rule] = test
    made: list[dict[str, str]] = [{} for _ in range(min(workers, len(groups)))]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(made, key=len).update(group)
    return made


def run(shared: Sequence[Mapping[str, str]], *, out: Path) -> list[Result]:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(len(shared), mp_context=context) as pool:
        running = [
            pool.submit(_share, chosen, out / str(number)) for number, chosen in enumerate(shared)
        ]
        return [result for future in running for result in future.result()]


def _share(chosen: Mapping[str, str], out: Path) -> list[Result]:
    """Runs in a process of its own, with clusters of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    results = []
    with pair.real(progress=progresses.Progress()) as clusters:
        for result in _results(clusters, chosen, out=out):
            results.append(result)
            print(result.line(), flush=True)
    return results


def _results(clusters: Clusters, chosen: Mapping[str, str], *, out: Path) -> Iterator[Result]:
    progress = progresses.Progress()
    tests = list(dict.fromkeys(chosen.values()))
    removal.forget_roles(clusters)
    with progress.step(f"{len(tests)} tests with all rules"):
        usual = session.run(clusters, tests, log=out / "all-rules.log")
    for text, test in chosen.items():
        before = usual.get(test, Outcome())
        if not before.passed:
            yield Result(text, test, 0.0, "", "its test does not pass with all rules")
            continue
        yield _without(clusters, rules.parse(text), test, usual=before, log=out / _file(text))


def _without(clusters: Clusters, rule: Rule, test: str, *, usual: Outcome, log: Path) -> Result:
    seconds = SLOWER * usual.seconds + MORE_SECONDS
    began = time.monotonic()
    with removal.without(clusters, rule):
        evidence = Evidence.begin(clusters, rule)
        outcomes = session.run(clusters, [test], log=log, seconds=seconds)
        outcome = outcomes.get(test, Outcome())
        cause = evidence.cause(outcome.texts)
    problem = None
    if outcome.passed:
        problem = "its test passes without it"
    elif not outcome.failed:
        problem = "its test does not begin without it"
    elif cause is None:
        problem = "its test fails for another reason"
    return Result(str(rule), test, time.monotonic() - began, cause or "", problem)


def _file(text: str) -> str:
    return re.sub(r"[^a-z.]+", "-", text) + ".log"
