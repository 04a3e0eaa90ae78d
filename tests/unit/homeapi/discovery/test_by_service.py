"""Discovery of the endpoint behind the Service home-api."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from farlet.constants import Reason
from farlet.context import (
    Endpoint,
    NotConfigured,
    OutOfReach,
    Unverified,
    Verified,
)
from farlet.homeapi import discovery
from unit import certificates
from unit.gateway.stage import eventually
from unit.homeapi.discovery import stage
from unit.homeapi.discovery.stage import USUAL

FOUND = Endpoint("kubernetes.default.svc", 443, ("10.96.3.4",))


@pytest.fixture
def foreign(tmp_path: Path) -> stage.ForeignCluster:
    made = stage.ForeignCluster(
        tmp_path, certificates.authority("home CA"), service=stage.service()
    )
    made.present(*USUAL)
    return made


async def test_pods_get_a_name_of_the_certificate_and_the_address_of_the_service(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign) as scene:
        assert scene.home_api == Verified(FOUND)
    assert set(foreign.forwarded) == {"gateway-0/portforward?ports=6443"}
    assert foreign.received == b""


async def test_without_a_service_pods_wait_until_there_is_one(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    foreign.service = None
    async with stage.discovering(tmp_path, foreign) as scene:
        assert scene.home_api == NotConfigured()
        assert not foreign.forwarded
        await foreign.set_service(stage.service())
        await eventually(lambda: scene.ctx.endpoint == FOUND)
        await foreign.set_service(stage.service("10.96.9.9"))
        await eventually(lambda: "10.96.9.9" in str(scene.ctx.endpoint))
        await foreign.set_service(None)
        await eventually(lambda: scene.ctx.endpoint is None)
        assert [str(one.endpoint) for one in scene.changes] == [
            str(FOUND),
            "kubernetes.default.svc:443 at 10.96.9.9",
            "None",
        ]


async def test_flags_win_and_the_service_is_not_read(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    flags: dict[str, Any] = {"home_api_server_host": "127.0.0.1", "home_api_server_port": "1"}
    async with stage.discovering(tmp_path, foreign, **flags) as scene:
        assert scene.home_api == Unverified(
            Endpoint("127.0.0.1", 1), "farlet cannot reach 127.0.0.1:1: connection refused"
        )
    assert not foreign.forwarded


async def test_an_endpoint_of_another_ca_is_refused_and_nothing_is_sent(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    foreign.present(*USUAL, ca=certificates.authority("another CA"))
    async with stage.discovering(tmp_path, foreign) as scene:
        refusal = scene.refusal(Reason.HOME_API_CERTIFICATE_INVALID)
        assert "not signed by the home CA" in refusal
        assert "check the endpoints of the Service home-api at 10.96.3.4:443" in refusal
        assert "--home-api-server-host" not in refusal
    assert foreign.received == b""


async def test_a_certificate_without_dns_names_is_refused_with_its_names(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    foreign.present("10.0.0.1", "fd00::1")
    async with stage.discovering(tmp_path, foreign, home_names=("10.0.0.1", "fd00::1")) as scene:
        refusal = scene.refusal(Reason.HOME_API_CERTIFICATE_INVALID)
        assert "10.0.0.1, fd00::1" in refusal
        assert "Add kubernetes.default.svc to it" in refusal


KUBELET = ("home-worker-1", "192.0.2.7")


@pytest.mark.parametrize(
    ("home", "presented", "expected"),
    [
        pytest.param(
            (*USUAL, "cp-1"), KUBELET, "kubernetes.default.svc, kubernetes", id="a kubelet's"
        ),
        pytest.param(
            (*USUAL, "cp-1"),
            ("cp-1",),
            "kubernetes.default.svc, kubernetes",
            id="that of a kubelet beside the API server",
        ),
        pytest.param(("api.home.example",), KUBELET, "api.home.example", id="without usual names"),
    ],
)
async def test_another_certificate_of_the_home_ca_is_refused_with_the_expected_names(
    tmp_path: Path,
    foreign: stage.ForeignCluster,
    home: tuple[str, ...],
    presented: tuple[str, ...],
    expected: str,
) -> None:
    foreign.present(*presented)
    async with stage.discovering(tmp_path, foreign, home_names=home) as scene:
        refusal = scene.refusal(Reason.HOME_API_CERTIFICATE_INVALID)
        assert f"not that of the home API server; its names (SANs) are: {presented[0]}" in refusal
        assert f"farlet expected one of: {expected}. Check" in refusal
        assert scene.ctx.endpoint is None
    assert foreign.received == b""


async def test_a_verified_endpoint_is_refused_once_a_kubelet_answers(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign) as scene:
        foreign.present(*KUBELET)
        await scene.check()
        assert scene.refusal(Reason.HOME_API_CERTIFICATE_INVALID)


async def test_replicas_of_the_home_api_server_may_have_different_names(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    """farlet connects to one of them, pods to another: each connection adds the names it sees."""
    foreign.present("api-2.home.example")
    async with stage.discovering(tmp_path, foreign, home_names=("api-1.home.example",)) as scene:
        assert scene.refusal(Reason.HOME_API_CERTIFICATE_INVALID)
        scene.home_presents("api-2.home.example")
        await scene.check()
        assert scene.ctx.endpoint == Endpoint("api-2.home.example", 443, ("10.96.3.4",))


async def test_names_that_farlet_cannot_verify_are_not_given_to_pods(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign, home_verified=False) as scene:
        refusal = scene.refusal(Reason.HOME_API_UNVERIFIED)
        assert "its kubeconfig disables the verification" in refusal
        assert "kubernetes.default.svc" in refusal


async def test_pods_dial_another_name_that_the_certificate_contains(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    foreign.present("api.home.example")
    async with stage.discovering(tmp_path, foreign, home_names=("api.home.example",)) as scene:
        assert scene.ctx.endpoint == Endpoint("api.home.example", 443, ("10.96.3.4",))
        foreign.present("api.home.example", "kubernetes.default.svc")
        await scene.check()
        assert scene.ctx.endpoint == Endpoint("api.home.example", 443, ("10.96.3.4",))
        foreign.present("kubernetes.default.svc")
        scene.home_presents("kubernetes.default.svc")
        await scene.check()
        assert scene.ctx.endpoint == FOUND


async def test_a_service_without_a_working_backend_is_refused_with_the_cause(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    foreign.complaint = "connection refused"
    problem = "gateway pod farlet/gateway-0 is not connected: timed out"
    async with stage.discovering(tmp_path, foreign, gateway_problem=problem) as scene:
        assert scene.ctx.endpoint is None
        refusal = scene.refusal(Reason.HOME_API_UNVERIFIED)
        assert "has not reached the home API server through the Service" in refusal
        assert "connection refused" in refusal
        assert problem in refusal
        foreign.complaint = ""
        await scene.check()
        assert scene.ctx.endpoint == FOUND


async def test_a_verified_endpoint_stays_in_use_while_it_is_out_of_reach(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign) as scene:
        foreign.complaint = "connection refused"
        await scene.check()
        out_of_reach = scene.home_api
        assert isinstance(out_of_reach, OutOfReach)
        assert out_of_reach.endpoint == FOUND
        assert "connection refused" in out_of_reach.message
        foreign.complaint = ""
        await scene.check()
        assert scene.home_api == Verified(FOUND)


async def test_an_endpoint_out_of_reach_is_refused_where_preflight_is_required(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign, home_api_preflight="require") as scene:
        foreign.complaint = "connection refused"
        await scene.check()
        assert "--home-api-preflight=require" in scene.refusal(Reason.HOME_API_UNVERIFIED)


async def test_a_verified_endpoint_is_refused_once_something_else_answers(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign) as scene:
        foreign.present(*USUAL, ca=certificates.authority("another CA"))
        await scene.check()
        assert scene.refusal(Reason.HOME_API_CERTIFICATE_INVALID)


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        pytest.param([], "is ready", id="no pod"),
        pytest.param([stage.pod(ready=False)], "is ready", id="none that is ready"),
        pytest.param([stage.pod(port="other")], "has a port pods", id="none with that port"),
    ],
)
async def test_a_service_without_a_usable_pod_is_refused(
    tmp_path: Path, foreign: stage.ForeignCluster, pods: list[dict[str, object]], message: str
) -> None:
    foreign.pods = pods
    async with stage.discovering(tmp_path, foreign) as scene:
        assert message in scene.refusal(Reason.HOME_API_UNVERIFIED)
    assert not foreign.forwarded


async def test_pods_use_a_service_without_a_selector_unverified(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    foreign.service = stage.service(selector=None)
    async with stage.discovering(tmp_path, foreign) as scene:
        assert isinstance(scene.home_api, Unverified)
        assert scene.home_api.endpoint == FOUND
        assert "no selector" in scene.home_api.message


@pytest.mark.parametrize(
    ("forbids", "reason", "message"),
    [
        pytest.param(
            stage.SERVICES, Reason.HOME_API_NOT_CONFIGURED, "manifests/foreign", id="services"
        ),
        pytest.param(stage.PODS, Reason.HOME_API_UNVERIFIED, "403", id="pods"),
    ],
)
async def test_a_missing_permission_is_reported(
    tmp_path: Path, foreign: stage.ForeignCluster, forbids: str, reason: Reason, message: str
) -> None:
    foreign.forbids = forbids
    async with stage.discovering(tmp_path, foreign) as scene:
        assert scene.ctx.endpoint is None
        assert message in scene.refusal(reason)


async def test_a_changed_ca_file_reaches_pods(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign) as scene:
        after = certificates.authority("the next home CA")
        scene.ca_file.write_text(foreign.ca.pem + after.pem)
        before = scene.ctx.home_ca_digest
        await scene.check()
        assert scene.ctx.home_ca == foreign.ca.pem + after.pem
        assert scene.ctx.home_ca_digest != before
        assert scene.ctx.endpoint == FOUND
        scene.ca_file.unlink()
        await scene.check()
        assert scene.ctx.home_ca == foreign.ca.pem + after.pem


async def test_a_missing_ca_file_is_logged_once(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    async with stage.discovering(tmp_path, foreign) as scene:
        scene.ca_file.unlink()
        with structlog.testing.capture_logs() as logged:
            await scene.check()
            await scene.check()
    assert [one["event"] for one in logged].count("failed to read home CA") == 1


async def test_a_lasting_failure_keeps_its_first_message(
    tmp_path: Path, foreign: stage.ForeignCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign.complaint = "refused by 1"
    async with stage.discovering(tmp_path, foreign) as scene:
        foreign.complaint = "refused by 2"
        before = len(foreign.forwarded)
        for checks in (1, 2, 3):
            scene.discovery.recheck()
            await eventually(lambda: len(foreign.forwarded) >= before + checks)  # noqa: B023
        assert "refused by 1" in scene.refusal(Reason.HOME_API_UNVERIFIED)
        assert not scene.changes
        monkeypatch.setattr(discovery, "MESSAGE_SECONDS", 0.0)
        scene.discovery.recheck()
        await eventually(lambda: "refused by 2" in scene.refusal(Reason.HOME_API_UNVERIFIED))
        assert len(scene.changes) == 1


@pytest.mark.parametrize(
    ("service", "message"),
    [
        pytest.param(stage.service(clusterIP="None", clusterIPs=["None"]), "cluster IP", id="none"),
        pytest.param(
            stage.service(ports=[{"port": 1}, {"port": 2}]), "neither a port 443", id="ports"
        ),
    ],
)
async def test_an_endpoint_is_dropped_when_its_service_becomes_unusable(
    tmp_path: Path, foreign: stage.ForeignCluster, service: dict[str, object], message: str
) -> None:
    async with stage.discovering(tmp_path, foreign) as scene:
        assert scene.ctx.endpoint == FOUND
        await foreign.set_service(service)
        await eventually(lambda: scene.ctx.endpoint is None)
        assert message in scene.refusal(Reason.HOME_API_NOT_CONFIGURED)
        await foreign.set_service(stage.service())
        await eventually(lambda: scene.ctx.endpoint == FOUND)


async def test_pods_get_all_addresses_of_a_dual_stack_service(
    tmp_path: Path, foreign: stage.ForeignCluster
) -> None:
    foreign.service = stage.service(clusterIPs=["10.96.3.4", "fd00:96::4"])
    async with stage.discovering(tmp_path, foreign) as scene:
        assert scene.ctx.endpoint == Endpoint(
            "kubernetes.default.svc", 443, ("10.96.3.4", "fd00:96::4")
        )


async def test_nothing_is_left_running(tmp_path: Path, foreign: stage.ForeignCluster) -> None:
    before = asyncio.all_tasks()
    async with stage.discovering(tmp_path, foreign) as scene:
        await scene.check()
    await eventually(lambda: asyncio.all_tasks() == before)
