"""Foreign claims are deleted after their home claims, and only then."""

import pytest

from farlet import names
from farlet.forge import claims
from unit.planning import model
from unit.reconcile.claims import volumes
from unit.reconcile.claims.volumes import (
    CLAIMS,
    CTX,
    claim,
    patch,
    pending,
    placeholder,
    placeholder_where,
    provided,
    released,
    remote,
    remote_where,
    selected,
    used,
    without_placeholder,
    writes,
)
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness


def test_a_released_volume_is_deleted_in_the_foreign_cluster_and_then_at_home(s: Harness) -> None:
    key = used(s)
    where = remote_where(key)
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


def test_a_volume_without_a_finalizer_is_reclaimed_with_one_read_after_its_deletion(
    s: Harness,
) -> None:
    key = used(s)
    released(s, key)
    s.wait(5)
    assert (remote(s, key), placeholder(s, key)) == (None, None)
    name = claims.foreign_name(key, CTX)
    assert len(s.foreign.requests(f"GET .*/{CLAIMS}/{name}$")) == 1


@pytest.mark.parametrize("policy", ["Retain", "Recycle"])
def test_a_volume_with_another_reclaim_policy_stays(policy: str) -> None:
    with volumes.running(reclaimPolicy=policy) as s:
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
    where = placeholder_where(key)
    released(s, key)
    s.wait(29.9)
    patch(s.home_server, where, spec={"persistentVolumeReclaimPolicy": "Retain"})
    s.wait(60)
    assert remote(s, key) is not None


def test_a_lost_answer_to_a_list_of_claims_deletes_nothing(s: Harness) -> None:
    key = used(s)
    s.home.break_watches()
    s.home.refusing["GET .*/persistentvolumeclaims"] = s.home.silence
    patch(s.home_server, placeholder_where(key), status={"phase": "Released"})
    s.wait(60)
    assert remote(s, key) is not None


def test_a_foreign_claim_that_is_lost_is_not_created_again(s: Harness) -> None:
    key = used(s)
    s.foreign_server.delete(remote_where(key), by=USER)
    s.wait(60)
    assert remote(s, key) is None
    assert placeholder(s, key) is not None


def test_a_foreign_claim_that_was_never_used_is_deleted_when_another_node_is_selected(
    s: Harness,
) -> None:
    key = without_placeholder(s)
    pending(s, key)
    s.wait()
    selected(s, node="another")
    s.wait(60)
    assert remote(s, key) is None


def test_a_foreign_claim_with_data_stays_when_only_its_placeholder_is_deleted(s: Harness) -> None:
    key = used(s)
    s.home_server.delete((CLAIMS, HOME, key.name), by=USER)
    s.home_server.delete(placeholder_where(key), by=USER)
    s.wait(60)
    assert remote(s, key) is not None


def test_an_unused_foreign_claim_that_was_bound_a_moment_ago_stays(s: Harness) -> None:
    key = without_placeholder(s)
    pending(s, key)
    s.wait()
    s.foreign.lag = 60.0
    provided(s, key)
    selected(s, node="another")
    s.wait(30)
    assert s.foreign.requests("DELETE .*/persistentvolumeclaims")
    assert remote(s, key) is not None


def test_the_volume_of_a_claim_that_was_recreated_at_once_is_deleted(s: Harness) -> None:
    key = used(s)
    released(s, key)
    again = claim(s)
    s.wait(5)
    assert (remote(s, key), placeholder(s, key)) == (None, None)
    selected(s)
    s.wait(5)
    assert placeholder(s, again) is not None


def test_after_a_doubt_about_the_foreign_cluster_nothing_is_deleted_until_it_is_confirmed(
    s: Harness,
) -> None:
    key = used(s)
    patch(
        s.foreign_server,
        remote_where(key),
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


# --- the cluster of --home-storage-kubeconfig -------------------------------------------------


def test_nothing_is_written_on_answers_of_a_cluster_that_is_perhaps_not_home(
    s: Harness,
) -> None:
    key = used(s)
    s.at_home.confirmed = False
    before = writes(s)
    released(s, key)
    late = claim(s, "late")
    selected(s, "late")
    s.wait(60)
    assert writes(s) == before
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
