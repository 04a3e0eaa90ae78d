"""The inventory of foreign namespaces in use, and a start that cannot read it."""

from __future__ import annotations

import pytest

from farlet import errors
from unit.planning.fake_cluster import Fault
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, OWN, Harness


def _emptied(s: Harness) -> None:
    s.create()
    s.wait(5.0)
    s.delete()
    s.wait(60.0)
    assert s.pod() is None
    assert s.mirror() is None


def test_a_deleted_inventory_is_recreated_with_all_its_entries() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.remove_configmaps()
        s.create("db", namespace="second")
        s.wait(5.0)
        assert s.registered() == {FOREIGN: HOME, "second-h": "second"}
        assert s.mirror("db", namespace="second-h") is not None


def test_a_deleted_inventory_is_recreated_without_removed_entries() -> None:
    with harness.running() as s:
        s.create("db", namespace="second")
        _emptied(s)
        s.prune()
        s.wait(301.0)
        s.remove_configmaps()
        s.prune()
        assert s.registered() == {"second-h": "second"}


def test_a_removed_namespace_does_not_come_back_with_the_inventory() -> None:
    with harness.running() as s:
        s.create("db", namespace="second")
        _emptied(s)
        s.prune()
        s.wait(301.0)
        s.foreign.faults.append(Fault.DONE)
        s.prune()
        s.remove_configmaps()
        s.create("cache", namespace="second")
        s.wait(70.0)
        s.create()
        s.wait(5.0)
        assert s.registered() == {"second-h": "second", FOREIGN: HOME}


@pytest.mark.parametrize("namespaces", [(HOME, "second"), ()], ids=["in use", "empty"])
def test_a_deleted_inventory_is_recreated_within_a_minute(
    namespaces: tuple[str, ...],
) -> None:
    with harness.running() as s:
        for namespace in namespaces:
            s.create(namespace=namespace)
        s.wait(5.0)
        before = s.registered()
        s.remove_configmaps()
        s.wait(61.0)
        assert s.registered() == before
        assert len(before) == len(namespaces)


def test_an_inventory_that_cannot_be_read_ends_nothing() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        pattern = f"/namespaces/{OWN}/configmaps"
        s.foreign.refusing[pattern] = s.foreign.refusal(errors.Forbidden, 403, "forbidden")
        s.remove_configmaps()
        s.wait(130.0)
        s.foreign.refusing.clear()
        s.wait(61.0)
        assert s.registered() == {FOREIGN: HOME}


def test_an_unchanged_inventory_costs_one_read_a_minute_and_no_write() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        before = len(s.foreign.requests(f"/namespaces/{OWN}/configmaps"))
        s.wait(600.0)
        later = s.foreign.requests(f"/namespaces/{OWN}/configmaps")[before:]
        assert len(later) == 10
        assert all(one.request.startswith("GET") for one in later)


UNREADABLE: dict[str, tuple[type[errors.ApiError], int, str]] = {
    "credentials that are not accepted": (errors.Unauthorized, 401, "Unauthorized"),
    "a right that is missing": (errors.Forbidden, 403, "configmaps is forbidden"),
    "an unexpected answer": (errors.ApiError, 406, "not acceptable"),
    "a request that is not understood": (errors.Invalid, 400, "bad request"),
}


@pytest.mark.parametrize(("kind", "code", "text"), UNREADABLE.values(), ids=UNREADABLE)
def test_the_start_is_refused_for(kind: type[errors.ApiError], code: int, text: str) -> None:
    with harness.running(starts=False) as s:
        s.foreign.refusing[f"/namespaces/{OWN}/configmaps"] = s.foreign.refusal(kind, code, text)
        with pytest.raises(ExceptionGroup) as raised:
            s.start()
        (err,) = raised.value.exceptions
        assert isinstance(err, errors.StartError)
        assert text in str(err) or str(code) in str(err)


def test_a_throttled_foreign_side_does_not_refuse_the_start() -> None:
    with harness.running(starts=False) as s:
        pattern = f"/namespaces/{OWN}/configmaps"
        s.foreign.refusing[pattern] = s.foreign.refusal(errors.Throttled, 429, "slow down")
        s.create()
        s.start()
        s.wait(30.0)
        assert s.mirror() is None
        assert [one["event"] for one in s.logs].count(
            "failed to read foreign namespace inventory"
        ) == 1
        s.foreign.refusing.clear()
        s.wait(15.0)
        assert s.mirror() is not None
