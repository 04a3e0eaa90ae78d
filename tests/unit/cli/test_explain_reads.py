"""Which requests `farlet explain` sends, and that a refused one hides nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from farlet.cli import main
from farlet.client import resources
from unit.reconcile import apiserver

POD: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"namespace": "shop", "name": "web", "uid": "h"},
    "spec": {
        "nodeName": "far",
        "containers": [
            {
                "name": "app",
                "image": "x",
                "envFrom": [
                    {"secretRef": {"name": "key"}},
                    {"configMapRef": {"name": "settings"}},
                ],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    },
    "status": {"phase": "Pending"},
}
CLAIM = {
    "kind": "PersistentVolumeClaim",
    "metadata": {"namespace": "shop", "name": "data", "uid": "c"},
    "spec": {},
    "status": {"phase": "Bound"},
}
NODE = {
    "kind": "Node",
    "metadata": {
        "name": "far",
        "uid": "n",
        "annotations": {
            "farlet.io/foreign-cluster-uid": "c",
            "farlet.io/home-cluster-id": "home-id",
        },
    },
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
DECLARED = {
    "kind": "VirtualNode",
    "metadata": {"namespace": "farlet", "name": "far", "uid": "v"},
    "spec": {"namespaces": {"homeName": "eu"}},
}
HOME = {
    "/api/v1/namespaces/shop/pods/web": POD,
    "/api/v1/nodes/far": NODE,
    "/api/v1/namespaces/shop/persistentvolumeclaims/data": CLAIM,
    "/api/v1/namespaces/shop/configmaps/settings": {
        "kind": "PartialObjectMetadata",
        "metadata": {"namespace": "shop", "name": "settings", "uid": "s"},
    },
    "/apis/farlet.io/v1alpha1/namespaces/farlet/virtualnodes/far": DECLARED,
}
VIRTUAL_NODES = "/apis/farlet.io/v1alpha1/namespaces/farlet/virtualnodes"
DENIED = (
    "farlet is not allowed to patch pods/status in the home namespace shop, so its pods stay "
    "Pending. In the home cluster: kubectl create rolebinding farlet-far -n shop"
)
SECRET = "/api/v1/namespaces/shop/secrets/key"


def _event(message: str) -> dict[str, Any]:
    metadata = {"namespace": "default", "name": "far.1", "uid": "e"}
    about = {"kind": "Node", "name": "far", "uid": "far"}
    return {"metadata": metadata, "involvedObject": about, "message": message}


def _answers(
    known: dict[str, Any], refused: frozenset[str], seen: list[tuple[str, str, str]]
) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, request.headers.get("Accept", "")))
        if request.path in refused:
            return await apiserver.status(403)(request)
        if request.path in known:
            return web.json_response(known[request.path])
        lists = {"/api/v1/nodes": [CORDONED], VIRTUAL_NODES: [DECLARED]}
        if request.path.endswith("/events") or request.path in lists:
            items = lists.get(request.path, [])
            if request.path == "/api/v1/namespaces/default/events":
                assert "HomeNamespaceForbidden" in request.query["fieldSelector"]
                items = [_event(DENIED.replace("shop", "other")), _event(DENIED)]
            metadata = {"resourceVersion": "1"}
            return web.json_response({"kind": "List", "metadata": metadata, "items": items})
        return await apiserver.status(404)(request)

    return answer


async def _explained(
    tmp_path: Path, *, refused: frozenset[str] = frozenset(), pod: Any = POD
) -> tuple[Any, list[tuple[str, str, str]]]:
    seen: list[tuple[str, str, str]] = []
    async with apiserver.listening() as home, apiserver.listening() as foreign:
        known = {**HOME, "/api/v1/namespaces/shop/pods/web": pod}
        home.answer = _answers(known, refused, seen)
        foreign.answer = _answers({}, refused, seen)
        words = ["explain", "shop/web", "-o", "json"]
        for name, front in (("home", home), ("foreign", foreign)):
            path = apiserver.kubeconfig(tmp_path / name, front.url)
            words += [f"--{name}-kubeconfig", str(path)]
        result = await asyncio.to_thread(CliRunner().invoke, main.cli, words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), seen


async def test_both_clusters_are_read_and_nothing_of_the_content_of_secrets(
    tmp_path: Path,
) -> None:
    found, seen = await _explained(tmp_path)
    states = {one["name"]: one["state"] for one in found["requirements"]}
    assert states == {"key": "missing", "settings": "ok", "data": "ok"}
    assert found["mirror"] == {"namespace": "shop-eu, which does not exist", "pod": "none"}
    assert found["not_read"] == []
    assert {method for method, _, _ in seen} == {"GET"}
    contents = [accept for _, path, accept in seen if "/secrets/" in path or "/configmaps/" in path]
    assert set(contents) == {resources.METADATA}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/api/v1/nodes/far", "the Node far", id="the Node"),
        pytest.param("/api/v1/namespaces/shop/events", "home Events", id="home Events"),
        pytest.param("/api/v1/namespaces/shop-eu/events", "foreign Events", id="foreign Events"),
        pytest.param("/api/v1/namespaces/shop-eu/pods/web", "the mirror", id="the mirror"),
        pytest.param("/api/v1/namespaces/shop-eu", "the foreign namespace", id="the namespace"),
    ],
)
async def test_what_may_not_be_read_is_named_and_the_rest_is_shown(
    tmp_path: Path, path: str, expected: str
) -> None:
    found, _ = await _explained(tmp_path, refused=frozenset({path}))
    reason = "these credentials are not allowed to read it (403)"
    assert found["not_read"] == [f"{expected}: {reason}"]
    assert len(found["requirements"]) == 3


async def test_an_object_that_may_not_be_read_is_not_missing(tmp_path: Path) -> None:
    found, _ = await _explained(tmp_path, refused=frozenset({SECRET}))
    states = {one["name"]: one["state"] for one in found["requirements"]}
    assert states["key"] == "unknown"
    assert not any("Create Secret" in line for line in found["advice"])


async def test_the_address_for_pods_that_only_farlet_knows_is_no_cause(tmp_path: Path) -> None:
    found, _ = await _explained(tmp_path)
    assert found["home"]["access mode"] == "home"


CORDONED = {
    **NODE,
    "metadata": {**NODE["metadata"], "labels": {"type": "virtual-kubelet"}},  # type: ignore[dict-item]
    "spec": {"unschedulable": True},
}


async def test_a_pod_without_a_node_is_explained_by_the_virtual_nodes(tmp_path: Path) -> None:
    unbound = {**POD, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    found, seen = await _explained(tmp_path, pod=unbound)
    assert found["advice"][0] == (
        "The Node far takes no new pods: an administrator, a drain or an unfinished farlet "
        "disconnect has cordoned it. To let it take pods again: kubectl uncordon far"
    )
    listed = [path for _, path, _ in seen if path in {"/api/v1/nodes", VIRTUAL_NODES}]
    assert sorted(listed) == ["/api/v1/nodes", VIRTUAL_NODES]


async def test_an_event_of_the_node_explains_a_pod_that_shows_nothing(tmp_path: Path) -> None:
    found, _ = await _explained(tmp_path)
    assert found["advice"][0] == f"HomeNamespaceForbidden: {DENIED}"


async def test_the_foreign_namespace_of_a_pod_without_a_node_is_not_guessed(tmp_path: Path) -> None:
    unbound = {**POD, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    found, _ = await _explained(tmp_path, pod=unbound)
    assert found["mirror"] == {}
    assert found["home"]["access mode"] == "home"
    assert not any("NotConfigured" in text for text in found["home"].values())
