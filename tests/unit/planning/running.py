"""Runs a story in a world: a clock that jumps, farlet's log, and the plan it decides by."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from types import ModuleType

import pytest
import structlog.testing

from farlet.reconcile import reconciler
from farlet.telemetry.metrics import Metrics
from unit import faketime
from unit.planning import objects
from unit.planning.world import Step, World


class Clock:
    """Replaces `time` in farlet's modules."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        return objects.NOW + self._loop.time()

    monotonic = time


@functools.cache
def _modules_with_a_clock() -> Sequence[ModuleType]:
    return [
        module
        for name, module in sys.modules.items()
        if name.startswith("farlet.") and getattr(module, "time", None) is time
    ]


@functools.cache
def _metrics() -> Metrics:
    """Those of all worlds. No story reads them, and creating them takes as long as some stories."""
    return Metrics()


@contextlib.contextmanager
def world(*, plan: ModuleType | None = None) -> Iterator[World]:
    """A world of its own. `plan`: what farlet decides by, if not its own plan."""
    with faketime.loop() as loop, pytest.MonkeyPatch.context() as patch:
        clock = Clock(loop)
        for module in _modules_with_a_clock():
            patch.setattr(module, "time", clock)
        if plan is not None:
            patch.setattr(reconciler, "plan", plan)
        with structlog.testing.capture_logs() as logs:
            yield World(loop, clock.time, _metrics(), logs)


def violations(story: Sequence[Step], *, plan: ModuleType | None = None) -> list[str]:
    """What goes wrong in a story."""
    with world(plan=plan) as made:
        return made.run(story)
