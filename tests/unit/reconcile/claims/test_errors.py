"""Claims that grow, and what prevents volumes: shown as Events of the home claims."""

from typing import Any

import pytest

from farlet import errors
from unit.reconcile.claims.volumes import (
    CLAIMS,
    VOLUMES,
    WRITES,
    claim,
    notes,
    patch,
    placeholder,
    pod,
    provided,
    remote,
    selected,
    storage_class,
    used,
)
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness


def grow(s: Harness) -> None:
    """A user requests more."""
    larger = {"resources": {"requests": {"storage": "2Gi"}}}
    patch(s.home_server, (CLAIMS, HOME, "data"), spec=larger)


def test_a_claim_that_grows_grows_in_the_foreign_cluster_and_shows_the_result(s: Harness) -> None:
    key = used(s)
    grow(s)
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
    grow(s)
    s.wait(120)
    assert len(s.foreign.requests("PATCH .*/persistentvolumeclaims")) == 1
    assert [one for one in notes(s) if "must support resize" in one] == notes(s)
    assert len(notes(s)) == 1


KEPT = {
    "the foreign claim keeps its size": ("foreign", CLAIMS, False, "the claim there"),
    "the placeholder keeps its size": ("home", VOLUMES, False, "the PersistentVolume"),
    "the claim keeps its status": ("home", CLAIMS, True, "the status of the claim"),
}


@pytest.mark.parametrize(("side", "plural", "status", "what"), KEPT.values(), ids=KEPT)
def test_a_size_that_is_accepted_without_effect_is_one_event_and_is_not_tried_again(
    s: Harness,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
    plural: str,
    status: bool,
    what: str,
) -> None:
    key = used(s)
    server, front = (s.foreign_server, s.foreign) if side == "foreign" else (s.home_server, s.home)
    original = server.patch

    def keep(where: Any, body: Any, **options: Any) -> Any:
        if options["by"] != USER and where[0] == plural and options["status"] is status:
            body = {"metadata": body["metadata"]}
        return original(where, body, **options)

    monkeypatch.setattr(server, "patch", keep)
    grow(s)
    s.wait(5)
    if side == "home":
        provided(s, key, size="2Gi")
    s.wait(120)
    tail = "/status" if status else ""
    assert len(front.requests(f"PATCH .*/{plural}/[^/]+{tail}$")) == 1
    text = f"the {side} cluster accepted the size 2Gi for {what} without effect. "
    assert notes(s) == [f"{text}An admission webhook may keep the former size"]


def test_another_size_is_tried_after_one_without_effect(
    s: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = used(s)
    original = s.foreign_server.patch

    def keep(where: Any, body: Any, **options: Any) -> Any:
        if body.get("spec") == {"resources": {"requests": {"storage": "2Gi"}}}:
            body = {"metadata": body["metadata"]}
        return original(where, body, **options)

    monkeypatch.setattr(s.foreign_server, "patch", keep)
    grow(s)
    s.wait(60)
    assert remote(s, key)["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
    larger = {"resources": {"requests": {"storage": "3Gi"}}}
    patch(s.home_server, (CLAIMS, HOME, "data"), spec=larger)
    s.wait(60)
    assert remote(s, key)["spec"]["resources"] == {"requests": {"storage": "3Gi"}}


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
