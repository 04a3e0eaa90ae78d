"""Requests for serving certificates are approved as soon as they are valid, and only then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from cryptography import x509

from farlet.manager import serving_approval
from unit import faketime
from unit.manager import clusters, nodes
from unit.manager.clusters import CSRS, Clusters
from unit.manager.test_serving_requests import pod, request

JSON = dict[str, Any]
NODES = [nodes.node(), nodes.node("near")]
APPROVAL = f"{CSRS}/csr-1/approval"
PODS = "/api/v1/namespaces/farlet/pods"


class Harness(Clusters):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nodes = NODES
        self.approver = serving_approval.Approver(
            self.home, namespace="farlet", nodes=lambda: self.nodes
        )
        self.logs: list[Any] = []

    def create(self, given: JSON) -> JSON:
        return self.home_server.put(f"{CSRS}/{given['metadata']['name']}", given)

    def review(self, given: JSON, *pods: JSON) -> None:
        """A CSR has changed, while the pods are these."""
        self.approver.changed(given, deleted=False)
        self.pods_changed(*pods)

    def pods_changed(self, *pods: JSON) -> None:
        self.home_server.objects[PODS] = {
            "metadata": {"resourceVersion": "1"},
            "items": list(pods),
        }
        with structlog.testing.capture_logs() as logs:
            asyncio.run(self.approver.review())
        self.logs += logs

    def approved(self) -> bool:
        status = self.home_server.objects[f"{CSRS}/csr-1"].get("status") or {}
        return [one["type"] for one in status.get("conditions") or ()] == ["Approved"]

    @property
    def warnings(self) -> list[str]:
        return [line["reason"] for line in self.logs if line["log_level"] == "warning"]


@pytest.fixture
def h(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_a_right_request_is_approved(h: Harness) -> None:
    h.review(h.create(request()), pod())
    assert h.approved()


def test_a_request_waits_until_the_status_of_its_pod_contains_the_address(h: Harness) -> None:
    given = h.create(request())
    h.review(given, pod(status__phase="Pending"))
    h.pods_changed(pod(status__phase="Pending"))
    assert len(h.warnings) == 1
    assert h.home_server.count("PUT", APPROVAL) == 0
    h.pods_changed(pod())
    assert h.approved()
    h.pods_changed(pod())
    assert h.home_server.count("PUT", APPROVAL) == 1


def test_a_version_that_was_not_reviewed_is_not_approved(h: Harness) -> None:
    reviewed = h.create(request())
    h.create({**request(), "metadata": {"name": "csr-1", "uid": "another"}})
    h.review(reviewed, pod())
    assert not h.approved()
    assert h.warnings == []


def test_a_failed_approval_is_tried_again(h: Harness) -> None:
    h.home_server.failing = {"PUT": lambda: clusters.error(403)}
    h.review(h.create(request()), pod())
    assert "the approval failed" in h.warnings[0]
    h.home_server.failing = {}
    h.pods_changed(pod())
    assert h.approved()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(request(signerName="example.com/signer"), id="another signer"),
        pytest.param(request(username="admin"), id="another requester"),
        pytest.param(request(username="system:node:worker"), id="a node that is not virtual"),
        pytest.param({**request(), "spec": None}, id="no spec"),
    ],
)
def test_the_manager_does_nothing_about_a_request_with(h: Harness, given: JSON) -> None:
    h.review(h.create(given), pod())
    h.pods_changed(pod())
    assert h.home_server.seen == []
    assert h.logs == []


def test_a_request_waits_until_its_virtual_node_is_known(h: Harness) -> None:
    h.nodes = [nodes.node("near")]
    h.review(h.create(request()), pod())
    assert h.logs == []
    h.nodes = NODES
    h.pods_changed(pod())
    assert h.approved()


def test_a_deleted_request_is_forgotten(h: Harness) -> None:
    given = h.create(request())
    h.review(given)
    h.approver.changed(given, deleted=True)
    h.pods_changed(pod())
    assert not h.approved()


def _named(name: str, **changed: Any) -> JSON:
    given = request(**changed)
    given["metadata"] = {"name": name, "uid": f"uid-of-{name}", "resourceVersion": "1"}
    return given


def _lists(h: Harness, *requests: JSON) -> None:
    listed = {"metadata": {"resourceVersion": "9"}, "items": list(requests)}
    h.home_server.objects[f"{CSRS}?limit=500"] = listed


def test_a_request_whose_deletion_the_watch_missed_is_forgotten(h: Harness) -> None:
    h.review(_named("gone"), pod(status__phase="Pending"))
    h.review(_named("replaced"), pod(status__phase="Pending"))
    h.review(_named("present"), pod(status__phase="Pending"))
    h.review(_named("of-a-worker", username="system:node:worker"))
    another = {"metadata": {"name": "replaced", "uid": "another"}}
    _lists(h, _named("present"), another)

    async def main() -> None:
        running = asyncio.create_task(h.approver.run())
        await asyncio.sleep(serving_approval.RESYNC_SECONDS + 2 * serving_approval.RETRY_SECONDS)
        running.cancel()
        await asyncio.wait([running])

    with structlog.testing.capture_logs():
        faketime.run(main())
    assert [*h.approver._open] == ["present"]
    assert [*h.approver._refusals] == ["present"]


def test_a_request_that_arrives_while_requests_are_listed_is_kept(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    h.approver.changed(_named("gone"), deleted=False)
    _lists(h)
    answer = h.home_server.answer

    def answer_late(*given: Any) -> JSON:
        h.approver.changed(_named("new"), deleted=False)
        return answer(*given)

    monkeypatch.setattr(h.home_server, "answer", answer_late)
    asyncio.run(h.approver.resync())
    assert [*h.approver._open] == ["new"]


def test_nothing_is_listed_while_no_request_is_open(h: Harness) -> None:
    asyncio.run(h.approver.resync())
    assert h.home_server.seen == []


def test_few_open_requests_are_kept(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_approval, "MAX_OPEN", 3)
    for number in range(5):
        given = request()
        given["metadata"]["name"] = f"csr-{number}"
        h.approver.changed(given, deleted=False)
    assert [*h.approver._open] == ["csr-2", "csr-3", "csr-4"]


def test_a_request_of_another_size_than_any_of_farlet_is_not_kept(h: Harness) -> None:
    given = request()
    given["metadata"]["annotations"] = {"a": "x" * 1_000_000}
    h.review(h.create(given), pod())
    assert not h.approver._open
    assert not h.approved()


def test_a_pod_with_an_invalid_address_keeps_no_other_pod_from_its_certificate(h: Harness) -> None:
    h.review(h.create(request()), pod(status__podIP="010.0.0.9", status__podIPs=[]), pod())
    assert h.approved()


def test_requests_of_other_nodes_do_not_displace_one_of_a_virtual_node(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_approval, "MAX_OPEN", 3)
    h.approver.changed(h.create(request()), deleted=False)
    for number in range(5):
        given = request(username=f"system:node:worker-{number}")
        given["metadata"]["name"] = f"csr-of-worker-{number}"
        h.approver.changed(given, deleted=False)
    assert len(h.approver._open) == 3
    h.pods_changed(pod())
    assert h.approved()


def test_requests_of_other_nodes_are_not_parsed(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []

    def load(content: bytes) -> x509.CertificateSigningRequest:
        parsed.append(content)
        return original(content)

    original = x509.load_pem_x509_csr
    monkeypatch.setattr(x509, "load_pem_x509_csr", load)
    for number in range(20):
        given = request(username=f"system:node:worker-{number}")
        given["metadata"]["name"] = f"csr-of-worker-{number}"
        h.approver.changed(given, deleted=False)
    h.review(h.create(request()), pod())
    assert len(parsed) == 1


def test_requests_are_reviewed_as_they_arrive(h: Harness) -> None:
    async def main() -> None:
        running = asyncio.create_task(h.approver.run())
        await asyncio.sleep(1.0)
        h.approver.changed(h.create(request()), deleted=False)
        await asyncio.sleep(2.0)
        assert not h.approved()  # the list of pods failed
        h.home_server.failing = {}
        h.approver.wake()
        await asyncio.sleep(2.0)
        assert h.approved()
        running.cancel()
        await asyncio.wait([running])

    h.pods_changed(pod())
    h.home_server.failing = {f"GET {PODS}": lambda: clusters.error(403)}
    with structlog.testing.capture_logs():
        faketime.run(main())
