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
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"namespace": "kube-node-lease", "name": "far", "uid": "l"},
    "spec": {"holderIdentity": "far@host"},
}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/far"
HOME[LEASES] = LEASE
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


def _system(uid: str = "c") -> dict[str, Any]:
    """farlet's namespace in the foreign cluster."""
    return {
        "/api/v1/namespaces/farlet": {
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata",
            "metadata": {"name": "farlet", "uid": uid},
        }
    }


async def _explained(
    tmp_path: Path,
    *,
    refused: frozenset[str] = frozenset(),
    pod: Any = POD,
    away: dict[str, Any] | None = None,
) -> tuple[Any, list[tuple[str, str, str]]]:
    seen: list[tuple[str, str, str]] = []
    async with apiserver.listening() as home, apiserver.listening() as foreign:
        known = {**HOME, "/api/v1/namespaces/shop/pods/web": pod}
        home.answer = _answers(known, refused, seen)
        foreign.answer = _answers(_system() if away is None else away, refused, seen)
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
        pytest.param(LEASES, "the Lease of the node", id="the Lease"),
        pytest.param(
            "/api/v1/namespaces/farlet/pods", "what farlet reports of itself", id="farlet"
        ),
        pytest.param(
            "/api/v1/namespaces/farlet",
            "whether this is the foreign cluster of the node",
            id="its identity",
        ),
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
        "disconnect has cordoned it. To let it take pods again: kubectl --kubeconfig "
        f"{tmp_path / 'home'} uncordon far"
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


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        pytest.param(
            _system("other"),
            "its namespace farlet has the uid c, this one has other",
            id="another cluster",
        ),
        pytest.param({}, "this cluster has no namespace farlet, whose uid", id="no such namespace"),
    ],
)
async def test_another_cluster_than_the_recorded_one_is_not_read(
    tmp_path: Path, away: dict[str, Any], expected: str
) -> None:
    found, seen = await _explained(tmp_path, away=away)
    (line,) = found["not_read"]
    assert line.startswith("the foreign namespace, the mirror, foreign Events: ")
    assert expected in line
    assert found["mirror"] == {}
    assert not [path for _, path, _ in seen if path.startswith("/api/v1/namespaces/shop-eu")]


async def _error(tmp_path: Path, *more: str) -> tuple[int, str]:
    """Exit code and error of the command with these flags for the foreign cluster."""
    async with apiserver.listening() as home:
        path = apiserver.kubeconfig(tmp_path / "home", home.url)
        words = ["explain", "shop/web", "--home-kubeconfig", str(path), *more]
        result = await asyncio.to_thread(CliRunner().invoke, main.cli, words)
    assert not result.stdout
    return result.exit_code, result.stderr


async def test_a_foreign_context_that_does_not_exist_is_one_error(tmp_path: Path) -> None:
    code, said = await _error(tmp_path, "--foreign-context", "nope")
    assert (code, said.count("has no context nope")) == (1, 1)


async def test_the_home_cluster_is_not_the_foreign_one(tmp_path: Path) -> None:
    code, said = await _error(tmp_path, "--foreign-kubeconfig", str(tmp_path / "home"))
    assert code == 2
    assert "--foreign-context or --foreign-kubeconfig selects the home cluster" in said
    copy = tmp_path / "copy"
    async with apiserver.listening() as home:
        for path in (tmp_path / "home", copy):
            apiserver.kubeconfig(path, home.url)
        words = ["explain", "shop/web", "--home-kubeconfig", str(tmp_path / "home")]
        words += ["--foreign-kubeconfig", str(copy)]
        result = await asyncio.to_thread(CliRunner().invoke, main.cli, words)
    assert (result.exit_code, result.stderr.count("selects the home cluster")) == (2, 1)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("shop/web",), id="NAMESPACE/POD"),
        pytest.param(("web", "-n", "shop"), id="POD -n NAMESPACE"),
        pytest.param(("pod/web", "--namespace", "shop"), id="pod/POD"),
        pytest.param(("shop/web", "-n", "shop"), id="both"),
    ],
)
async def test_a_pod_is_named_as_for_kubectl(tmp_path: Path, words: tuple[str, ...]) -> None:
    async with apiserver.listening() as home:
        home.answer = _answers(HOME, frozenset(), [])
        path = apiserver.kubeconfig(tmp_path / "home", home.url)
        command = ("explain", *words, "--home-kubeconfig", str(path), "-o", "json")
        result = await asyncio.to_thread(CliRunner().invoke, main.cli, command)
    assert json.loads(result.stdout)["pod"] == "shop/web"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(("shop/web", "-n", "blog"), "leave one out", id="two namespaces"),
        pytest.param(("shop/pod/web",), "is not a pod; expected POD or NAMESPACE/POD", id="three"),
        pytest.param(("web", "-n", "UP"), "is not a pod; expected", id="no name of a namespace"),
    ],
)
def test_what_is_not_a_pod_is_refused(words: tuple[str, ...], expected: str) -> None:
    result = CliRunner().invoke(main.cli, ["explain", *words])
    assert result.exit_code == 2
    assert expected in result.stderr
