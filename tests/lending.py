"""Clusters are lent to tests, and at the end it is looked at what farlets have asked of them.

No farlet may have been refused anything, nor have asked for what its table of rights lacks. With
`--every-right`, for a run of all tests, each row of the table must have been used.

Apart from `conftest.py`, of which pytest makes a module of its own beside the one that is imported.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import rightsaudit
from clusters import pair, refusals
from farlet import rbac

_EXCUSES = pytest.StashKey[list[refusals.Excuse]]()
_USED = pytest.StashKey[set[rightsaudit.Used]]()
_OUTPUT = "used rights"


@contextlib.contextmanager
def lent(both: pair.Clusters, config: pytest.Config) -> Iterator[pair.Clusters]:
    """Clusters for tests, stopped at the end.

    AssertionError for a 403 that no test wanted, and for a request without a right.
    """
    with both:
        yield both
        excuses = config.stash.get(_EXCUSES, [])
        asked = rightsaudit.read(both)
        config.stash.setdefault(_USED, set()).update(asked.used)
        refusals.check(both, excuses)
        asked.check()


def hand_over_rights(config: pytest.Config) -> None:
    """Give the process that the worker belongs to what this worker's farlets used."""
    used = config.stash.get(_USED, set())
    output: dict[str, Any] = config.workeroutput  # type: ignore[attr-defined]
    output[_OUTPUT] = [(rbac.TABLE.index(one.right), one.verb) for one in used]


def take_over_rights(config: pytest.Config, output: Mapping[str, Any]) -> None:
    """Count what a worker handed over; a worker that died hands over nothing."""
    used = {rightsaudit.Used(rbac.TABLE[row], verb) for row, verb in output.get(_OUTPUT, ())}
    config.stash.setdefault(_USED, set()).update(used)


def unused_rights(config: pytest.Config) -> list[str]:
    """Rows of the table of rights that no test of this run used."""
    used = config.stash.setdefault(_USED, set())
    return rightsaudit.unused(used)


@contextlib.contextmanager
def excused(item: pytest.Item) -> Iterator[None]:
    """While a test runs that is marked `refused`, farlet may be; until its end that is for ever."""
    begin = datetime.datetime.now(datetime.UTC)
    forever = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    sides = [side for marker in item.iter_markers("refused") for side in marker.args]
    ours = [refusals.Excuse(side, begin, forever) for side in sides]
    known = item.config.stash.setdefault(_EXCUSES, [])
    known.extend(ours)
    try:
        yield
    finally:
        end = datetime.datetime.now(datetime.UTC)
        known[len(known) - len(ours) :] = [dataclasses.replace(one, end=end) for one in ours]
