"""Clusters for tests, with a check of farlet's requests in their audit logs at the end.

No farlet may have got an unexpected 403, sent a request that its table of permissions lacks, or
read a Secret to which no pod refers. With `--every-permission`, for a run of all tests, each row of
the table must have been used.

Separate from `conftest.py`, because pytest loads that as another module than an import does.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import permissions_audit
import secret_reads
from clusters import pair, refusals
from farlet import rbac

_EXCUSES = pytest.StashKey[list[refusals.Excuse]]()
_USED = pytest.StashKey[set[permissions_audit.Used]]()
_OUTPUT = "used permissions"


@contextlib.contextmanager
def lent(both: pair.Clusters, config: pytest.Config) -> Iterator[pair.Clusters]:
    """Clusters for tests, stopped at the end.

    AssertionError for an unexpected 403, a request without a row, and a Secret that no pod needs.
    """
    with both:
        secret_reads.create(both)
        yield both
        excuses = config.stash.get(_EXCUSES, [])
        asked = permissions_audit.read(both)
        config.stash.setdefault(_USED, set()).update(asked.used)
        refusals.check(both, excuses)
        asked.check()
        secret_reads.check(both)


def hand_over_permissions(config: pytest.Config) -> None:
    """Send the permissions that this worker's farlets used to the main process."""
    used = config.stash.get(_USED, set())
    output: dict[str, Any] = config.workeroutput  # type: ignore[attr-defined]
    output[_OUTPUT] = [(rbac.TABLE.index(one.permission), one.verb) for one in used]


def take_over_permissions(config: pytest.Config, output: Mapping[str, Any]) -> None:
    """Add the used permissions of a worker; a worker that died sends none."""
    used = {permissions_audit.Used(rbac.TABLE[row], verb) for row, verb in output.get(_OUTPUT, ())}
    config.stash.setdefault(_USED, set()).update(used)


def unused_permissions(config: pytest.Config) -> list[str]:
    """Rows of the table of permissions that no test of this run used."""
    used = config.stash.setdefault(_USED, set())
    return permissions_audit.unused(used)


@contextlib.contextmanager
def excused(item: pytest.Item) -> Iterator[None]:
    """Excuse 403s while a test marked `refused` runs; without an end while it is running."""
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
