"""The foreign API server becomes that of another cluster while farlet runs.

The other cluster has the same namespaces and none of the mirrors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from farlet import errors
from unit.planning.model import Server
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, OWN, Harness

NAMESPACE_READS = rf"GET /api/v1/namespaces/{OWN}$"


def _other(s: Harness) -> Server:
    return Server(s.clock, (OWN, FOREIGN, "second-h"), cluster="other")


def _run(s: Harness, policy: str = "Always", name: str = "web") -> None:
    s.create(name, policy=policy)
    s.wait(5.0)
    s.runs(name)
    s.wait(3.0)


def _stops(s: Harness) -> None:
    """The foreign kubelet stops the mirror, which is being deleted."""
    mirror = s.mirror()
    assert mirror is not None
    assert "deletionTimestamp" in mirror["metadata"]
    s.remove()
    s.wait(10.0)
    assert s.pod() is None


def _probe(s: Harness) -> None:
    with contextlib.suppress(errors.FarletError):
        s.probe()


def _kubeconfig(s: Harness, server: Server) -> None:
    """The kubeconfig is replaced: open watches stay, requests go to the other cluster."""
    s.foreign.lead_to(server)


def _failover(s: Harness, server: Server) -> None:
    """Another cluster answers behind the same address."""
    s.foreign.lead_to(server, login=False)


def _failover_and_gap(s: Harness, server: Server) -> None:
    """The same, and the versions of the other cluster end the watches."""
    server.compact()
    s.foreign.lead_to(server, login=False)


WAYS: dict[str, Callable[[Harness, Server], None]] = {
    "another kubeconfig": _kubeconfig,
    "another cluster behind the address": _failover,
    "the same, and watches expire": _failover_and_gap,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("noticed", [False, True], ids=["before a probe", "after a probe"])
@pytest.mark.parametrize("policy", ["Never", "OnFailure", "Always"])
def test_a_running_pod_stays_as_it_is_in_both_clusters(
    policy: str, noticed: bool, way: Callable[[Harness, Server], None]
) -> None:
    with harness.running() as s:
        _run(s, policy)
        before, mirror = s.pod(), s.mirror()
        right, other = s.foreign.server, _other(s)
        way(s, other)
        if noticed:
            _probe(s)
        s.wait(60.0)
        s.scopes.wake_all()
        s.wait(300.0)
        pod = s.pod()
        assert pod is not None
        assert before is not None
        assert pod["status"] == before["status"]
        assert other.all("pods") == []
        s.foreign.lead_to(right)
        _probe(s)
        s.wait(60.0)
        assert s.mirror() == mirror
        again = s.pod()
        assert again is not None
        assert again["status"]["phase"] == "Running"
        s.delete()
        s.wait(1.0)
        _stops(s)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("noticed", [False, True], ids=["before a probe", "after a probe"])
def test_a_deleted_pod_stays_until_its_own_cluster_answers(
    noticed: bool, way: Callable[[Harness, Server], None]
) -> None:
    with harness.running() as s:
        _run(s)
        right = s.foreign.server
        way(s, _other(s))
        if noticed:
            _probe(s)
        s.delete()
        s.wait(300.0)
        assert s.pod() is not None
        s.foreign.lead_to(right)
        _probe(s)
        s.wait(60.0)
        _stops(s)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_new_pod_waits_until_its_own_cluster_answers(
    way: Callable[[Harness, Server], None],
) -> None:
    with harness.running() as s:
        _run(s)
        right, other = s.foreign.server, _other(s)
        way(s, other)
        _probe(s)
        s.create("new")
        s.wait(30.0)
        assert s.reason("new") == "ForeignClusterUnconfirmed"
        assert other.all("pods") == []
        s.foreign.lead_to(right)
        _probe(s)
        s.wait(30.0)
        assert s.mirror("new") is not None


def test_one_read_confirms_all_deletions_before_it() -> None:
    with harness.running() as s:
        names = [f"web-{number}" for number in range(8)]
        for name in names:
            s.create(name)
        s.wait(5.0)
        for name in names:
            s.runs(name)
        s.wait(3.0)
        before = len(s.foreign.requests(NAMESPACE_READS))
        for name in names:
            s.delete(name)
        s.wait(1.0)
        for name in names:
            s.remove(name, unproven=True)
        s.wait(10.0)
        assert [s.pod(name) for name in names] == [None] * len(names)
        assert len(s.foreign.requests(NAMESPACE_READS)) - before <= len(names) / harness.WORKERS + 1


@pytest.mark.parametrize("answer", ["silence", "forbidden"])
def test_a_404_counts_only_once_the_cluster_is_confirmed(answer: str) -> None:
    with harness.running() as s:
        _run(s, "Never")
        s.foreign.refusing[NAMESPACE_READS] = (
            s.foreign.silence
            if answer == "silence"
            else s.foreign.refusal(errors.Forbidden, 403, "namespaces is forbidden")
        )
        s.remove(unproven=True)
        s.wait(60.0)
        pod = s.pod()
        assert pod is not None
        assert pod["status"]["phase"] == "Running"
        s.foreign.refusing.clear()
        s.wait(60.0)
        assert s.reason() == "MirrorLost"
