"""Volumes for home claims: a whole farlet between two model clusters.

The test plays the scheduler and the volume controller of the home cluster, and the provisioner of
the foreign one.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from farlet import errors, names
from farlet.constants import HOME_NAMESPACE_CONFIG_MAP, PROVISIONER, VIRTUAL_NODE_ID, ObjectKey
from farlet.context import NewNamespaces
from farlet.forge import claims
from farlet.forge.claims import ClaimKey
from unit.planning import model, objects
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness, running

CTX = dataclasses.replace(objects.CONTEXT, storage_class_map=(("far", "fast"),))
CLAIMS, VOLUMES = "persistentvolumeclaims", "persistentvolumes"
WRITES = r"(POST|PUT|PATCH|DELETE) .*/(persistentvolumeclaims|persistentvolumes)"


@pytest.fixture
def s() -> Iterator[Harness]:
    with running(ctx=CTX) as harness:
        storage_class(harness)
        yield harness


def storage_class(s: Harness, **more: Any) -> None:
    body = {"metadata": {"name": "far"}, "provisioner": PROVISIONER, **more}
    s.home_server.create("storageclasses", "", body, by=USER)


def claim(s: Harness, name: str = "data", *, size: str = "1Gi", **spec: Any) -> ClaimKey:
    """A user creates a claim."""
    body = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "far",
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": size}},
            **spec,
        },
        "status": {"phase": "Pending"},
    }
    made = s.home_server.create(CLAIMS, HOME, body, by=USER)
    return ClaimKey(HOME, name, made["metadata"]["uid"])


def selected(s: Harness, name: str = "data", *, node: str = CTX.node) -> None:
    """The home scheduler selects a node for the claim, and the volume controller names the
    provisioner."""
    annotations = {
        claims.SELECTED_NODE: node,
        "volume.kubernetes.io/storage-provisioner": PROVISIONER,
    }
    patch(s.home_server, (CLAIMS, HOME, name), metadata={"annotations": annotations})


def patch(server: model.Server, where: tuple[str, str, str], **fields: Any) -> None:
    server.patch(where, fields, by=USER, status=False, strategic=False)
    if "status" in fields:
        body = {"status": fields["status"]}
        server.patch(where, body, by=USER, status=True, strategic=False)


def bound(s: Harness, key: ClaimKey, *, size: str = "1Gi") -> None:
    """The home volume controller binds claim and placeholder."""
    volume = names.volume_name(key.uid)
    status = {"phase": "Bound", "capacity": {"storage": size}}
    patch(s.home_server, (CLAIMS, HOME, key.name), spec={"volumeName": volume}, status=status)
    placeholder = s.home_server.get((VOLUMES, "", volume))
    placeholder["status"] = {}
    patch(s.home_server, (VOLUMES, "", volume), status={"phase": "Bound"})


def released(s: Harness, key: ClaimKey) -> None:
    """The home claim is deleted, and the volume controller releases the placeholder."""
    s.home_server.delete((CLAIMS, HOME, key.name), by=USER)
    patch(s.home_server, (VOLUMES, "", names.volume_name(key.uid)), status={"phase": "Released"})


def remote(s: Harness, key: ClaimKey) -> Any:
    """The foreign claim, if there is one."""
    return found(s.foreign_server, (CLAIMS, FOREIGN, claims.foreign_name(key, CTX)))


def placeholder(s: Harness, key: ClaimKey) -> Any:
    return found(s.home_server, (VOLUMES, "", names.volume_name(key.uid)))


def found(server: model.Server, where: tuple[str, str, str]) -> Any:
    try:
        return server.get(where)
    except model.Status:
        return None


def provided(s: Harness, key: ClaimKey, *, size: str = "1Gi") -> None:
    """The foreign provisioner binds the foreign claim."""
    remote(s, key)["status"] = {}
    status = {"phase": "Bound", "capacity": {"storage": size}}
    patch(s.foreign_server, (CLAIMS, FOREIGN, claims.foreign_name(key, CTX)), status=status)


def pending(s: Harness, key: ClaimKey) -> None:
    """The foreign API server has created it."""
    remote(s, key)["status"] = {}
    where = (CLAIMS, FOREIGN, claims.foreign_name(key, CTX))
    patch(s.foreign_server, where, status={"phase": "Pending"})


def pod(s: Harness, name: str = "web", *, claim: str = "data") -> None:
    made = objects.home()
    made["metadata"]["name"] = name
    spec: Any = made["spec"]
    spec["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": claim}}]
    s.home_server.create("pods", HOME, model.clone(made), by=USER)


def used(s: Harness, *, seconds: float = 1.0) -> ClaimKey:
    """A claim with a volume in both clusters."""
    key = claim(s)
    selected(s)
    s.wait(seconds)
    bound(s, key)
    provided(s, key)
    s.wait()
    return key


def notes(s: Harness, name: str = "data") -> list[str]:
    return [
        one["message"]
        for one in s.home_server.all("events")
        if one["involvedObject"]["name"] == name
    ]


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
    with running() as s:
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


def test_a_released_volume_is_deleted_in_the_foreign_cluster_and_then_at_home(s: Harness) -> None:
    key = used(s)
    where = (CLAIMS, FOREIGN, claims.foreign_name(key, CTX))
    patch(s.foreign_server, where, metadata={"finalizers": ["kubernetes.io/pvc-protection"]})
    released(s, key)
    s.wait(5)
    assert "deletionTimestamp" in remote(s, key)["metadata"]
    assert placeholder(s, key) is not None, "the foreign claim is not gone yet"
    s.foreign_server.patch(
        where, {"metadata": {"finalizers": None}}, by=USER, status=False, strategic=False
    )
    s.wait(5)
    assert (remote(s, key), placeholder(s, key)) == (None, None)


@pytest.mark.parametrize("policy", ["Retain", "Recycle"])
def test_a_volume_with_another_reclaim_policy_stays(policy: str) -> None:
    with running(ctx=CTX) as s:
        storage_class(s, reclaimPolicy=policy)
        key = used(s)
        assert placeholder(s, key)["spec"]["persistentVolumeReclaimPolicy"] == policy
        released(s, key)
        s.wait(60)
        assert remote(s, key) is not None
        again = claim(s)
        selected(s)
        s.wait()
        assert remote(s, again)["metadata"]["uid"] != remote(s, key)["metadata"]["uid"]


def test_a_policy_that_became_retain_counts_although_the_watch_has_not_shown_it(s: Harness) -> None:
    key = used(s)
    s.home.lag = 30.0
    where = (VOLUMES, "", names.volume_name(key.uid))
    released(s, key)
    s.wait(29.9)
    patch(s.home_server, where, spec={"persistentVolumeReclaimPolicy": "Retain"})
    s.wait(60)
    assert remote(s, key) is not None


def test_a_lost_answer_to_a_list_of_claims_deletes_nothing(s: Harness) -> None:
    key = used(s)
    s.home.break_watches()
    s.home.refusing["GET .*/persistentvolumeclaims"] = s.home.silence
    patch(s.home_server, (VOLUMES, "", names.volume_name(key.uid)), status={"phase": "Released"})
    s.wait(60)
    assert remote(s, key) is not None


def test_a_foreign_claim_that_is_lost_is_not_created_again(s: Harness) -> None:
    key = used(s)
    s.foreign_server.delete((CLAIMS, FOREIGN, claims.foreign_name(key, CTX)), by=USER)
    s.wait(60)
    assert remote(s, key) is None
    assert placeholder(s, key) is not None


def test_a_foreign_claim_of_farlet_is_taken_over_and_that_of_a_user_is_not(s: Harness) -> None:
    s.home.refusing["POST .*/persistentvolumes$"] = s.home.silence
    key = claim(s)
    selected(s)
    s.wait()
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


def test_a_foreign_claim_that_was_never_used_is_deleted_when_another_node_is_selected(
    s: Harness,
) -> None:
    s.home.refusing["POST .*/persistentvolumes$"] = s.home.silence
    key = claim(s)
    selected(s)
    s.wait()
    pending(s, key)
    s.wait()
    selected(s, node="another")
    s.wait(60)
    assert remote(s, key) is None


def test_a_foreign_claim_with_data_stays_when_only_its_placeholder_is_deleted(s: Harness) -> None:
    key = used(s)
    s.home_server.delete((CLAIMS, HOME, key.name), by=USER)
    s.home_server.delete((VOLUMES, "", names.volume_name(key.uid)), by=USER)
    s.wait(60)
    assert remote(s, key) is not None


def test_a_claim_that_grows_grows_in_the_foreign_cluster_and_shows_the_result(s: Harness) -> None:
    key = used(s)
    larger = {"resources": {"requests": {"storage": "2Gi"}}}
    patch(s.home_server, (CLAIMS, HOME, "data"), spec=larger)
    s.wait()
    assert remote(s, key)["spec"]["resources"] == {"requests": {"storage": "2Gi"}}
    assert placeholder(s, key)["spec"]["capacity"] == {"storage": "1Gi"}
    provided(s, key, size="2Gi")
    s.wait()
    assert placeholder(s, key)["spec"]["capacity"] == {"storage": "2Gi"}
    shown = s.home_server.get((CLAIMS, HOME, "data"))["status"]["capacity"]
    assert shown == {"storage": "2Gi"}


def test_a_volume_that_must_not_grow_is_one_event_and_is_not_tried_again(s: Harness) -> None:
    used(s)
    s.foreign.refusing["PATCH .*/persistentvolumeclaims"] = s.foreign.refusal(
        errors.Forbidden, 403, "the storageclass must support resize"
    )
    larger = {"resources": {"requests": {"storage": "2Gi"}}}
    patch(s.home_server, (CLAIMS, HOME, "data"), spec=larger)
    s.wait(120)
    assert len(s.foreign.requests("PATCH .*/persistentvolumeclaims")) == 1
    assert [one for one in notes(s) if "must support resize" in one] == notes(s)
    assert len(notes(s)) == 1


def test_what_the_foreign_cluster_refuses_is_an_event_of_the_claim(s: Harness) -> None:
    s.foreign.refusing["POST .*/persistentvolumeclaims"] = s.foreign.refusal(
        errors.Forbidden, 403, "exceeded quota: storage"
    )
    key = claim(s)
    selected(s)
    s.wait(60)
    assert len(notes(s)) == 1
    assert "exceeded quota: storage" in notes(s)[0]
    s.foreign.refusing.clear()
    s.wait(60)
    assert placeholder(s, key) is not None


def test_a_claim_that_refers_to_home_objects_is_refused(s: Harness) -> None:
    claim(s, dataSource={"kind": "VolumeSnapshot", "name": "backup"})
    selected(s)
    s.wait(5)
    assert not s.foreign.requests(WRITES)
    assert "dataSource" in notes(s)[0]


def test_a_warning_about_a_foreign_claim_is_shown_with_the_name_of_the_home_claim(
    s: Harness,
) -> None:
    key = claim(s)
    selected(s)
    s.wait()
    there = remote(s, key)["metadata"]
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "PersistentVolumeClaim", "uid": there["uid"]},
        "type": "Warning",
        "message": f"{there['name']}: no\n\x1bspace",
    }
    s.foreign_server.create("events", FOREIGN, event, by=USER)
    s.wait(5)
    assert notes(s) == ["in the foreign cluster: data: no  space"]


def test_nothing_is_written_while_nothing_changes_or_after_a_restart(s: Harness) -> None:
    used(s)
    before = len(s.home.requests(WRITES)), len(s.foreign.requests(WRITES))
    s.wait(600)
    s.kill()
    s.start()
    s.wait(600)
    assert (len(s.home.requests(WRITES)), len(s.foreign.requests(WRITES))) == before


def test_missing_permissions_at_home_are_reported_on_claims_and_on_pods(s: Harness) -> None:
    s.home.refusing["POST .*/persistentvolumes$"] = s.home.refusal(
        errors.Forbidden, 403, "no volumes for you"
    )
    claim(s)
    selected(s)
    s.wait(60)
    assert len(notes(s)) == 1
    assert "no volumes for you" in notes(s)[0]
    s.kill()
    s.home.refusing["GET .*/persistentvolumeclaims"] = s.home.refusal(
        errors.Forbidden, 403, "no claims for you"
    )
    s.start()
    pod(s)
    s.wait(5)
    assert (s.mirror(), s.reason()) == (None, "VolumeNotBound")


def test_a_class_that_is_gone_or_has_another_provisioner_is_reported(s: Harness) -> None:
    where = ("storageclasses", "", "far")
    patch(s.home_server, where, provisioner="disks")
    key = claim(s)
    selected(s)
    s.wait(5)
    s.home_server.delete(where, by=USER)
    s.wait(60)
    assert placeholder(s, key) is None
    assert [("provisioner disks" in one, "any more" in one) for one in notes(s)] == [
        (True, False),
        (False, True),
    ]
    storage_class(s)
    s.wait(60)
    assert placeholder(s, key) is not None


def test_the_watch_of_a_foreign_namespace_ends_with_its_last_claim_and_begins_again(
    s: Harness,
) -> None:
    for name in ("data", "second"):
        key = claim(s, name)
        selected(s, name)
        s.wait()
        bound(s, key)
        provided(s, key)
        s.wait()
        released(s, key)
        s.wait(5)
        assert (remote(s, key), placeholder(s, key)) == (None, None)
        before = len(s.foreign.sent)
        s.foreign.break_watches()
        s.wait(60)
        watches = [one for one in s.foreign.sent[before:] if "/persistentvolumeclaims?" in one[2]]
        assert watches == []


def test_after_a_doubt_about_the_foreign_cluster_nothing_is_deleted_until_it_is_confirmed(
    s: Harness,
) -> None:
    key = used(s)
    patch(
        s.foreign_server,
        (CLAIMS, FOREIGN, claims.foreign_name(key, CTX)),
        metadata={"finalizers": ["kubernetes.io/pvc-protection"]},
    )
    other = model.Server(s.clock, ("farlet", FOREIGN), cluster="other")
    s.foreign.lead_to(other, login=False)
    released(s, key)
    s.wait(120)
    assert placeholder(s, key) is not None, "the other cluster does not have the claim"
    s.foreign.lead_to(s.foreign_server, login=False)
    s.wait(120)
    assert "deletionTimestamp" in remote(s, key)["metadata"]


def test_a_claim_that_another_cluster_lacks_is_not_taken_for_deleted(s: Harness) -> None:
    key = used(s)
    s.foreign.server = model.Server(s.clock, ("farlet", FOREIGN), cluster="other")
    released(s, key)
    s.wait(120)
    assert placeholder(s, key) is not None


def test_claims_are_listed_again_after_a_doubt_about_the_foreign_cluster(s: Harness) -> None:
    used(s)
    own, other = s.foreign.server, model.Server(s.clock, ("farlet", FOREIGN), cluster="other")
    s.foreign.server = other
    with pytest.raises(errors.Unconfirmed):
        s.probe()
    s.wait()
    before = len(s.foreign.received)
    s.foreign.server = own
    s.probe()
    s.wait(30)
    requests = [one.request for one in s.foreign.received[before:]]
    assert [one for one in requests if "/persistentvolumeclaims?" in one]


def test_an_unused_foreign_claim_that_was_bound_a_moment_ago_stays(s: Harness) -> None:
    s.home.refusing["POST .*/persistentvolumes$"] = s.home.silence
    key = claim(s)
    selected(s)
    s.wait()
    pending(s, key)
    s.wait()
    s.foreign.lag = 60.0
    provided(s, key)
    selected(s, node="another")
    s.wait(30)
    assert s.foreign.requests("DELETE .*/persistentvolumeclaims")
    assert remote(s, key) is not None


def test_nothing_is_created_in_a_foreign_namespace_of_another_home() -> None:
    with running(ctx=CTX, starts=False) as s:
        storage_class(s)
        theirs = {"home-id": "another", "home-namespace": HOME}
        body = {"metadata": {"name": HOME_NAMESPACE_CONFIG_MAP}, "data": theirs}
        s.foreign_server.create("configmaps", FOREIGN, body, by=USER)
        s.start()
        claim(s)
        selected(s)
        s.wait(60)
        assert not s.foreign.requests("POST .*/persistentvolumeclaims")
        assert "belongs to" in notes(s)[0]


def test_the_volume_of_a_claim_that_was_recreated_at_once_is_deleted(s: Harness) -> None:
    key = used(s)
    released(s, key)
    again = claim(s)
    s.wait(5)
    assert (remote(s, key), placeholder(s, key)) == (None, None)
    selected(s)
    s.wait(5)
    assert placeholder(s, again) is not None


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


def test_the_first_claim_creates_its_foreign_namespace_which_stays_while_it_has_data() -> None:
    with running(ctx=CTX, starts=False, new=NewNamespaces()) as s:
        s.foreign_server.terminate_namespace(FOREIGN)
        s.foreign_server.finish_namespaces()
        storage_class(s, reclaimPolicy="Retain")
        s.start()
        key = used(s, seconds=10)
        assert placeholder(s, key) is not None
        released(s, key)
        s.home_server.terminate_namespace(HOME)
        s.home_server.finish_namespaces()
        for _ in range(4):
            s.wait(400)
            s.prune()
        assert remote(s, key) is not None
        assert (
            "deletionTimestamp" not in s.foreign_server.get(("namespaces", "", FOREIGN))["metadata"]
        )


def test_a_retained_volume_costs_no_request_after_a_restart() -> None:
    with running(ctx=CTX) as s:
        storage_class(s, reclaimPolicy="Retain")
        key = used(s)
        released(s, key)
        s.wait(5)
        s.kill()
        before = len(s.foreign.received)
        s.start()
        s.wait(120)
        requests = [one.request for one in s.foreign.received[before:]]
        assert [one for one in requests if "persistentvolumeclaims" in one] == []


def test_a_volume_without_a_finalizer_is_reclaimed_with_one_read_after_its_deletion(
    s: Harness,
) -> None:
    key = used(s)
    released(s, key)
    s.wait(5)
    assert (remote(s, key), placeholder(s, key)) == (None, None)
    name = claims.foreign_name(key, CTX)
    assert len(s.foreign.requests(f"GET .*/{CLAIMS}/{name}$")) == 1


# --- many pods and claims ---------------------------------------------------------------------


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


def test_a_namespace_that_changes_brings_only_its_own_claims(s: Harness) -> None:
    key = used(s)
    body = dict(s.home_server.get((CLAIMS, HOME, "data")), metadata={"name": "other"})
    other = s.home_server.create(CLAIMS, "second", model.clone(body), by=USER)
    s.wait()
    added: list[ClaimKey] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(s.claims._queue, "add", added.append)
        namespace = s.scopes.of(HOME)
        assert namespace is not None
        namespace.wake_all()
    assert added == [key]
    assert other["metadata"]["namespace"] == "second"


# --- the cluster of --home-storage-kubeconfig -------------------------------------------------


def test_nothing_is_written_on_answers_of_a_cluster_that_is_perhaps_not_home(
    s: Harness,
) -> None:
    key = used(s)
    s.at_home.confirmed = False
    before = len(s.home.requests(WRITES)), len(s.foreign.requests(WRITES))
    released(s, key)
    late = claim(s, "late")
    selected(s, "late")
    s.wait(60)
    assert (len(s.home.requests(WRITES)), len(s.foreign.requests(WRITES))) == before
    s.at_home.confirmed = True
    s.wait(120)
    assert (remote(s, key), placeholder(s, key)) == (None, None)
    assert placeholder(s, late) is not None


def test_a_deletion_waits_if_the_home_cluster_is_in_doubt_after_its_live_reads(s: Harness) -> None:
    key = used(s)

    def doubt() -> None:
        s.at_home.confirmed = False

    s.home.refusing[f"GET .*/persistentvolumes/{names.volume_name(key.uid)}$"] = doubt
    released(s, key)
    s.wait(60)
    assert not s.at_home.confirmed
    assert remote(s, key) is not None


# --- the inventory, by which a copy of the home cluster is noticed ----------------------------


def idle(s: Harness) -> None:
    """No pod needs the namespace for some minutes."""
    for _ in range(3):
        s.wait(400)
        s.prune()


def _provided(_: Harness, __: ClaimKey) -> None:
    """The claim has its volume."""


def _lost_placeholder(s: Harness, key: ClaimKey) -> None:
    s.home_server.delete((VOLUMES, "", names.volume_name(key.uid)), by=USER)


def _unknown(s: Harness, key: ClaimKey) -> None:
    """The placeholder is gone, and so is the watch that would show the others."""
    s.home.refusing["GET .*/persistentvolumes"] = s.home.silence
    s.home_server.compact()
    s.home.break_watches()


STAKES = {
    "volume that no pod uses": _provided,
    "volume that is retained": released,
    "foreign claim whose placeholder is gone": _lost_placeholder,
    "volume, while placeholders cannot be seen": _unknown,
}


@pytest.mark.parametrize("happens", STAKES.values(), ids=STAKES)
def test_a_namespace_stays_in_the_inventory_with_a(
    happens: Callable[[Harness, ClaimKey], None],
) -> None:
    with running(ctx=CTX) as s:
        storage_class(s, reclaimPolicy="Retain")
        key = used(s)
        happens(s, key)
        idle(s)
        assert remote(s, key) is not None
        assert s.registered() == {FOREIGN: HOME}


def test_a_closed_namespace_leaves_the_inventory_after_its_last_volume(s: Harness) -> None:
    key = used(s)
    idle(s)
    assert s.registered() == {FOREIGN: HOME}
    released(s, key)
    s.wait(5)
    assert remote(s, key) is None
    idle(s)
    assert s.registered() == {}


def test_a_closed_namespace_leaves_the_inventory_with_its_retained_placeholder() -> None:
    with running(ctx=CTX) as s:
        storage_class(s, reclaimPolicy="Retain")
        key = used(s)
        released(s, key)
        s.wait(5)
        s.kill()
        s.start()  # from now on, no foreign claim is watched
        idle(s)
        assert (len(s.scopes), s.registered()) == (0, {FOREIGN: HOME})
        _lost_placeholder(s, key)
        s.wait(5)
        s.prune()
        assert s.registered() == {}
