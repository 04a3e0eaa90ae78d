"""Run Kubernetes' tests through a virtual node, and print what passed."""

import argparse
import asyncio
import datetime
import os
import platform
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from clusters import binaries, errors, farlet, pair
from clusters import progress as progresses
from clusters.cluster import Spec, Usual
from conformance import images, suite
from farlet.context import Allowance

NODE = "virtual"
SETTINGS = {
    "pod-network": "connected",
    "reflect": "services",
    "allow-pod-feature": ",".join(Allowance),
}
"""What the tests need beyond the defaults."""
PRIVILEGED = "podSecurityLevel: privileged\n"
_USUAL = {
    "node-taints": "none",
    "log-level": "info",
    "home-name": "home",
    "foreign-system-namespace": "farlet",
    "create-namespaces": "true",
}
_MESSAGE = 400
_DOCS = Path(__file__).parents[2] / "docs" / "soak"
_PAGE = """\
# Kubernetes' NodeConformance tests, {today}

Purpose: show which of Kubernetes' own tests pass through a virtual node.

`make conformance{arguments}` with the tests of Kubernetes {version}, on {cores} cores and Linux
{kernel}; farlet with {settings}. **{passed} of {total} tests passed.**
[What is run, and why tests fail](../conformance.md).
"""


def main() -> int:
    """Exit code: 0 if all chosen tests passed, 1 if not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="only tests of less than 40 s")
    parser.add_argument("--only", metavar="TEXT", help="only tests whose names match this pattern")
    parser.add_argument("--defaults", action="store_true", help="farlet's default settings")
    parser.add_argument("--out", type=Path, default=Path("dist/conformance"), help="for the logs")
    options = parser.parse_args()
    chosen = [
        test
        for test in suite.tests()
        if (test.fast or not options.fast) and re.search(options.only or "", test.name)
    ]
    if not chosen:
        parser.error("no test has such a name; tests/conformance/tests.tsv lists them")
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    try:
        results = asyncio.run(_run(chosen, defaults=options.defaults, out=options.out.resolve()))
    except errors.HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; both clusters are stopped", file=sys.stderr)
        return 130
    if chosen == suite.tests():
        _write(results, defaults=options.defaults)
    return _report(results)


async def _run(chosen: list[suite.Test], *, defaults: bool, out: Path) -> list[suite.Result]:
    progress = progresses.Progress()
    found = suite.programs(progress=progress)
    archives = images.prepare(found, progress=progress)
    with pair.start(
        home=Spec("home", number=1, fake_nodes=0),
        foreign=Spec("foreign", number=2, real_node=True, fake_nodes=0, usual=Usual.REAL),
        progress=progress,
    ) as both:
        with progress.step("loading images"):
            for name, archive in archives.items():
                both.foreign.load_image(name, archive)
        both.foreign.kubectl("create", "namespace", "farlet")
        settings = dict(_USUAL)
        if not defaults:
            namespaces = both.instance.folder / "namespaces.yaml"
            namespaces.write_text(PRIVILEGED)
            settings |= {**SETTINGS, "namespace-defaults": str(namespaces)}
        process = farlet.create(
            both,
            node=NODE,
            home_login=both.home.kubeconfig,
            foreign_login=both.foreign.kubeconfig,
            settings=settings,
        )
        process.start()
        try:
            await process.ready()
            with progress.step(f"{len(chosen)} of Kubernetes' tests"):
                return await suite.run(
                    chosen,
                    both.home,
                    found=found,
                    log=out / "tests.log",
                    at_once=suite.WAITING_PROCESSES if defaults else suite.PROCESSES,
                )
        finally:
            await process.stop()
            (out / "farlet.log").write_text(process.log)


def _write(results: Iterable[suite.Result], *, defaults: bool) -> None:
    """The page with the result of a run of all tests."""
    today = datetime.datetime.now(datetime.UTC).date()
    results = list(results)
    failed = [result for result in results if result.message]
    shown = ", ".join(f"`--{flag}={value}`" for flag, value in SETTINGS.items())
    page = _PAGE.format(
        today=today,
        arguments=" ARGS=--defaults" if defaults else "",
        version=binaries.KUBERNETES,
        cores=os.cpu_count(),
        kernel=platform.release(),
        settings="its defaults" if defaults else f"{shown} and privileged namespaces",
        passed=len(results) - len(failed),
        total=len(results),
    )
    if failed:
        page += "\n| failed | message |\n|---|---|\n"
    for result in failed:
        page += f"| {_cell(result.name)} | {_cell(result.message[:_MESSAGE])} |\n"
    suffix = "-defaults" if defaults else ""
    (_DOCS / f"{today}-conformance{suffix}.md").write_text(page)


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_`])", r"\\\1", text)


def _report(results: list[suite.Result]) -> int:
    failed = [result for result in results if result.message]
    for result in failed:
        print(f"FAILED after {result.seconds:.0f} s: {result.name}\n  {result.message[:_MESSAGE]}")
    print(f"{len(results) - len(failed)} of {len(results)} tests passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
