"""One run of tests in this process, on clusters that are already there.

A test has a limited time, and its reports are collected. The checks that otherwise follow a run,
such as that of unexpected 403s, are left out: here farlet is to get them.
"""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from clusters import workspace
from clusters.farlet import ROOT
from clusters.pair import Clusters

_GRANTED_SECONDS = 3.0


@dataclasses.dataclass
class Outcome:
    """What became of a test. `texts` are its errors."""

    seconds: float = 0.0
    phases: dict[str, str] = dataclasses.field(default_factory=dict)
    texts: list[str] = dataclasses.field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the test and its fixtures passed."""
        return set(self.phases) == {"setup", "call", "teardown"} and not self.texts

    @property
    def failed(self) -> bool:
        """Whether the test has begun, and has failed itself."""
        return self.phases.get("call") == "failed"


def run(
    clusters: Clusters, tests: Sequence[str], *, log: Path, seconds: float | None = None
) -> Mapping[str, Outcome]:
    """Run these tests. `seconds` limits each of them. Raises KeyboardInterrupt."""
    plugin = _Session(clusters, seconds)
    flags = ["--home-identity=account", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    paths = [f"{ROOT}/{test}" for test in tests]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        _short_waits(enabled=seconds is not None),
    ):
        code = pytest.main([*flags, *paths], plugins=[plugin])
    if code is pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    return plugin.outcomes


class _Session:
    """A plugin of pytest."""

    def __init__(self, clusters: Clusters, seconds: float | None) -> None:
        self._clusters = clusters
        self._seconds = seconds
        self.outcomes: dict[str, Outcome] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: Any
    ) -> Clusters | None:
        """Every test gets these clusters."""
        if fixturedef.argname != "clusters":
            return None
        fixturedef.cached_result = (self._clusters, fixturedef.cache_key(request), None)
        return self._clusters

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._seconds is not None:
            for item in items:
                assert isinstance(item, pytest.Function)
                item.obj = _limited(item.obj, self._seconds)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = self.outcomes.setdefault(report.nodeid, Outcome())
        outcome.phases[report.when] = report.outcome
        if report.when == "call":
            outcome.seconds = report.duration
        if report.failed:
            outcome.texts.append(report.longreprtext)


def _limited(test: Callable[..., Awaitable[None]], seconds: float) -> Callable[..., Any]:
    @functools.wraps(test)
    async def limited(**fixtures: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(**fixtures)

    return limited


@contextlib.contextmanager
def _short_waits(*, enabled: bool) -> Iterator[None]:
    """Fixtures do not wait long until the API server allows what it never will."""
    until_allowed = workspace.until_allowed

    async def for_a_moment(*arguments: Any, **named: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRANTED_SECONDS):
                await until_allowed(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        if enabled:
            patch.setattr(workspace, "until_allowed", for_a_moment)
        yield
