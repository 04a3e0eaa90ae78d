"""The resources of the client: their paths, and the permissions that `rbac.TABLE` lists."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from farlet import rbac
from farlet.client import resources
from farlet.client.resources import Resource

PACKAGE = Path(resources.__file__).parents[1]
VERBS = {
    "get": ["get"],
    "list": ["list"],
    "list_all": ["list"],
    "watch": ["watch"],
    "watch_object": ["watch"],
    "create": ["create"],
    "patch": ["patch"],
    "delete": ["delete"],
    "get_aggregated": ["list"],
    "Reflector": ["list", "watch"],
}
METHODS = {"GET": "get", "POST": "create", "PUT": "update"}
STREAMS: dict[Resource[Any], list[str]] = {
    resources.POD_LOGS: ["get"],
    resources.POD_EXEC: ["get", "create"],
    resources.POD_ATTACH: ["get", "create"],
    resources.POD_PORT_FORWARD: ["get", "create"],
}
"""A caller's protocol decides the method: WebSockets use GET, SPDY uses POST."""
_REFLECTED = ["list", "watch", "create", "update", "delete"]
_COPIED = ["get", *_REFLECTED, "patch"]
BY_VARIABLE: dict[Resource[Any], list[str]] = {
    resources.WHOLE_CONFIG_MAPS: _COPIED,
    resources.WHOLE_SECRETS: _COPIED,
    resources.LEASES: ["get", "create", "update"],
    resources.NODE_STATUS: ["patch"],
    resources.NODES: ["patch"],
    resources.POD_RESIZE: ["patch"],
    resources.SERVICES: _REFLECTED,
    resources.ENDPOINT_SLICES: _REFLECTED,
    resources.ROLE_BINDINGS: ["create"],
    resources.RESOURCE_QUOTAS: ["create"],
    resources.NETWORK_POLICIES: ["create"],
}
"""Requests whose resource or method is a variable: `lease.Lease`, `home_node.HomeNode`, changes of
mirrors, and copies of every kind."""
NO_REQUESTS = {"bind"}
"""Verbs that API servers check beside the request for which a row has them."""


def _all() -> dict[str, Resource[Any]]:
    return {name: one for name, one in vars(resources).items() if isinstance(one, Resource)}


def _key(resource: Resource[Any]) -> tuple[str, str]:
    return resource.group, resource.rbac_name


def _resource_of(node: ast.expr) -> str | None:
    """`resources.PODS` and `resources.PODS.metadata_only`: PODS."""
    if isinstance(node, ast.Attribute) and node.attr == "metadata_only":
        node = node.value
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "resources"
        and node.attr in _all()
    ):
        return node.attr
    return None


@functools.cache
def _requested() -> dict[tuple[str, str], set[str]]:
    """Verbs by group and resource, as the code calls them."""
    verbs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for resource, some in [*STREAMS.items(), *BY_VARIABLE.items()]:
        verbs[_key(resource)].update(some)
    for file in PACKAGE.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "resources." in source else ():
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            for name in filter(None, map(_resource_of, node.args[:2])):
                first = node.args[0]
                if called == "request_unqueued" and isinstance(first, ast.Constant):
                    verbs[_key(_all()[name])].add(METHODS[str(first.value)])
                else:
                    verbs[_key(_all()[name])].update(VERBS.get(called, ()))
    return verbs


def _granted() -> dict[tuple[str, str], set[str]]:
    verbs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rbac.TABLE:
        if row.where is not rbac.Where.URL and not NO_REQUESTS.issuperset(row.verbs):
            verbs[row.group, row.resource].update(row.verbs)
    return verbs


def test_every_resource_has_a_permission_and_every_permission_a_resource() -> None:
    assert {_key(one) for one in _all().values()} == set(_granted())


@pytest.mark.parametrize(
    "resource", sorted(_granted()), ids=lambda key: "/".join(filter(None, key))
)
def test_permissions_have_exactly_the_verbs_that_are_requested(resource: tuple[str, str]) -> None:
    assert _requested()[resource] == _granted()[resource]


@pytest.mark.parametrize(
    ("resource", "namespace", "name", "path"),
    [
        pytest.param(resources.PODS, "shop", "web", "/api/v1/namespaces/shop/pods/web", id="pod"),
        pytest.param(resources.PODS, "", "", "/api/v1/pods", id="pods of all namespaces"),
        pytest.param(
            resources.POD_STATUS, "shop", "web", "/api/v1/namespaces/shop/pods/web/status",
            id="subresource",
        ),
        pytest.param(resources.NODES, "", "far", "/api/v1/nodes/far", id="object of no namespace"),
        pytest.param(
            resources.LEASES, "kube-node-lease", "",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            id="collection of a named group",
        ),
        pytest.param(
            resources.PODS, "shop", "../nodes/far", "/api/v1/namespaces/shop/pods/..%2Fnodes%2Ffar",
            id="name that is not a segment",
        ),
    ],
)  # fmt: skip
def test_paths(resource: Resource[Any], namespace: str, name: str, path: str) -> None:
    assert resource.path(namespace, name) == path


@pytest.mark.parametrize(
    ("given", "query"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({"label_selector": "a.b/c=d"}, "labelSelector=a.b/c%3Dd", id="labels"),
        pytest.param(
            {"field_selector": "metadata.name=x", "limit": 500},
            "fieldSelector=metadata.name%3Dx&limit=500",
            id="fields and a limit",
        ),
    ],
)
def test_queries(given: dict[str, Any], query: str) -> None:
    assert resources.query(**given) == query
