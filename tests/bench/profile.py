"""Show where farlet spends its CPU time while pods are created, and while they are deleted.

py-spy samples the process 200 times per second and ignores threads that wait. For each phase there
is a flame graph in dist/ and a table of the functions with the longest self time. Sampling slows
farlet down: measure with `make bench`.

  make profile                            mode home, 1,000 pods
  make profile N=300 ARGS=--objects       all pods refer to one ConfigMap and one Secret
  make profile ARGS=--events              foreign nodes write a kubelet's Events
  make profile ARGS="--of ../farlet-old"  farlet of another checkout

Exit codes: 0, 1 if a pod never ran or py-spy failed, 2 for wrong usage, 130 after Ctrl-C.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import environment, flamegraph, mirrorevents, othertree, report, serving, variants
from bench.environment import OWN
from bench.interrupts import Interrupts
from bench.variants import FARLET, Variant
from bench.workload import NeverRan
from clusters import errors, farlet, instance, pair, processes
from clusters import progress as progresses

RATE = 200
"""Samples per second."""
_PATIENCE = 60.0


def main() -> int:
    arguments = parsed(sys.argv[1:])
    progress = progresses.Progress()
    interrupts = Interrupts()
    variant = Variant(arguments.mode, objects=arguments.objects, events=arguments.events)
    stages = [mirrorevents.STAGES] if variant.events else []
    where = report.machine()
    try:
        with environment.clusters(audit=False, progress=progress, stages=stages) as both:
            graphs = interrupts.run(_run(both, variant, arguments, progress))
    except (NeverRan, errors.HarnessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{arguments.n} pods, {variant.words()}; load before {where['load_before']:.1f}")
    for phase, path in graphs.items():
        found = flamegraph.self_samples(path.read_text())
        print(f"\n{phase}: {path}")
        print(flamegraph.table(found, count=arguments.n, rate=RATE))
    return 0


async def _run(
    both: pair.Clusters,
    variant: Variant,
    arguments: argparse.Namespace,
    progress: progresses.Progress,
) -> dict[str, Path]:
    """The flame graphs, by phase."""
    arguments.directory.mkdir(parents=True, exist_ok=True)
    graphs: dict[str, Path] = {}

    def during(phase: str, made: farlet.Farlet) -> contextlib.AbstractContextManager[None]:
        graphs[phase] = path = arguments.directory / f"profile-{phase}.svg"
        return sampled(made.process.pid, path, py_spy=arguments.py_spy, owner=both.instance)

    tree: othertree.Tree | None = None
    if arguments.of is not None:
        tree = othertree.read(arguments.of, system_namespace=OWN.system_namespace)
    async with environment.opened(
        both,
        variant=variant,
        system_rules=None if tree is None else tree.system_rules,
        pod_rules=None if tree is None else tree.pod_rules,
    ) as on:
        side = FARLET if tree is None else tree.side
        with progress.step("warming up"):
            await serving.run(on, count=min(arguments.n, 50), prefix="warm", side=side)
        with progress.step(f"sampling {arguments.n} pods"):
            await serving.run(on, count=arguments.n, prefix="pod", side=side, during=during)
    return graphs


@contextlib.contextmanager
def sampled(pid: int, path: Path, *, py_spy: str, owner: instance.Instance) -> Iterator[None]:
    """Sample a process during the context; then `path` is its flame graph."""
    sampler = processes.Process(
        "py-spy",
        [
            py_spy,
            "record",
            "--gil",
            "--function",
            f"--rate={RATE}",
            f"--pid={pid}",
            f"--output={path}",
        ],
        log=owner.folder / f"{path.stem}.log",
        environment=owner.environment,
    )
    sampler.start()
    try:
        processes.wait_for(
            "py-spy to attach (as root; in a container with CAP_SYS_PTRACE)",
            lambda: "Sampling process" in sampler.output(),
            seconds=_PATIENCE,
            process=sampler,
        )
        yield
        sampler.signal(signal.SIGINT)  # py-spy then writes its file
        if sampler.wait(seconds=_PATIENCE) != 0:
            raise errors.HarnessError(f"py-spy failed{sampler.tail()}")
    finally:
        sampler.kill()


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The arguments; exits with 2 for wrong ones."""
    parser = variants.parser("bench.profile", __doc__)
    parser.add_argument(
        "--events", action="store_true", help="foreign nodes write a kubelet's Events"
    )
    parser.add_argument(
        "--of", type=Path, metavar="DIR", help="farlet of this checkout instead of this one"
    )
    parser.add_argument(
        "--py-spy", default="py-spy", metavar="FILE", help="the program, default py-spy in PATH"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("dist"),
        metavar="DIR",
        help="where to write the flame graphs, default dist",
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
