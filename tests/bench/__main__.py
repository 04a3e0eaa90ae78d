"""`python -m bench N=1000`: floor and farlet in turn, requests counted separately, one table.

Exit codes: 0, 1 if a pod never ran, 2 for wrong usage, 130 after Ctrl-C. No process is left
behind in any case.
"""

import argparse
import json
import sys
from pathlib import Path

from bench import counting, environment, floor, recording, report, serving
from bench.interrupts import Interrupts
from bench.workload import NeverRan
from clusters import errors, pair
from clusters import progress as progresses
from farlet.errors import FarletError

COUNTED = 200
"""Pods in the run that counts requests; requests per pod do not depend on it."""


def main() -> int:
    arguments = _arguments()
    progress = progresses.Progress()
    where = report.machine()
    interrupts = Interrupts()
    try:
        with environment.clusters(audit=False, progress=progress) as both:
            pairs = interrupts.run(
                _pairs(both, count=arguments.n, pairs=arguments.pairs, progress=progress)
            )
        requests = None
        if arguments.count_requests:
            with environment.clusters(audit=True, progress=progress) as both:
                requests = interrupts.run(_count(both, min(arguments.n, COUNTED)))
    except (NeverRan, errors.HarnessError, FarletError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    found = report.result(arguments.n, pairs, requests, where=where)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report.table(found))
    print(f"\nAll figures: {arguments.json}")
    return 0


async def _pairs(
    both: pair.Clusters, *, count: int, pairs: int, progress: progresses.Progress
) -> list[report.Pair]:
    found = []
    async with environment.opened(both) as on:
        script = await recording.record(on)
        # The first pods fill the caches of the API servers; neither run should pay for that.
        await floor.run(on, script, count=min(count, 100), prefix="warm")
        for number in range(1, pairs + 1):
            with progress.step(f"pair {number} of {pairs}: floor, {count} pods"):
                least = await floor.run(on, script, count=count, prefix=f"floor-{number}")
            with progress.step(f"pair {number} of {pairs}: farlet, {count} pods"):
                run = await serving.run(on, count=count, prefix=f"pod-{number}")
            found.append(report.Pair(least, run))
            progress.line(
                f"floor {least.seconds:.1f} s, farlet {run.seconds:.1f} s "
                f"({run.seconds / least.seconds:.2f} times)"
            )
    return found


async def _count(both: pair.Clusters, count: int) -> counting.Requests:
    async with environment.opened(both) as on:
        return await counting.run(on, count=count)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("n", metavar="N=COUNT", nargs="?", type=_count_of, default=1000)
    parser.add_argument(
        "--pairs", type=int, default=3, help="how often floor and farlet take turns"
    )
    parser.add_argument(
        "--no-requests",
        dest="count_requests",
        action="store_false",
        help="skip the run that counts requests",
    )
    parser.add_argument("--json", type=Path, default=Path(".build/bench.json"), metavar="FILE")
    arguments = parser.parse_args()
    if arguments.pairs < 1:
        parser.error("--pairs must be at least 1")
    return arguments


def _count_of(text: str) -> int:
    number = text.removeprefix("N=")
    if not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of pods; expected for example N=1000"
        )
    return int(number)


if __name__ == "__main__":
    sys.exit(main())
