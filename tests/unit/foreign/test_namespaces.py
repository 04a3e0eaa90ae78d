"""Foreign namespaces while farlet runs: their anchor, their accounts, and when one closes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from farlet import errors
from farlet.constants import ObjectKey
from unit.planning import objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, USER, Harness

READS = rf"GET .*/namespaces/{FOREIGN}$"


def _owner(s: Harness, name: str = "web") -> str:
    mirror = s.mirror(name)
    assert mirror is not None
    uid: str = mirror["metadata"]["ownerReferences"][0]["uid"]
    return uid


def test_the_foreign_namespace_owns_its_mirrors() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        mirror = s.mirror()
        assert mirror is not None
        assert mirror["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "name": FOREIGN,
                "uid": s.namespace_uid(),
                "controller": True,
            }
        ]


PAUSES = {"just after it was read": 0.5, "long after it was read": 30.0}


@pytest.mark.parametrize("pause", PAUSES.values(), ids=PAUSES)
def test_a_new_pod_gets_the_owner_of_a_recreated_namespace(pause: float) -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.foreign_server.delete(("pods", FOREIGN, "web"), by=USER)
        s.wait(2.0)
        s.wait(pause)
        s.recreate_namespace()
        s.create("once", policy="Never")
        s.wait(5.0)
        assert _owner(s, "once") == s.namespace_uid(), "else it would be collected as garbage"
        assert _owner(s) == s.namespace_uid()


def test_a_namespace_that_was_missing_when_a_mirror_was_created_is_read_again() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.delete()
        s.wait(5.0)
        s.foreign_server.terminate_namespace(FOREIGN)
        s.create("once", policy="Never")
        s.wait(1.0)
        assert s.reason("once") == "ForeignNamespaceNotFound"
        s.recreate_namespace()
        s.wait(20.0)
        assert _owner(s, "once") == s.namespace_uid()


def test_a_namespace_that_is_being_deleted_is_reported() -> None:
    with harness.running() as s:
        s.foreign_server.terminate_namespace(FOREIGN)
        s.create()
        s.wait(5.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["reason"] == "ForeignNamespaceNotFound"
        assert "is being deleted" in pod["status"]["message"]
        assert s.foreign.requests("POST .*/pods") == []


def test_a_restarted_farlet_releases_mirrors_that_hold_a_namespace_being_deleted() -> None:
    with harness.running() as s:
        s.create(policy="Never")
        s.wait(5.0)
        s.runs()
        s.wait(1.0)
        s.kill()
        s.foreign_server.terminate_namespace(FOREIGN)
        s.foreign_server.finish_namespaces()
        s.start()
        failed = {"status": {"phase": "Failed"}}
        s.foreign_server.patch(
            ("pods", FOREIGN, "web"), failed, by=KUBELET, status=True, strategic=False
        )
        s.wait(5.0)
        mirror, pod = s.mirror(), s.pod()
        assert mirror is not None
        assert pod is not None
        assert "finalizers" not in mirror["metadata"]
        assert pod["status"]["phase"] == "Failed"


def test_the_deletion_of_a_mirror_with_its_home_pod_is_no_reason_to_read_the_namespace() -> None:
    with harness.running() as s:
        s.create()
        s.wait(10.0)
        s.runs()
        s.wait(1.0)
        reads = len(s.foreign.requests(READS))
        s.delete()
        s.wait(2.0)
        s.create("next")
        s.wait(2.0)
        assert s.mirror("next") is not None
        assert len(s.foreign.requests(READS)) == reads


def test_many_lost_mirrors_are_a_few_reads_of_the_namespace() -> None:
    with harness.running() as s:
        names = [f"web-{n}" for n in range(20)]
        for name in names:
            s.create(name)
        s.wait(10.0)
        reads = len(s.foreign.requests(READS))
        for name in names:
            s.remove(name)
        s.wait(20.0)
        assert all(s.mirror(name) is not None for name in names)
        assert len(s.foreign.requests(READS)) <= reads + 3


def test_the_namespace_is_read_each_minute() -> None:
    with harness.running() as s:
        s.create()
        s.wait(1.0)
        s.wait(600.0)
        at = [one.at for one in s.foreign.requests(READS)]
        pauses = {round(b - a) for a, b in itertools.pairwise(at)}
        assert pauses == {60}


def test_a_recreated_namespace_that_was_empty_is_noticed_within_a_minute() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.delete()
        s.wait(5.0)
        s.recreate_namespace()
        names = ("web", "db", "cache")
        s.woken.clear()
        s.wait(61.0)
        for name in names:
            s.create(name)
        s.wait(5.0)
        assert {_owner(s, name) for name in names} == {s.namespace_uid()}


def test_a_namespace_that_still_exists_wakes_no_pod() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.woken.clear()
        s.wait(200.0)
        assert s.woken == []


# --- closing ----------------------------------------------------------------------------------


def _emptied(s: Harness) -> None:
    s.create()
    s.wait(5.0)
    s.delete()
    s.wait(60.0)
    assert s.pod() is None
    assert s.mirror() is None


IDLE: dict[str, tuple[tuple[float, ...], int]] = {
    "one check, however late": ((1000.0,), 1),
    "two checks a moment apart": ((0.0, 1.0), 1),
    "less than five minutes": ((0.0, 150.0, 149.0), 1),
    "five minutes": ((0.0, 150.0, 150.0), 0),
}


@pytest.mark.parametrize(("pauses", "left"), IDLE.values(), ids=IDLE)
def test_a_namespace_is_closed_after_five_idle_minutes(
    pauses: tuple[float, ...], left: int
) -> None:
    with harness.running() as s:
        _emptied(s)
        for pause in pauses:
            s.wait(pause)
            s.prune()
        assert len(s.scopes) == left
        assert s.registered() == ({FOREIGN: HOME} if left else {})


def _pod(s: Harness) -> None:
    s.create()


def _secret(s: Harness) -> None:
    s.secret(
        {"metadata": {"uid": "late"}},
        labels={"farlet.io/virtual-node-id": objects.CONTEXT.virtual_node_id},
    )


def _late_mirror(s: Harness) -> None:
    body = {
        "metadata": {
            "name": "late",
            "labels": {"farlet.io/virtual-node-id": objects.CONTEXT.virtual_node_id},
        }
    }
    s.foreign_server.create("pods", FOREIGN, {**body, "spec": {}}, by=USER)


def _blind(s: Harness) -> None:
    s.foreign.refusing[r"GET .*/pods\?"] = s.foreign.silence
    s.foreign_server.compact()
    s.foreign.break_watches()


INTERRUPTIONS: dict[str, Callable[[Harness], None]] = {
    "a home pod comes": _pod,
    "a Secret of ours is found": _secret,
    "a mirror of ours is found": _late_mirror,
    "mirrors cannot be seen": _blind,
}


@pytest.mark.parametrize("happens", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_a_namespace_stays_open_when(happens: Callable[[Harness], None]) -> None:
    with harness.running() as s:
        _emptied(s)
        s.prune()
        s.wait(290.0)
        happens(s)
        s.wait(11.0)
        s.prune()
        assert len(s.scopes) == 1


def test_the_five_minutes_start_anew_after_an_interruption() -> None:
    with harness.running() as s:
        _emptied(s)
        s.prune()
        s.wait(299.0)
        s.create()
        s.wait(5.0)
        s.prune()
        s.delete()
        s.wait(60.0)
        s.prune()
        s.wait(200.0)
        s.prune()
        assert len(s.scopes) == 1
        s.wait(100.0)
        s.prune()
        assert len(s.scopes) == 0


def test_a_namespace_that_was_never_opened_is_closed_once_no_pod_needs_it() -> None:
    with harness.running() as s:
        s.foreign.refusing[READS] = s.foreign.refusal(
            errors.NotFound, 404, f'namespaces "{FOREIGN}" not found', reason="NotFound"
        )
        s.create()
        s.wait(5.0)
        s.prune()
        assert len(s.scopes) == 1
        s.home_server.delete(("pods", HOME, "web"), by=USER, grace=0)
        s.wait(5.0)
        s.prune()
        s.wait(301.0)
        before = len(s.foreign.requests("PATCH"))
        s.prune()
        assert len(s.scopes) == 0
        assert len(s.foreign.requests("PATCH")) == before, "it was never registered"
        tried = len(s.foreign.requests(FOREIGN))
        s.wait(120.0)
        assert len(s.foreign.requests(FOREIGN)) == tried, "no request names it any more"


def test_a_closed_namespace_is_not_watched_and_its_accounts_are_dropped() -> None:
    with harness.running() as s:
        _account(s, "default")
        s.create(mode="remote")
        s.wait(5.0)
        assert s.mirror() is not None
        assert s.store.accounts.keys(FOREIGN)
        s.delete()
        s.wait(60.0)
        s.prune()
        s.wait(301.0)
        s.prune()
        assert len(s.scopes) == 0
        assert s.store.accounts.keys(FOREIGN) == []
        _account(s, "late")
        s.wait(5.0)
        assert s.store.accounts.keys(FOREIGN) == []


def test_a_closed_namespace_opens_again_for_the_next_pod() -> None:
    with harness.running() as s:
        _emptied(s)
        s.prune()
        s.wait(301.0)
        s.prune()
        s.create()
        s.wait(5.0)
        assert s.mirror() is not None
        assert s.registered() == {FOREIGN: HOME}


# --- accounts ---------------------------------------------------------------------------------


def _account(s: Harness, name: str) -> None:
    s.foreign_server.create("serviceaccounts", FOREIGN, {"metadata": {"name": name}}, by=USER)


def test_an_account_that_appears_wakes_only_pods_that_require_one() -> None:
    with harness.running() as s:
        for name in ("a", "b", "c"):
            s.create(name, mode="disabled")
        s.create("waits", mode="remote")
        s.wait(5.0)
        assert s.reason("waits") == "ServiceAccountNotFound"
        s.woken.clear()
        _account(s, "another")
        s.wait(0.5)
        assert set(s.woken) == {ObjectKey(HOME, "waits")}
        s.woken.clear()
        _account(s, "default")
        s.wait(0.04)
        assert set(s.woken) == {ObjectKey(HOME, "waits")}, "it required one again"
        s.wait(1.0)
        assert s.mirror("waits") is not None


def test_an_account_that_changes_wakes_no_pod_that_has_its_mirror_or_is_gone() -> None:
    with harness.running() as s:
        _account(s, "default")
        for name in ("runs", "goes"):
            s.create(name, mode="remote")
        s.wait(5.0)
        assert s.mirror("runs") is not None
        s.delete("goes")
        s.wait(60.0)
        assert s.pod("goes") is None
        s.woken.clear()
        _account(s, "another")
        s.wait(1.0)
        assert s.woken == []
