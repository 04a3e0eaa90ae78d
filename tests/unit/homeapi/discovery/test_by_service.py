"""The address for pods by the Service home-api: what is looked at, and what pods are given when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from farlet.constants import Reason
from farlet.context import Endpoint
from farlet.homeapi import discovery
from unit import certificates
from unit.gateway.stage import eventually
from unit.homeapi.discovery import stage

USUAL = ("kubernetes", "kubernetes.default.svc", "10.96.0.1")
FOUND = Endpoint("kubernetes.default.svc", 443, ("10.96.3.4",))


@pytest.fixture
def abroad(tmp_path: Path) -> stage.Abroad:
    made = stage.Abroad(tmp_path, certificates.authority("home CA"), service=stage.service())
    made.presents(*USUAL)
    return made


async def test_pods_are_given_a_name_of_the_certificate_and_the_address_of_the_service(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint == FOUND
        assert scene.ctx.endpoint_refusal is None
        assert scene.ctx.endpoint_verified
        assert scene.ctx.endpoint_doubt is None
    assert set(abroad.forwarded) == {"gateway-0/portforward?ports=6443"}
    assert abroad.heard == b""


async def test_without_a_service_pods_wait_until_there_is_one(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    abroad.service = None
    async with stage.looking(tmp_path, abroad) as scene:
        assert (scene.ctx.endpoint, scene.ctx.endpoint_refusal) == (None, None)
        assert not abroad.forwarded
        await abroad.becomes(stage.service())
        await eventually(lambda: scene.ctx.endpoint == FOUND)
        await abroad.becomes(stage.service("10.96.9.9"))
        await eventually(lambda: "10.96.9.9" in str(scene.ctx.endpoint))
        await abroad.becomes(None)
        await eventually(lambda: scene.ctx.endpoint is None)
        assert [str(one.endpoint) for one in scene.changes] == [
            str(FOUND),
            "kubernetes.default.svc:443 at 10.96.9.9",
            "None",
        ]


async def test_flags_win_and_no_service_is_looked_for(tmp_path: Path, abroad: stage.Abroad) -> None:
    flags = {"home_api_server_host": "127.0.0.1", "home_api_server_port": "1"}
    async with stage.looking(tmp_path, abroad, **flags) as scene:
        assert scene.ctx.endpoint == Endpoint("127.0.0.1", 1)
        assert not scene.ctx.endpoint_verified
        assert "Connection refused" in (scene.ctx.endpoint_doubt or "")
    assert not abroad.forwarded


async def test_another_ca_behind_the_service_refuses_and_nothing_is_sent(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    abroad.presents(*USUAL, ca=certificates.authority("somebody else"))
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint_refusal_reason is Reason.HOME_API_CERTIFICATE_INVALID
        refusal = scene.ctx.endpoint_refusal or ""
        assert "not signed by the home CA" in refusal
        assert "look at where the Service home-api at 10.96.3.4:443 leads" in refusal
        assert "--home-api-server-host" not in refusal
    assert abroad.heard == b""


async def test_a_certificate_of_addresses_alone_refuses_and_lists_them(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    abroad.presents("10.0.0.1", "fd00::1")
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint_refusal_reason is Reason.HOME_API_CERTIFICATE_INVALID
        assert "10.0.0.1, fd00::1" in (scene.ctx.endpoint_refusal or "")


async def test_a_certificate_of_another_name_gives_pods_that_name(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    abroad.presents("api.home.example")
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint == Endpoint("api.home.example", 443, ("10.96.3.4",))
        abroad.presents("api.home.example", "kubernetes.default.svc")
        await scene.looks()
        assert scene.ctx.endpoint == Endpoint("api.home.example", 443, ("10.96.3.4",))
        abroad.presents("kubernetes.default.svc")
        await scene.looks()
        assert scene.ctx.endpoint == FOUND


async def test_what_leads_nowhere_yet_is_no_address_and_says_what_is_in_the_way(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    abroad.complaint = "connection refused"
    told = "gateway pod farlet/gateway-0 is not connected: Host key is not trusted"
    async with stage.looking(tmp_path, abroad, gateway_problem=told) as scene:
        assert scene.ctx.endpoint is None
        assert scene.ctx.endpoint_refusal_reason is Reason.HOME_API_UNVERIFIED
        assert "leads nowhere yet" in (scene.ctx.endpoint_refusal or "")
        assert "connection refused" in (scene.ctx.endpoint_refusal or "")
        assert told in (scene.ctx.endpoint_refusal or "")
        abroad.complaint = ""
        await scene.looks()
        assert scene.ctx.endpoint == FOUND


async def test_an_address_that_was_seen_is_kept_while_it_is_out_of_reach(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    async with stage.looking(tmp_path, abroad) as scene:
        abroad.complaint = "connection refused"
        await scene.looks()
        assert scene.ctx.endpoint == FOUND
        assert scene.ctx.endpoint_refusal is None
        assert scene.ctx.endpoint_verified
        assert "connection refused" in (scene.ctx.endpoint_doubt or "")
        abroad.complaint = ""
        await scene.looks()
        assert scene.ctx.endpoint_doubt is None


async def test_one_that_is_out_of_reach_is_refused_where_reach_is_required(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    async with stage.looking(tmp_path, abroad, home_api_preflight="require") as scene:
        abroad.complaint = "connection refused"
        await scene.looks()
        assert scene.ctx.endpoint_refusal_reason is Reason.HOME_API_UNVERIFIED
        assert "--home-api-preflight=require" in (scene.ctx.endpoint_refusal or "")


async def test_an_address_that_was_seen_is_refused_once_it_leads_elsewhere(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    async with stage.looking(tmp_path, abroad) as scene:
        abroad.presents(*USUAL, ca=certificates.authority("somebody else"))
        await scene.looks()
        assert scene.ctx.endpoint_refusal_reason is Reason.HOME_API_CERTIFICATE_INVALID


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        pytest.param([], "is ready", id="no pod"),
        pytest.param([stage.pod(ready=False)], "is ready", id="none that is ready"),
        pytest.param([stage.pod(port="other")], "has a port pods", id="none with that port"),
    ],
)
async def test_nobody_behind_the_service_is_told(
    tmp_path: Path, abroad: stage.Abroad, pods: list[dict[str, object]], told: str
) -> None:
    abroad.pods = pods
    async with stage.looking(tmp_path, abroad) as scene:
        assert told in (scene.ctx.endpoint_refusal or "")
    assert not abroad.forwarded


async def test_a_service_without_a_selector_is_given_to_pods_with_a_doubt(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    abroad.service = stage.service(selector=None)
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint == FOUND
        assert not scene.ctx.endpoint_verified
        assert "no selector" in (scene.ctx.endpoint_doubt or "")


@pytest.mark.parametrize(
    ("forbids", "reason", "told"),
    [
        pytest.param(stage.SERVICES, Reason.HOME_API_NOT_CONFIGURED, "manifests/foreign", id="s"),
        pytest.param(stage.PODS, Reason.HOME_API_UNVERIFIED, "403", id="pods"),
    ],
)
async def test_a_right_that_is_missing_is_told(
    tmp_path: Path, abroad: stage.Abroad, forbids: str, reason: Reason, told: str
) -> None:
    abroad.forbids = forbids
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint is None
        assert scene.ctx.endpoint_refusal_reason is reason
        assert told in (scene.ctx.endpoint_refusal or "")


async def test_another_ca_file_reaches_pods(tmp_path: Path, abroad: stage.Abroad) -> None:
    async with stage.looking(tmp_path, abroad) as scene:
        after = certificates.authority("the next home CA")
        scene.ca_file.write_text(abroad.ca.pem + after.pem)
        before = scene.ctx.home_ca_digest
        await scene.looks()
        assert scene.ctx.home_ca == abroad.ca.pem + after.pem
        assert scene.ctx.home_ca_digest != before
        assert scene.ctx.endpoint == FOUND
        scene.ca_file.unlink()
        await scene.looks()
        assert scene.ctx.home_ca == abroad.ca.pem + after.pem


async def test_a_ca_file_that_is_gone_is_told_once(tmp_path: Path, abroad: stage.Abroad) -> None:
    async with stage.looking(tmp_path, abroad) as scene:
        scene.ca_file.unlink()
        with structlog.testing.capture_logs() as told:
            await scene.looks()
            await scene.looks()
    assert [one["event"] for one in told].count("home CA was not read") == 1


async def test_a_failure_keeps_its_words_while_they_change(
    tmp_path: Path, abroad: stage.Abroad, monkeypatch: pytest.MonkeyPatch
) -> None:
    abroad.complaint = "refused by 1"
    async with stage.looking(tmp_path, abroad) as scene:
        abroad.complaint = "refused by 2"
        before = len(abroad.forwarded)
        scene.discovery.look_again()
        await eventually(lambda: len(abroad.forwarded) > before + 1)
        scene.discovery.look_again()
        await eventually(lambda: len(abroad.forwarded) > before + 2)
        assert "refused by 1" in (scene.ctx.endpoint_refusal or "")
        assert not scene.changes
        monkeypatch.setattr(discovery, "TEXT_SECONDS", 0.0)
        scene.discovery.look_again()
        await eventually(lambda: "refused by 2" in (scene.ctx.endpoint_refusal or ""))
        assert len(scene.changes) == 1


@pytest.mark.parametrize(
    ("service", "told"),
    [
        pytest.param(stage.service(clusterIP="None", clusterIPs=["None"]), "clusterIP", id="none"),
        pytest.param(stage.service(ports=[{"port": 1}, {"port": 2}]), "no port 443", id="ports"),
    ],
)
async def test_a_service_that_becomes_unfit_is_no_address_any_more(
    tmp_path: Path, abroad: stage.Abroad, service: dict[str, object], told: str
) -> None:
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint == FOUND
        await abroad.becomes(service)
        await eventually(lambda: scene.ctx.endpoint is None)
        assert scene.ctx.endpoint_refusal_reason is Reason.HOME_API_NOT_CONFIGURED
        assert told in (scene.ctx.endpoint_refusal or "")
        await abroad.becomes(stage.service())
        await eventually(lambda: scene.ctx.endpoint == FOUND)


async def test_all_addresses_of_a_dual_stack_service_are_for_pods(
    tmp_path: Path, abroad: stage.Abroad
) -> None:
    abroad.service = stage.service(clusterIPs=["10.96.3.4", "fd00:96::4"])
    async with stage.looking(tmp_path, abroad) as scene:
        assert scene.ctx.endpoint == Endpoint(
            "kubernetes.default.svc", 443, ("10.96.3.4", "fd00:96::4")
        )


async def test_nothing_is_left_running(tmp_path: Path, abroad: stage.Abroad) -> None:
    before = asyncio.all_tasks()
    async with stage.looking(tmp_path, abroad) as scene:
        await scene.looks()
    await eventually(lambda: asyncio.all_tasks() == before)
