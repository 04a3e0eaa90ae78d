"""The source of settings that the command line of `farlet check` does not contain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from farlet import errors
from farlet.cli.checks import declared
from farlet.settings import Settings
from unit.reconcile import apiserver

PATH = "/apis/farlet.io/v1alpha1/namespaces/farlet/virtualnodes/far"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
NODE: dict[str, Any] = {
    "kind": "VirtualNode",
    "metadata": {"namespace": "farlet", "name": "far", "uid": "v"},
    "spec": {
        "foreign": {"systemNamespace": "farlet-far"},
        "namespaces": {"homeName": "eu"},
        "extraArgs": [
            "--drain-timeout=2h",
            "--keep-labels=a.example/",
            "--keep-labels=b.example/",
            "--leader-elect-lease=farlet/far",
        ],
    },
}


async def _settings(
    tmp_path: Path, found: dict[str, Any] | None, *, allowed: bool = True, **flags: str
) -> Settings:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == REVIEWS:
            attributes = (await request.json())["spec"]["resourceAttributes"]
            assert (attributes["verb"], attributes["resource"]) == ("get", "virtualnodes")
            review = {"kind": "SelfSubjectAccessReview", "status": {"allowed": allowed}}
            return web.json_response(review)
        assert allowed, request.path
        if request.path == PATH and found is not None:
            return web.json_response(found)
        return await apiserver.status(404)(request)

    async with apiserver.listening() as home:
        home.answer = answer
        path = apiserver.kubeconfig(tmp_path / "both", home.url)
        given = {"home_kubeconfig": str(path), "nodename": "far", **flags}
        return await asyncio.to_thread(declared.settings, given)


async def test_a_virtual_node_declares_what_is_not_given(tmp_path: Path) -> None:
    found = await _settings(tmp_path, NODE, foreign_context="f", home_name="us")
    assert found.foreign_system_namespace == "farlet-far"
    assert found.home_name == "us"
    assert found.drain_timeout == 7200
    assert found.keep_labels == ("a.example/", "b.example/")
    assert found.leader_elect, "as the manager starts it"


async def test_the_file_and_the_environment_take_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("foreign-system-namespace: other\n")
    monkeypatch.setenv("FARLET_HOME_NAME", "us")
    found = await _settings(tmp_path, NODE, foreign_context="f", config=str(tmp_path / "c.yaml"))
    assert (found.foreign_system_namespace, found.home_name) == ("other", "us")


async def test_credentials_of_farlet_read_no_virtual_node(tmp_path: Path) -> None:
    found = await _settings(tmp_path, NODE, allowed=False, foreign_context="f")
    assert found.foreign_system_namespace == "farlet"


async def test_contexts_of_one_kubeconfig_suffice(tmp_path: Path) -> None:
    found = await _settings(tmp_path, None, foreign_context="f")
    assert found.foreign_kubeconfig == found.home_kubeconfig
    assert found.foreign_system_namespace == "farlet"


async def test_a_default_kubeconfig_is_read_as_kubectl_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with apiserver.listening() as home:
        home.answer = apiserver.status(404)
        path = apiserver.kubeconfig(tmp_path / "both", home.url)
        given = f"{path}:{tmp_path / 'missing'}"
        monkeypatch.setenv("KUBECONFIG", given)
        flags = {"nodename": "far", "foreign_context": "f"}
        found = await asyncio.to_thread(declared.settings, flags)
    assert str(found.foreign_kubeconfig) == given


async def test_without_a_foreign_context_a_foreign_kubeconfig_is_required(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="--foreign-kubeconfig"):
        await _settings(tmp_path, None)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({**NODE, "spec": {"replicas": "many"}}, id="fields of a later version"),
        pytest.param({"kind": "VirtualNode", "metadata": {}}, id="no name"),
    ],
)
async def test_a_virtual_node_that_cannot_be_read_changes_nothing(
    tmp_path: Path, found: dict[str, Any]
) -> None:
    settings = await _settings(tmp_path, found, foreign_context="f")
    assert settings.foreign_system_namespace == "farlet"
