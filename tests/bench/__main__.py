"""Measure floor and farlet in turns on two clusters, and count requests in a separate run.

The floor sends the requests that a pod requires at least, without any decision. One invocation
measures one variant.

  make bench                                      mode home, 1,000 pods, three turns
  make bench N=200 ARGS="--mode=remote"           pods without a token of the home cluster
  make bench ARGS=--objects                       all pods refer to one ConfigMap and one Secret
  make bench ARGS=--events                        a kubelet's Events, with and without showing them
  make bench ARGS="--against ../farlet-old"       beside farlet of another checkout

Exit codes: 0, 1 if a pod never ran, 2 for wrong usage, 130 after Ctrl-C. No process is left
behind in any case.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import (
    counting,
    environment,
    floor,
    frozen,
    mirrorevents,
    othertree,
    recording,
    report,
    serving,
    variants,
)
from bench.environment import Environment
from bench.interrupts import Interrupts
from bench.variants import FARLET, WITHOUT_EVENTS, Side, Variant
from bench.workload import NeverRan
from clusters import errors, pair
from clusters import progress as progresses
from farlet.errors import FarletError

COUNTED = 200
"""Pods in the run that counts requests; requests per pod do not depend on it."""


def main() -> int:
    arguments = parsed(sys.argv[1:])
    progress = progresses.Progress()
    where = report.machine()
    interrupts = Interrupts()
    variant = Variant(arguments.mode, objects=arguments.objects, events=arguments.events)
    stages = [mirrorevents.STAGES] if variant.events else []
    try:
        tree = arguments.against and othertree.read(
            arguments.against, system_namespace=environment.AGAINST.system_namespace
        )
        with environment.clusters(audit=False, progress=progress, stages=stages) as both:
            turns = interrupts.run(_turns(both, variant, tree, arguments, progress))
        found = report.result(arguments.n, variant, turns, where=where)
        _write(arguments.json, found)
        print(report.table(found), flush=True)
        if arguments.count_requests:
            with environment.clusters(audit=True, progress=progress, stages=stages) as both:
                count = min(arguments.n, COUNTED)
                requests = interrupts.run(_count(both, variant, tree, count))
            found["requests"] = report.requests(requests)
            _write(arguments.json, found)
            print(report.request_table(found["requests"]))
    except (NeverRan, errors.HarnessError, FarletError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\nAll figures: {arguments.json}")
    return 0


def _write(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


async def _turns(
    both: pair.Clusters,
    variant: Variant,
    tree: othertree.Tree | None,
    arguments: argparse.Namespace,
    progress: progresses.Progress,
) -> list[report.Turn]:
    count, turns = arguments.n, []
    async with contextlib.AsyncExitStack() as stack:
        sides = await _sides(both, variant, tree, stack)
        own = sides[0][1]
        script = frozen.script(await recording.record(own), mode=variant.mode)
        # The first pods fill the caches of the API servers; no run should pay for that.
        await floor.run(own, script, count=min(count, 100), prefix="warm")
        for number in range(1, arguments.turns + 1):
            turn = f"turn {number} of {arguments.turns}"
            with progress.step(f"{turn}: floor, {count} pods"):
                least = await floor.run(own, script, count=count, prefix=f"floor-{number}")
            runs = {}
            for side, on in sides if number % 2 else reversed(sides):
                with progress.step(f"{turn}: {side.title}, {count} pods"):
                    prefix = f"pod-{number}-{sides.index((side, on))}"
                    runs[side.title] = await serving.run(on, count=count, prefix=prefix, side=side)
            in_order = {side.title: runs[side.title] for side, _ in sides}
            turns.append(report.Turn(least, in_order))
            seconds = (f"{title} {run.seconds:.1f} s" for title, run in in_order.items())
            progress.line(f"floor {least.seconds:.1f} s, {', '.join(seconds)}")
    return turns


async def _count(
    both: pair.Clusters, variant: Variant, tree: othertree.Tree | None, count: int
) -> dict[str, counting.Requests]:
    async with contextlib.AsyncExitStack() as stack:
        sides = await _sides(both, variant, tree, stack)
        return {
            side.title: await counting.run(on, count=count, side=side)
            for side, on in sides
            if side is not WITHOUT_EVENTS
        }


async def _sides(
    both: pair.Clusters,
    variant: Variant,
    tree: othertree.Tree | None,
    stack: contextlib.AsyncExitStack,
) -> list[tuple[Side, Environment]]:
    """The versions of farlet that take turns, each with its environment; this one is first."""
    own = await stack.enter_async_context(environment.opened(both, variant=variant))
    sides = [(FARLET, own)]
    if variant.events:
        sides.append((WITHOUT_EVENTS, own))
    if tree is not None:
        other = environment.opened(
            both,
            variant=variant,
            place=environment.AGAINST,
            system_rules=tree.system_rules,
            pod_rules=tree.pod_rules,
        )
        sides.append((tree.side, await stack.enter_async_context(other)))
    return sides


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The arguments; exits with 2 for wrong ones."""
    parser = variants.parser("bench", __doc__)
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--events",
        action="store_true",
        help="foreign nodes write a kubelet's Events; farlet takes turns with itself under "
        "--mirror-events=none",
    )
    other.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="another checkout (git worktree add DIR COMMIT), whose farlet takes turns with "
        "this one, in the present virtual environment",
    )
    parser.add_argument(
        "--turns",
        type=_positive,
        default=3,
        metavar="COUNT",
        help="how often floor and farlet take turns, default 3",
    )
    parser.add_argument(
        "--no-requests",
        dest="count_requests",
        action="store_false",
        help="skip the run that counts requests",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=Path(".build/bench.json"),
        metavar="FILE",
        help="where to write all figures, default .build/bench.json",
    )
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
