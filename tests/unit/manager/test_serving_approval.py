"""Requests for serving certificates are approved as soon as they are right, and only then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from farlet.manager import serving_approval
from unit.manager import clusters, nodes
from unit.manager.clusters import CSRS, Clusters
from unit.manager.test_serving_requests import pod, request

JSON = dict[str, Any]
NODES = [nodes.node(), nodes.node("near")]
APPROVAL = f"{CSRS}/csr-1/approval"


class Harness(Clusters):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.approver = serving_approval.Approver(self.home)
        self.logs: list[Any] = []

    def create(self, given: JSON) -> JSON:
        return self.home_server.put(f"{CSRS}/csr-1", given)

    def review(self, given: JSON, *pods: JSON) -> None:
        with structlog.testing.capture_logs() as logs:
            asyncio.run(self.approver.review(given, NODES, pods))  # type: ignore[arg-type]
        self.logs += logs

    def pods_changed(self, *pods: JSON) -> None:
        with structlog.testing.capture_logs() as logs:
            asyncio.run(self.approver.pods_changed(NODES, pods))  # type: ignore[arg-type]
        self.logs += logs

    @property
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
    assert h.approved


def test_a_request_waits_until_the_status_of_its_pod_contains_the_address(h: Harness) -> None:
    given = h.create(request())
    h.review(given, pod(status__phase="Pending"))
    h.pods_changed(pod(status__phase="Pending"))
    assert len(h.warnings) == 1
    assert h.home_server.count("PUT", APPROVAL) == 0
    h.pods_changed(pod())
    assert h.approved
    h.pods_changed(pod())
    assert h.home_server.count("PUT", APPROVAL) == 1


def test_a_version_that_was_not_reviewed_is_not_approved(h: Harness) -> None:
    reviewed = h.create(request())
    h.create({**request(), "metadata": {"name": "csr-1", "uid": "another"}})
    h.review(reviewed, pod())
    assert not h.approved
    assert h.warnings == []


def test_a_failed_approval_is_tried_again(h: Harness) -> None:
    h.home_server.failing = {"PUT": lambda: clusters.error(403)}
    h.review(h.create(request()), pod())
    assert "the approval failed" in h.warnings[0]
    h.home_server.failing = {}
    h.pods_changed(pod())
    assert h.approved


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(request(signerName="example.com/signer"), id="another signer"),
        pytest.param(request(request="%%%"), id="nothing readable"),
        pytest.param({**request(), "spec": None}, id="no spec"),
    ],
)
def test_the_manager_does_nothing_about_a_request_with(h: Harness, given: JSON) -> None:
    h.review(h.create(given), pod())
    h.pods_changed(pod())
    assert h.home_server.seen == []
    assert h.logs == []


def test_a_request_of_a_node_without_virtual_node_is_left_alone(h: Harness) -> None:
    with structlog.testing.capture_logs() as logs:
        asyncio.run(h.approver.review(h.create(request()), [nodes.node("near")], []))
    assert logs == []


def test_a_deleted_request_is_forgotten(h: Harness) -> None:
    h.review(h.create(request()))
    h.approver.forget("csr-1")
    h.pods_changed(pod())
    assert not h.approved


def test_few_refused_requests_are_kept(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_approval, "MAX_WAITING", 3)
    for number in range(5):
        given = request()
        given["metadata"]["name"] = f"csr-{number}"
        h.review(given)
    assert [*h.approver._waiting] == ["csr-2", "csr-3", "csr-4"]
