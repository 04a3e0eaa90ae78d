"""How several pytest workers (`pytest -n`) share the modules of a run.

A worker runs whole modules, because the fixtures of a module serve all its tests, and each worker
has its own pair of clusters. The packages in `TOGETHER` have separate clusters too: one worker runs
such a package as a whole. Long modules start first, so that no worker starts one when the others
have nothing left; the mark `takes(seconds)` declares the duration of a module.
"""

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

TOGETHER = ("tests/integration/nodes/",)
_SECONDS = 10
"""Seconds of a module without a mark."""


class WholeModules(LoadFileScheduling):
    """Gives each worker one module after another, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker its next module while it runs its last test and not before.

        It cannot wait longer: pytest must know the next test to know what to tear down.
        """
        if self.workqueue and self._pending_of(self.assigned_work[node]) > 1:
            return
        super()._reschedule(node)


def unit(nodeid: str) -> str:
    """The unit that one worker runs: a module, or a package."""
    module = nodeid.split("::", 1)[0]
    return next((package for package in TOGETHER if module.startswith(package)), module)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the units by duration; the order within a module stays."""
    seconds: dict[str, dict[str, float]] = {}
    for item in items:
        marker = item.get_closest_marker("takes")
        took = marker.args[0] if marker is not None else _SECONDS
        seconds.setdefault(unit(item.nodeid), {})[item.nodeid.split("::", 1)[0]] = took
    items.sort(key=lambda item: -sum(seconds[unit(item.nodeid)].values()))
