"""A unit test fails only because of what it does, in every run: not because of another test or
a busy machine.

Generated examples are the same in every run, and none has a time limit. New ones are for people:
`make unit ARGS="--hypothesis-profile=default -k name"`.

A test that leaves a socket open fails itself. Python reports it when the garbage is collected,
which would be during any later test.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Generator

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")

gc.set_threshold(50_000)
"""Each test ends with a collection. More of them during tests take a fifth of the time."""


def pytest_collection_finish() -> None:
    """Exclude objects that stay from later collections: each then takes a millisecond."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Fail a test that leaves something open."""
    result = yield
    left = _left_open()
    if nextitem is None or nextitem.path != item.path:
        gc.freeze()  # what a module leaves stays: reports, caches, imported modules
    if left:
        pytest.fail("left open, or never awaited:\n" + "\n".join(left), pytrace=False)
    return result


@pytest.fixture(autouse=True)
def _no_public_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test trusts public CAs, and reading them takes 20 ms for each connection."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Generator[None]:
    """What a command configures for its process ends with the test."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def _left_open() -> list[str]:
    """Objects that warn when they are collected, as they do with warnings as errors."""
    found: list[str] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda one: found.append(f"{one.exc_value!r} of {one.object!r}")
    try:
        gc.collect()
    finally:
        sys.unraisablehook = before
    return found
