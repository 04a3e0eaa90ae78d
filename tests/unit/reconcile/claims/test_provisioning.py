"""Volumes for home claims: which claims get one, and what is there already."""

import dataclasses

import pytest

from farlet.constants import HOME_NAMESPACE_CONFIG_MAP, VIRTUAL_NODE_ID, ObjectKey
from farlet.forge import claims
from unit.reconcile import harness
from unit.reconcile.claims import volumes
from unit.reconcile.claims.volumes import (
    CLAIMS,
    CTX,
    VOLUMES,
    WRITES,
    bound,
    claim,
    notes,
    patch,
    placeholder,
    pod,
    remote,
    selected,
    used,
    without_placeholder,
    writes,
)
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness


def test_a_claim_gets_a_foreign_claim_then_a_placeholder_and_its_pod_mounts_the_foreign_claim(
    s: Harness,
) -> None:
    key = claim(s)
    s.wait()
    assert not s.foreign.requests(WRITES), "no node is selected yet"
    selected(s)
    s.wait()
    assert remote(s, key)["spec"]["storageClassName"] == "fast"
    assert placeholder(s, key)["spec"]["claimRef"]["uid"] == key.uid
    bound(s, key)
    pod(s)
    s.wait()
    mirror = s.mirror()
    assert mirror is not None
    (volume,) = mirror["spec"]["volumes"]
    name = claims.foreign_name(key, CTX)
    assert volume == {"name": "disk", "persistentVolumeClaim": {"claimName": name}}


def test_claims_of_other_nodes_and_classes_cost_no_write(s: Harness) -> None:
    claim(s)
    selected(s, node="another")
    claim(s, "other", storageClassName="disks")
    selected(s, "other")
    s.wait()
    assert not s.foreign.requests(WRITES)
    assert not s.home.requests(WRITES)


def test_without_the_setting_nothing_is_watched_and_mirrors_name_the_claims_of_their_pods() -> None:
    with harness.running() as s:
        pod(s)
        s.wait()
        mirror = s.mirror()
        assert mirror is not None
        assert mirror["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "data"}
        assert not s.home.requests("persistentvolume")
        assert not s.foreign.requests("persistentvolume")


def test_a_pod_waits_until_its_claim_is_bound(s: Harness) -> None:
    pod(s)
    s.wait()
    assert (s.mirror(), s.reason()) == (None, "UnsupportedPod")
    key = claim(s)
    s.wait()
    assert (s.mirror(), s.reason()) == (None, "VolumeNotBound")
    selected(s)
    s.wait()
    bound(s, key)
    s.wait()
    assert s.mirror() is not None


def test_a_foreign_claim_of_farlet_is_taken_over_and_that_of_a_user_is_not(s: Harness) -> None:
    key = without_placeholder(s)
    assert remote(s, key) is not None
    s.kill()
    s.home.refusing.clear()
    s.start()
    s.wait(5)
    assert placeholder(s, key) is not None

    other = claim(s, "other")
    body = {
        "metadata": {"name": claims.foreign_name(other, CTX), "labels": {VIRTUAL_NODE_ID: "x"}},
        "spec": {},
    }
    s.foreign_server.create(CLAIMS, FOREIGN, body, by=USER)
    selected(s, "other")
    s.wait(5)
    assert placeholder(s, other) is None
    assert "that this farlet did not create" in notes(s, "other")[0]


def test_a_placeholder_of_another_node_is_not_taken_over(s: Harness) -> None:
    key = claim(s)
    found = claims.HomeClaim.of(s.home_server.get((CLAIMS, HOME, "data")))  # type: ignore[arg-type]
    where = claims.foreign_key(key, CTX)
    assert where is not None
    other = dataclasses.replace(CTX, node="another")
    body = claims.forge_volume(found, where, policy="Delete", ctx=other)
    s.home_server.create(VOLUMES, "", body, by=USER)
    selected(s)
    s.wait(30)
    assert "that this farlet did not create" in notes(s)[0]


def test_nothing_is_created_in_a_foreign_namespace_of_another_home() -> None:
    with volumes.running(starts=False) as s:
        theirs = {"home-id": "another", "home-namespace": HOME}
        body = {"metadata": {"name": HOME_NAMESPACE_CONFIG_MAP}, "data": theirs}
        s.foreign_server.create("configmaps", FOREIGN, body, by=USER)
        s.start()
        claim(s)
        selected(s)
        s.wait(60)
        assert not s.foreign.requests("POST .*/persistentvolumeclaims")
        assert "belongs to" in notes(s)[0]


def test_nothing_is_written_while_nothing_changes_or_after_a_restart(s: Harness) -> None:
    used(s)
    before = writes(s)
    s.wait(600)
    s.kill()
    s.start()
    s.wait(600)
    assert writes(s) == before


def test_a_claim_wakes_only_pods_that_wait_for_it(
    s: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data", "logs"):
        pod(s, f"{name}-pod", claim=name)
    s.wait()
    woken: list[str] = []

    def wake(key: ObjectKey) -> None:
        woken.append(key.name)
        s.queue.add(key)

    monkeypatch.setattr(s.claims, "_wake", wake)
    key = claim(s, "logs")
    s.wait()
    assert set(woken) == {"logs-pod"}
    selected(s, "logs")
    s.wait()
    bound(s, key)
    s.wait()
    assert s.mirror("logs-pod") is not None
    woken.clear()
    patch(s.home_server, (CLAIMS, HOME, "logs"), metadata={"annotations": {"a": "b"}})
    s.wait()
    assert woken == [], "it has its mirror"
