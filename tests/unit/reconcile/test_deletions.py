"""What the deletion of a pod costs, and what counts as the end of its mirror.

`plan` decides (`rows/deleting.py`); here its facts come from answers and watches.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from farlet import errors
from farlet.constants import ObjectKey
from unit.planning.fake_cluster import Fault
from unit.planning.model import Server
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, KUBELET, USER, Harness

READS = r"^GET .*/pods/web"
WHERE = ("pods", FOREIGN, "web")
BUMPS = [
    pytest.param(0, id="with the revisions of the backup"),
    pytest.param(1_000_000, id="with later revisions"),
]


def _running(s: Harness, policy: str = "Always") -> None:
    s.create(policy=policy)
    s.wait(5.0)
    s.runs()
    s.wait(3.0)
    s.home.received.clear()
    s.foreign.received.clear()


def _sent(cluster: harness.RecordingCluster) -> list[str]:
    """Requests that name the pod, in order."""
    words = [re.match(r"(\w+) .*/pods/web(/\w+)?$", one.request) for one in cluster.received]
    return [f"{word[1]}{word[2] or ''}" for word in words if word is not None]


def _stopped(s: Harness, *, code: int = 143) -> None:
    """The foreign kubelet has stopped the containers."""
    ended = {"terminated": {"exitCode": code, "reason": "Error"}}
    body = {"status": {"phase": "Failed", "containerStatuses": [_container(ended)]}}
    s.foreign_server.patch(WHERE, body, by=KUBELET, status=True, strategic=False)


def _container(state: object) -> dict[str, object]:
    return {
        "name": "main",
        "image": "example.org/app",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }


def _leaves(s: Harness) -> None:
    """The foreign kubelet removes the mirror."""
    s.foreign_server.delete(WHERE, by=KUBELET, grace=0)


def _at_once(s: Harness) -> None:
    s.delete()
    s.wait(1.0)
    _leaves(s)


def _after_its_status(s: Harness) -> None:
    s.delete()
    s.wait(1.0)
    _stopped(s)
    s.wait(1.0)
    _leaves(s)


def _never_scheduled(s: Harness) -> None:
    body = {"spec": {"nodeName": None}}
    s.foreign_server.patch(WHERE, body, by=USER, status=False, strategic=False)
    s.delete()


@pytest.mark.parametrize(
    ("policy", "how", "foreign"),
    [
        pytest.param("Always", _at_once, ["DELETE"], id="its mirror is removed"),
        pytest.param("Always", _after_its_status, ["DELETE"], id="its mirror reports its end"),
        pytest.param("Always", _never_scheduled, ["DELETE"], id="its mirror has no node"),
        pytest.param("Never", _after_its_status, ["DELETE", "PATCH"], id="a finalizer holds it"),
        pytest.param("Never", _never_scheduled, ["DELETE", "PATCH"], id="a finalizer, no node"),
    ],
)
def test_a_deletion_costs_two_requests_at_home_and_one_for_each_hold_of_the_mirror(
    policy: str, how: Callable[[Harness], None], foreign: list[str]
) -> None:
    with harness.running() as s:
        _running(s, policy)
        how(s)
        s.wait(10.0)
        assert s.pod() is None
        assert s.mirror() is None
        assert _sent(s.home) == ["PATCH/status", "DELETE"]
        assert _sent(s.foreign) == foreign


def test_deleting_a_finished_pod_costs_one_request_since_home_waits_for_no_node() -> None:
    with harness.running() as s:
        _running(s, "Never")
        _stopped(s)
        s.wait(3.0)
        s.home.received.clear()
        s.foreign.received.clear()
        s.delete()
        s.wait(3.0)
        assert s.pod() is None
        assert (_sent(s.home), _sent(s.foreign)) == ([], ["DELETE"])


def test_the_end_that_only_the_answer_to_a_delete_shows_is_written() -> None:
    with harness.running() as s:
        _running(s)
        s.foreign.lag = 60.0
        _stopped(s, code=3)
        s.delete()
        s.wait(3.0)
        assert s.pod() is None
        written = s.home.requests(r"^PATCH .*/pods/web/status")
        (status,) = (one.body["status"] for one in written)
        assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_a_mirror_whose_label_is_removed_while_its_pod_is_deleted_is_read() -> None:
    with harness.running() as s:
        _running(s)
        s.delete()
        s.wait(1.0)
        body = {"metadata": {"labels": None}}
        s.foreign_server.patch(WHERE, body, by=USER, status=False, strategic=False)
        s.wait(3.0)
        assert s.foreign.requests(READS)
        assert s.pod() is not None, "its mirror still runs"
        _leaves(s)
        s.wait(30.0)
        assert s.pod() is None


def test_a_mirror_whose_finalizer_others_removed_is_read() -> None:
    with harness.running() as s:
        _running(s)
        s.delete()
        s.wait(1.0)
        s.remove(unproven=True)
        s.wait(3.0)
        assert len(s.foreign.requests(READS)) == 1
        assert s.pod() is None


def test_after_the_lost_answer_to_a_creation_the_end_of_an_earlier_mirror_is_no_evidence() -> None:
    with harness.running() as s:
        _running(s)
        s.foreign.faults.append(Fault.DONE)
        s.home.refusing[r"/status$"] = s.home.silence
        s.remove()
        s.wait(0.001)
        s.foreign.lag = 30.0
        s.wait(0.1)
        s.home.refusing.clear()
        s.delete()
        s.wait(1.0)
        assert s.mirror() is None
        # No watch shows the second one, and no status of the home pod names it.
        assert _sent(s.foreign) == ["GET", "DELETE", "GET"]


def test_the_late_end_of_an_earlier_mirror_is_no_evidence_after_a_request_for_another() -> None:
    with harness.running() as s:
        _running(s)
        s.foreign_server.delete(WHERE, by=USER)
        s.wait(80.0)
        s.foreign.lag = 12.0
        s.remove()
        s.wait(9.5)
        s.foreign.faults.append(Fault.DONE)
        for _ in range(3000):
            s.wait(0.001)
            if s.mirror() is not None:
                break
        assert s.mirror() is not None, "another mirror was created, and the answer was lost"
        assert s.store.departed == {}, "no watch has shown the end of the first"
        s.foreign.refusing[r"pods"] = s.foreign.silence
        s.delete()
        s.wait(6.0)
        assert s.store.departed, "a watch has shown the end of the first"
        assert s.pod() is not None, "the second one runs"
        s.foreign.refusing.clear()
        s.wait(90.0)
        assert (s.pod(), s.mirror()) == (None, None)


def test_a_mirror_that_a_restored_foreign_cluster_has_again_has_not_ended() -> None:
    with harness.running() as s:
        _running(s)
        backup = s.foreign_server.backup()
        s.home.refusing[r"^(PATCH|DELETE) .*/pods/web"] = s.home.silence
        _never_scheduled(s)
        s.wait(3.0)
        assert s.mirror() is None
        s.foreign.refusing[r"^DELETE .*/pods/web"] = s.foreign.silence
        s.restore("foreign", backup, bump=1_000_000)
        s.wait(60.0)
        assert ObjectKey(FOREIGN, "web") in s.store.mirrors
        assert s.store.departed == {}
        s.foreign_server.policy = lambda _resource, obj: obj["metadata"].pop("labels", None)
        body = {"metadata": {"labels": None}}
        s.foreign_server.patch(WHERE, body, by=USER, status=False, strategic=False)
        s.wait(5.0)
        s.home.refusing.clear()
        s.wait(60.0)
        assert s.mirror() is not None
        assert s.pod() is not None, "its mirror runs again"


@pytest.mark.parametrize("bump", BUMPS)
def test_what_was_seen_before_a_restore_is_no_evidence(bump: int) -> None:
    with harness.running() as s:
        _running(s)
        s.foreign_server.policy = lambda _resource, obj: obj["metadata"].pop("labels", None)
        body = {"metadata": {"labels": None}}
        s.foreign_server.patch(WHERE, body, by=USER, status=False, strategic=False)
        backup = s.foreign_server.backup()
        s.foreign_server.policy = lambda _resource, _obj: None
        s.wait(5.0)
        s.home.refusing[r"^(PATCH|DELETE) .*/pods/web"] = s.home.silence
        s.delete()
        s.wait(1.0)
        _leaves(s)
        s.wait(5.0)
        s.restore("foreign", backup, bump=bump)
        s.wait(60.0)
        s.home.refusing.clear()
        s.wait(60.0)
        assert s.pod() is not None, "its mirror, which has no label, runs again"


def test_what_was_seen_before_a_doubt_of_the_cluster_is_no_evidence() -> None:
    with harness.running() as s:
        _running(s)
        s.home.refusing[r"^(PATCH|DELETE) .*/pods/web"] = s.home.silence
        s.delete()
        s.wait(1.0)
        _leaves(s)
        s.wait(3.0)
        assert not s.foreign.requests(READS)
        right = s.foreign.server
        s.foreign.lead_to(Server(s.clock, (harness.OWN, FOREIGN), cluster="other"))
        with pytest.raises(errors.Unconfirmed):
            s.probe()
        s.foreign.lead_to(right)
        s.probe()
        s.wait(3.0)
        s.foreign.received.clear()
        s.home.refusing.clear()
        s.wait(60.0)
        assert len(s.foreign.requests(READS)) == 1
        assert s.pod() is None


def test_a_404_for_a_delete_counts_once_the_cluster_is_confirmed() -> None:
    with harness.running() as s:
        _running(s)
        s.foreign.lag = 300.0
        _leaves(s)
        if s.mirror() is not None:
            _leaves(s)
        s.foreign.refusing[rf"^GET .*/namespaces/{harness.OWN}$"] = s.foreign.silence
        s.delete()
        s.wait(20.0)
        assert s.pod() is not None
        s.foreign.refusing.clear()
        s.wait(20.0)
        assert s.pod() is None
        assert not s.foreign.requests(READS)


def test_an_answer_that_is_no_pod_is_no_evidence() -> None:
    with harness.running() as s:
        _running(s)
        s.foreign.answering[r"^DELETE .*/pods/web"] = {"kind": "Status", "status": "Success"}
        s.delete()
        s.wait(1.0)
        assert s.foreign.requests(READS)
        assert s.pod() is not None


def test_nothing_is_kept_of_a_mirror_after_its_pod_is_gone() -> None:
    with harness.running() as s:
        _running(s)
        _at_once(s)
        s.wait(5.0)
        assert s.store.departed == {}
        assert ObjectKey(FOREIGN, "web") not in s.store.mirrors


def test_a_delete_that_another_user_outran_is_read() -> None:
    with harness.running() as s:
        _running(s)
        s.foreign.refusing[r"^DELETE .*/pods/web"] = s.foreign.refusal(
            errors.Conflict, 409, "Precondition failed: UID in precondition", reason="Conflict"
        )
        s.delete()
        s.wait(0.1)
        s.remove(unproven=True)
        s.wait(30.0)
        assert s.foreign.requests(READS)
        assert s.pod() is None
