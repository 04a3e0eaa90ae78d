"""Runs Kubernetes' tests against a cluster, and reads what they report."""

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from clusters import binaries, errors
from clusters import progress as progresses
from clusters.cluster import Cluster

HERE = Path(__file__).parent
PROCESSES = 10
"""Tests at the same time: they wait most of the time."""
WAITING_PROCESSES = 24
"""The same where many pods are refused: each makes its test wait for five minutes."""
_FAST_SECONDS = 40
_MINUTES = 90


@dataclasses.dataclass(frozen=True)
class Test:
    """One of the tests that pass on a plain real node of these clusters."""

    name: str
    seconds: int  # there, when it ran beside others

    @property
    def fast(self) -> bool:
        return self.seconds < _FAST_SECONDS and "[Serial]" not in self.name


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a test; `message` is empty if it passed."""

    name: str
    seconds: float
    message: str


def tests() -> list[Test]:
    """All tests that `tests.tsv` lists."""
    rows = (line.split("\t") for line in (HERE / "tests.tsv").read_text().splitlines())
    return [Test(name, int(seconds)) for seconds, name in rows]


def programs(*, progress: progresses.Progress) -> Mapping[str, Path]:
    """The tests' own programs, built once."""
    return binaries.find(("e2e.test", "ginkgo", "agnhost", "nonewprivs"), progress=progress)


async def run(
    chosen: Sequence[Test],
    cluster: Cluster,
    *,
    found: Mapping[str, Path],
    log: Path,
    at_once: int = PROCESSES,
) -> list[Result]:
    """The results of these tests. Raises an error if one of them did not run.

    A cancellation ends the tests.
    """
    names = "|".join(re.escape(test.name).replace(r"\ ", " ") for test in chosen)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder, log.open("wb") as output:
        command: list[str | Path] = [
            *(found["ginkgo"], "--no-color", f"--procs={at_once}", f"--timeout={_MINUTES}m"),
            *("--keep-going", "--silence-skips", "--output-interceptor-mode=none"),
            *(f"--focus=({names})$", found["e2e.test"], "--", "--provider=local"),
            *(f"--kubeconfig={cluster.kubeconfig}", f"--kubectl-path={cluster.kubectl_program}"),
            # No system pods, and one node, which need not be like others.
            *("--num-nodes=1", "--allowed-not-ready-nodes=-1", "--minStartupPods=-1"),
            *("--system-daemonsets-startup-timeout=1s", "--node-schedulable-timeout=30s"),
            *("--disable-log-dump", f"--report-dir={folder}"),
        ]
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
        )
        try:
            await child.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # it and its children have ended
                os.killpg(child.pid, signal.SIGKILL)
        results = _results(Path(folder))
    missing = {test.name for test in chosen} - {result.name for result in results}
    if missing:
        raise errors.HarnessError(
            f"{len(missing)} of Kubernetes' tests did not run, {min(missing)!r} for one; see {log}"
        )
    return sorted(results, key=lambda result: result.name)


def _results(folder: Path) -> list[Result]:
    return [one for path in folder.glob("junit*.xml") for one in _read(path)]


def _read(report: Path) -> list[Result]:
    """The results in one of ginkgo's JUnit files."""
    results = []
    for case in ElementTree.parse(report).iter("testcase"):
        kind, _, name = case.get("name", "").partition(" ")
        if kind != "[It]" or case.find("skipped") is not None:
            continue
        wrong = next((one for one in (case.find("failure"), case.find("error")) if one is not None),
                     None)  # fmt: skip
        message = ""
        if wrong is not None:
            message = " ".join(f"{wrong.get('message')} {wrong.text}".split())
        results.append(Result(name, float(case.get("time", "0")), message))
    return results
