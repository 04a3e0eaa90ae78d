"""Evidence of a mirror: what is certain before the inventory is read, and without a live read."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from farlet import errors
from farlet.constants import ObjectKey
from farlet.context import Context, NamespaceMap
from unit.planning import objects
from unit.planning.fake_cluster import Fault
from unit.reconcile import harness
from unit.reconcile.harness import HOME, Harness

_PAIRS = NamespaceMap(home="h", own=harness.OWN, template=None, pairs=((HOME, harness.FOREIGN),))
ONE_NAMESPACE: Context = dataclasses.replace(objects.CONTEXT, namespaces=_PAIRS)
"""Only `default` is offloaded; pods of `second` have nowhere to go."""
REGISTRY = f"/namespaces/{harness.OWN}/configmaps"


WRITES = r"^(PATCH|DELETE) .*/pods/web"


def _unread(made: Harness) -> None:
    made.foreign.refusing[REGISTRY] = made.foreign.silence


@pytest.mark.parametrize(
    "deleted", [False, True], ids=["is not taken for lost", "is not let go while it is deleted"]
)
@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_before_the_inventory_is_read_a_mirrored_pod_of_no_namespace(
    policy: str, deleted: bool
) -> None:
    with harness.running(ctx=ONE_NAMESPACE, starts=False) as s:
        s.create(namespace="second", policy=policy, mirrored="mirror-1")
        if deleted:
            s.delete(namespace="second")
        _unread(s)
        s.start()
        s.wait(120.0)
        assert not s.home.requests(WRITES)
        assert not s.foreign.requests(r"/pods/web"), "the pod has no foreign namespace"
        assert not [entry for entry in s.logs if entry["log_level"] == "error"]


def test_before_the_inventory_is_read_a_pod_that_never_ran_is_not_removed() -> None:
    with harness.running(ctx=ONE_NAMESPACE, starts=False) as s:
        s.create(namespace="second")
        s.delete(namespace="second")
        _unread(s)
        s.start()
        s.wait(60.0)
        assert s.pod(namespace="second") is not None
        s.foreign.refusing.clear()
        s.wait(15.0)
        assert s.pod(namespace="second") is None, "it is reconciled once the registry is read"


def test_before_the_inventory_is_read_changing_messages_are_written_once_a_minute() -> None:
    with harness.running(ctx=ONE_NAMESPACE, starts=False) as s:
        tries = itertools.count(1)
        s.foreign.refusing[REGISTRY] = lambda: errors.Unreachable(
            cluster="foreign", request="GET", cause=f"connection reset, try {next(tries)}"
        )
        s.create(namespace="second")
        s.start()
        for _ in range(300):
            s.wait(1.0)
            s.queue.add(ObjectKey("second", "web"))
        at = [one.at for one in s.home.requests(WRITES)]
        assert 4 <= len(at) <= 6
        assert all(b - a >= 60.0 for a, b in itertools.pairwise(at))


def test_once_the_inventory_is_read_a_pod_of_no_namespace_shows_the_reason() -> None:
    with harness.running(ctx=ONE_NAMESPACE, starts=False) as s:
        s.create(namespace="second")
        _unread(s)
        s.start()
        s.wait(30.0)
        s.foreign.refusing.clear()
        s.wait(15.0)
        assert ObjectKey("second", "web") in s.woken
        assert s.reason(namespace="second") == "NamespaceNotOffloaded"


@pytest.mark.parametrize(
    "deleted", [False, True], ids=["is not taken for lost", "is not let go while it is deleted"]
)
@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_without_a_live_read_a_pod_whose_status_shows_a_mirror(policy: str, deleted: bool) -> None:
    with harness.running(starts=False) as s:
        s.create(policy=policy, mirrored="mirror-1")
        if deleted:
            s.delete()
        s.foreign.refusing[harness.FOREIGN] = s.foreign.silence
        s.start()
        s.wait(60.0)
        assert not s.scopes.may_hold_mirrors(harness.FOREIGN), (
            "the registry lists no such namespace"
        )
        assert not s.home.requests(WRITES)
        s.foreign.refusing.clear()
        s.wait(40.0)
        assert s.foreign.requests(r"GET .*/pods/web"), "a live read comes before the decision"
        assert (s.pod() is None) is deleted


def test_a_mirrored_pod_of_no_namespace_reports_why_it_cannot_be_deleted() -> None:
    with harness.running(ctx=ONE_NAMESPACE, starts=False) as s:
        s.create(namespace="second", mirrored="mirror-1")
        s.start()
        s.wait(10.0)
        s.delete(namespace="second")
        s.wait(300.0)
        assert s.pod(namespace="second") is not None, "what it ran may run still"
        assert not s.foreign.requests(r"/pods/web"), "the pod has no foreign namespace"
        assert s.events() == ["NamespaceNotOffloaded"]
        assert not [entry for entry in s.logs if entry["log_level"] == "error"]


def test_a_namespace_whose_removal_was_not_answered_is_in_the_inventory_again() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        assert s.registered() == {harness.FOREIGN: HOME}
        s.delete()
        s.wait(60.0)
        assert s.pod() is None
        s.prune()
        s.wait(301.0)
        s.foreign.faults.append(Fault.DONE)
        s.prune()
        assert s.registered() == {}, "the removal was carried out; its answer was lost"
        s.create()
        s.wait(5.0)
        assert s.mirror() is not None
        assert s.registered() == {harness.FOREIGN: HOME}


def test_a_namespace_whose_removal_never_arrived_stays_in_the_inventory() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.delete()
        s.wait(60.0)
        s.prune()
        s.wait(301.0)
        s.foreign.faults.append(Fault.LOST)
        s.prune()
        assert s.registered() == {harness.FOREIGN: HOME}
        assert s.scopes.may_hold_mirrors(harness.FOREIGN), "mirrors there are not taken for gone"
