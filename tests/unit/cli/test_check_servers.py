"""What `farlet check` finds about versions, clocks and the kubelet port."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from farlet import errors, settings
from farlet.cli.checks import servers
from farlet.cli.checks.findings import Finding, Outcome
from farlet.client.cluster import Cluster
from farlet.client.credential_sources import ClusterSource
from farlet.client.credentials import Name
from farlet.settings import loading
from farlet.telemetry.metrics import Metrics
from unit.reconcile import apiserver

REVIEWS = "home /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
HEALTHZ = "home /api/v1/nodes/far/proxy/healthz"
SKEW = "supported are 1.34 to 1.37 in both clusters (docs/versions.md)"


VERSION = {"gitVersion": "v1.36.3"}


@dataclass
class _Servers:
    """Two API servers that answer `answers`, by name and path, else with a version."""

    folder: Path
    home: Cluster
    foreign: Cluster
    answers: dict[str, Callable[[], web.Response]]

    async def findings(self) -> dict[str, Finding]:
        found = await servers.findings(self.home, self.foreign)
        return {one.what: one for one in found}

    async def kubelet(self, **flags: str) -> Finding | None:
        given = {"nodename": "far", "foreign_kubeconfig": str(self.folder / "foreign")}
        wanted = loading.load(settings.Settings, {**given, **flags})
        return await servers.kubelet(wanted, self.home)


@contextlib.asynccontextmanager
async def _servers(folder: Path) -> AsyncIterator[_Servers]:
    answers: dict[str, Callable[[], web.Response]] = {}

    async def listen(name: Name) -> Cluster:
        front = await stack.enter_async_context(apiserver.listening())

        async def answer(request: web.Request) -> web.StreamResponse:
            made = answers.get(f"{name} {request.path}")
            return web.json_response(VERSION) if made is None else made()

        front.answer = answer
        path = apiserver.kubeconfig(folder / name, front.url)
        source = ClusterSource(str(path), None)
        return await stack.enter_async_context(
            Cluster(name, source, metrics=Metrics().client(name))
        )

    async with contextlib.AsyncExitStack() as stack:
        yield _Servers(folder, await listen("home"), await listen("foreign"), answers)


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        pytest.param("v1.34.0", Outcome.OK, id="the first supported one"),
        pytest.param("v1.37.2-eks-1", Outcome.OK, id="the last one, with a suffix"),
        pytest.param("v1.33.9", Outcome.WARNING, id="before"),
        pytest.param("v1.38.0", Outcome.WARNING, id="after"),
        pytest.param("v2", Outcome.WARNING, id="unknown"),
    ],
)
async def test_versions_are_compared_with_the_supported_ones(
    tmp_path: Path, version: str, outcome: Outcome
) -> None:
    async with _servers(tmp_path) as env:
        env.answers["home /version"] = lambda: web.json_response({"gitVersion": version})
        found = (await env.findings())["Kubernetes versions"]
    assert (found.outcome, found.seen) == (outcome, f"home {version}, foreign v1.36.3")
    assert found.hint == ("" if outcome is Outcome.OK else SKEW)


def test_the_page_names_the_supported_versions() -> None:
    page = (Path(__file__).parents[3] / "docs/versions.md").read_text()
    first, last = servers.SUPPORTED
    assert f"versions 1.{first} to 1.{last} in both clusters" in page


@pytest.mark.parametrize(
    ("ahead", "outcome", "seen"),
    [
        pytest.param(2, Outcome.OK, "as on this machine", id="two seconds"),
        pytest.param(60, Outcome.WARNING, " s ahead of this machine", id="a minute ahead"),
        pytest.param(-60, Outcome.WARNING, " s behind this machine", id="a minute behind"),
        pytest.param(3600, Outcome.FAILED, " s ahead of this machine", id="an hour"),
    ],
)
async def test_clocks_are_compared(tmp_path: Path, ahead: int, outcome: Outcome, seen: str) -> None:
    async with _servers(tmp_path) as env:
        dated = {"Date": formatdate(time.time() + ahead, usegmt=True)}
        env.answers["foreign /version"] = lambda: web.json_response(VERSION, headers=dated)
        found = await env.findings()
    assert found["home clock"].outcome is Outcome.OK
    assert found["foreign clock"].outcome is outcome
    assert found["foreign clock"].seen.endswith(seen)


UNREACHABLE = {"kind": "Status", "message": "error trying to reach service: dial tcp 10.0.0.9"}


@pytest.mark.parametrize(
    ("answer", "outcome", "seen"),
    [
        pytest.param(web.Response(text="ok"), Outcome.OK, "API server reaches far", id="reached"),
        pytest.param(
            web.Response(text="Forbidden (user=x, verb=get, resource=nodes)", status=403),
            Outcome.OK,
            "API server reaches far",
            id="farlet refuses it",
        ),
        pytest.param(
            web.json_response({"kind": "Status", "message": "not found"}, status=404),
            Outcome.OK,
            "not checked: the Node far does not exist yet",
            id="no Node",
        ),
        pytest.param(
            web.json_response(UNREACHABLE, status=503),
            Outcome.FAILED,
            "error trying to reach service: dial tcp 10.0.0.9",
            id="a closed port",
        ),
        pytest.param(
            web.Response(text="[" * 5000, status=503), Outcome.FAILED, "[[[", id="deep brackets"
        ),
        pytest.param(
            web.json_response({"kind": "Status", "message": 7}, status=503),
            Outcome.FAILED,
            "7",
            id="a number for a message",
        ),
    ],
)
async def test_the_kubelet_port_is_reached_from_the_home_api_server(
    tmp_path: Path, answer: web.Response, outcome: Outcome, seen: str
) -> None:
    async with _servers(tmp_path) as env:
        env.answers[HEALTHZ] = lambda: answer
        env.answers[REVIEWS] = lambda: web.json_response(_review(allowed=True))
        found = await env.kubelet()
        without = await env.kubelet(kubelet_bind_address="0")
    assert found is not None
    assert found.outcome is outcome
    assert seen in found.seen
    assert ("--node-ip" in found.hint) is (outcome is Outcome.FAILED)
    assert without is None


@pytest.mark.parametrize(
    ("answer", "outcome", "seen", "hint"),
    [
        pytest.param(
            web.Response(text=errors.credentials_rejected("foreign", "no"), status=500),
            Outcome.WARNING,
            "the home API server reaches far, which reports a problem",
            "does not accept farlet's credentials (401 no)",
            id="farlet itself answers that it is not healthy",
        ),
        pytest.param(
            web.json_response(
                {"kind": "Status", "message": "tls: failed to verify certificate: x509: unknown"},
                status=503,
            ),
            Outcome.FAILED,
            "tls: failed to verify certificate: x509: unknown",
            "serving certificate",
            id="another certificate",
        ),
    ],
)
async def test_the_fix_for_the_kubelet_port_fits_its_cause(
    tmp_path: Path, answer: web.Response, outcome: Outcome, seen: str, hint: str
) -> None:
    async with _servers(tmp_path) as env:
        env.answers[HEALTHZ] = lambda: answer
        env.answers[REVIEWS] = lambda: web.json_response(_review(allowed=True))
        found = await env.kubelet()
    assert found is not None
    assert (found.outcome, found.seen) == (outcome, seen)
    assert hint in found.hint
    assert "--node-ip" not in found.hint


async def test_farlet_itself_does_not_try_the_proxy_of_its_node(tmp_path: Path) -> None:
    def asked() -> web.Response:
        raise AssertionError("a request that the API server would refuse")

    async with _servers(tmp_path) as env:
        env.answers[HEALTHZ] = asked
        env.answers[REVIEWS] = lambda: web.json_response(_review(allowed=False))
        found = await env.kubelet()
    assert found is not None
    assert found.outcome is Outcome.OK
    assert found.seen.startswith(
        "not checked: only administrators are allowed to check this (get nodes/proxy); run this"
    )


def _review(*, allowed: bool) -> dict[str, Any]:
    return {"kind": "SelfSubjectAccessReview", "status": {"allowed": allowed}}


async def test_nothing_is_reported_about_a_server_that_does_not_answer(tmp_path: Path) -> None:
    async with _servers(tmp_path) as env:
        found = {one.what for one in await servers.findings(env.home, None)}
    assert found == {"home clock"}
