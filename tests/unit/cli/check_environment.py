"""Two API servers and the settings of a farlet between them, for the tests of `farlet check`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from farlet import constants, settings
from farlet.cli import check as checking
from farlet.cli.checks.findings import Finding
from farlet.constants import GATEWAY_SELECTOR
from farlet.settings import loading
from unit import certificates
from unit.homeapi.discovery import stage
from unit.reconcile import apiserver

USUAL = ("kubernetes", "kubernetes.default.svc", "10.96.0.1")
ADDRESS = "home API for foreign pods"
NODES = "/api/v1/nodes"

NODE_AND_ACCOUNT = {
    "home": ("system:node:far", "system:nodes"),
    "foreign": ("system:serviceaccount:farlet:farlet", "system:serviceaccounts"),
}


@dataclass
class Environment:
    """Two API servers, and the settings of a farlet between them."""

    folder: Path
    foreign: stage.ForeignCluster
    flags: dict[str, str]
    gateways: list[dict[str, Any]] = field(default_factory=list)
    node: dict[str, str] | None = None
    """Annotations of the Node, if it exists."""
    cordoned: bool = False
    """Whether the Node is."""
    term: str | None = None
    """Of the inventory, if it exists."""
    namespaces: dict[str, str] = field(default_factory=lambda: {"shop-home": "shop"})
    """In the inventory: foreign namespaces and their home namespaces."""
    review: dict[str, Any] = field(default_factory=dict)
    """The home API server's answer about the foreign token."""
    users: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(NODE_AND_ACCOUNT))
    """Name and groups of farlet, for the home and the foreign API server."""
    denied: set[tuple[str, str, str]] = field(default_factory=set)
    """What access reviews deny: cluster or a user that is not the caller, verb or *, resource."""
    subjects: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    """Users about whom others ask, by cluster and name, with their groups."""
    reviewed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Access reviews: the cluster, and what was asked."""
    refused: dict[str, web.Response] = field(default_factory=dict)
    """Other answers than the usual ones, by cluster and path."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """CertificateSigningRequests."""
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Objects in farlet's namespace of the home cluster, by path; there is nothing else in it."""
    pods: list[dict[str, Any]] = field(default_factory=list)
    """The pods of the node in that namespace."""
    managers: list[dict[str, Any]] = field(default_factory=list)
    """The pods of the manager there."""
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Tokens that the foreign API server accepts, with name and groups of their users."""
    shown: list[str] = field(default_factory=list)
    """Tokens that it reviewed."""
    home_namespace: dict[str, str] | None = None
    """The data of the ConfigMap that names the home namespace, if it exists."""

    async def findings(self, *namespaces: str, **flags: str) -> dict[str, Finding]:
        wanted = loading.load(settings.Settings, {**self.flags, **flags})
        found = await checking.findings(wanted, namespaces)
        assert len({one.what for one in found}) == len(found)
        return {one.what: one for one in found}

    def reviewed_token(self, token: str) -> dict[str, Any]:
        """What the foreign API server says about a token."""
        self.shown.append(token)
        if token not in self.tokens:
            return {"error": "invalid bearer token"}
        name, *groups = self.tokens[token]
        return {"authenticated": True, "user": {"username": name, "groups": groups}}

    async def reviews(self, cluster: str, request: web.Request) -> web.StreamResponse | None:
        """The answer to a review of farlet itself, and to what a test refuses."""
        if (refused := self.refused.get(f"{cluster} {request.path}")) is not None:
            # An answer can be sent only once.
            return web.Response(
                body=refused.body, status=refused.status, content_type=refused.content_type
            )
        if request.path.endswith("/selfsubjectreviews"):
            name, *groups = self.users[cluster]
            info = {"username": name, "groups": groups}
            return web.json_response({"kind": "SelfSubjectReview", "status": {"userInfo": info}})
        if request.path.endswith("/selfsubjectaccessreviews"):
            asked = (await request.json())["spec"]["resourceAttributes"]
            self.reviewed.append((cluster, asked))
            denied = {(cluster, verb, asked["resource"]) for verb in (asked["verb"], "*")}
            status = {"allowed": not denied & self.denied}
            return web.json_response({"kind": "SelfSubjectAccessReview", "status": status})
        if request.path.endswith("/subjectaccessreviews"):
            spec = (await request.json())["spec"]
            asked = spec["resourceAttributes"]
            self.subjects[cluster, spec["user"]] = frozenset(spec["groups"])
            denied = {(spec["user"], verb, asked["resource"]) for verb in (asked["verb"], "*")}
            status = {"allowed": not denied & self.denied}
            return web.json_response({"kind": "SubjectAccessReview", "status": status})
        if request.path.endswith("/certificatesigningrequests"):
            assert request.query["watch"] == "1"
            lines = [json.dumps({"type": "ADDED", "object": one}) + "\n" for one in self.requests]
            return web.Response(text="".join(lines), content_type="application/json")
        return None


async def _object(made: Environment, request: web.Request) -> web.StreamResponse:
    if (found := made.objects.get(request.path)) is not None:
        return web.json_response(found)
    if request.path.endswith("/pods"):
        instances = "app.kubernetes.io/instance=" in request.query.get("labelSelector", "")
        return web.json_response(
            {
                "kind": "PodList",
                "metadata": {"resourceVersion": "1"},
                "items": made.pods if instances else made.managers,
            }
        )
    return await apiserver.status(404)(request)


async def version(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"gitVersion": "v1.36.3"})


@contextlib.asynccontextmanager
async def environment(folder: Path) -> AsyncIterator[Environment]:
    foreign = stage.ForeignCluster(
        folder, certificates.authority("home CA"), service=stage.service()
    )
    foreign.present(*USUAL)
    (folder / "ca.crt").write_text(foreign.ca.pem)

    gateways: list[dict[str, Any]] = []
    missing = apiserver.status(404)

    async def at_home_answer(request: web.Request) -> web.StreamResponse:
        if (answered := await made.reviews("home", request)) is not None:
            return answered
        if request.path.endswith("/tokenreviews"):
            return web.json_response({"kind": "TokenReview", "status": made.review})
        if request.path.startswith(f"{NODES}/"):
            if made.node is None:
                return await missing(request)
            labels = {"type": "virtual-kubelet"}
            metadata = {"name": "far", "uid": "n", "labels": labels, "annotations": made.node}
            spec = {"unschedulable": True} if made.cordoned else {}
            return web.json_response({"kind": "Node", "metadata": metadata, "spec": spec})
        if "/namespaces/farlet/" in request.path:
            return await _object(made, request)
        return await version(request)

    async def answer(request: web.Request) -> web.StreamResponse:
        if (answered := await made.reviews("foreign", request)) is not None:
            return answered
        if request.path == "/version":
            return await version(request)
        if request.path.endswith("/tokenreviews"):
            token = (await request.json())["spec"]["token"]
            return web.json_response({"kind": "TokenReview", "status": made.reviewed_token(token)})
        if request.query.get("dryRun") == "All":
            return web.json_response(await request.json(), status=201)
        if request.query.get("labelSelector") == GATEWAY_SELECTOR:
            return web.json_response(
                {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": gateways}
            )
        if request.path == "/api/v1/namespaces/farlet":
            return web.json_response(
                {"kind": "Namespace", "metadata": {"name": "farlet", "uid": "cluster-a"}}
            )
        if request.path == "/api/v1/namespaces/shop-home":
            return web.json_response(
                {"kind": "Namespace", "metadata": {"name": "shop-home", "uid": "shop-1"}}
            )
        if request.path.endswith(f"/configmaps/{constants.HOME_NAMESPACE_CONFIG_MAP}"):
            if made.home_namespace is None:
                return await missing(request)
            return web.json_response(
                {
                    "kind": "ConfigMap",
                    "metadata": {"name": "home-namespace", "uid": "c"},
                    "data": made.home_namespace,
                }
            )
        if "/configmaps/" in request.path:
            if made.term is None:
                return await missing(request)
            annotations = {constants.TERM: made.term}
            metadata = {"name": "inventory", "uid": "i", "annotations": annotations}
            return web.json_response(
                {"kind": "ConfigMap", "metadata": metadata, "data": made.namespaces}
            )
        return await foreign.answer(request)

    # Over TLS, as gateways lead to no other.
    pair = certificates.issue(
        foreign.ca, user="home", uses=(certificates.SERVER,), hosts=(*USUAL, "127.0.0.1")
    )
    tls = certificates.server_context(pair, folder / "home-tls")
    async with apiserver.listening() as front, apiserver.listening(tls) as at_home:
        front.answer, at_home.answer = answer, at_home_answer
        trusted: dict[str, Any] = {"certificate-authority": str(folder / "ca.crt")}
        flags = {
            "nodename": "far",
            "home_id": "home-1",
            "home_kubeconfig": str(apiserver.kubeconfig(folder / "home", at_home.url, **trusted)),
            "foreign_kubeconfig": str(apiserver.kubeconfig(folder / "far", front.url)),
            "home_api_server_ca_file": str(folder / "ca.crt"),
            "node_ip": "192.0.2.1",
            "home_name": "home",
            "capacity": "cpu=8,memory=32Gi,pods=110",
        }
        made = Environment(folder, foreign, flags, gateways)
        yield made
