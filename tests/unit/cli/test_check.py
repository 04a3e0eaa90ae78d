"""What `farlet check` finds, and how it tells it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from farlet import constants, errors, settings
from farlet.certs import key_pairs
from farlet.cli import check as checking
from farlet.cli import main
from farlet.cli.checks.findings import Finding, Outcome
from farlet.constants import GATEWAY_SELECTOR
from farlet.gateway import keys
from farlet.settings import loading
from unit import certificates
from unit.homeapi.discovery import stage
from unit.reconcile import apiserver

USUAL = ("kubernetes", "kubernetes.default.svc", "10.96.0.1")
ADDRESS = "home API for foreign pods"

MIXED = (
    Finding("one", Outcome.OK, "v1.33.1"),
    Finding("the other", Outcome.FAILED, "no\nanswer", "look\nthere"),
)


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
    term: str | None = None
    """Of the inventory, if it exists."""
    review: dict[str, Any] = field(default_factory=dict)
    """The home API server's answer about the foreign token."""
    users: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(NODE_AND_ACCOUNT))
    """Name and groups of farlet, for the home and the foreign API server."""
    denied: set[tuple[str, str, str]] = field(default_factory=set)
    """What access reviews deny: cluster, verb or *, and resource."""
    reviewed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Access reviews: the cluster, and what was asked."""
    refused: dict[str, web.StreamResponse] = field(default_factory=dict)
    """Other answers than the usual ones, by cluster and path."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """CertificateSigningRequests."""
    claim: dict[str, str] | None = None
    """The data of the claim of the foreign namespace, if it exists."""

    async def findings(self, *namespaces: str, **flags: str) -> dict[str, Finding]:
        wanted = loading.load(settings.Settings, {**self.flags, **flags})
        found = await checking.findings(wanted, namespaces)
        assert len({one.what for one in found}) == len(found)
        return {one.what: one for one in found}

    async def reviews(self, cluster: str, request: web.Request) -> web.StreamResponse | None:
        """The answer to a review of farlet itself, and to what a test refuses."""
        if (refused := self.refused.get(f"{cluster} {request.path}")) is not None:
            return refused
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
        if request.path.endswith("/certificatesigningrequests"):
            assert request.query["watch"] == "1"
            lines = [json.dumps({"type": "ADDED", "object": one}) + "\n" for one in self.requests]
            return web.Response(text="".join(lines), content_type="application/json")
        return None


async def version(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"gitVersion": "v1.33.1"})


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
            return web.json_response({"kind": "Node", "metadata": metadata})
        if request.path.startswith("/api/v1/namespaces/farlet/"):
            return await missing(request)
        return await version(request)

    async def answer(request: web.Request) -> web.StreamResponse:
        if (answered := await made.reviews("foreign", request)) is not None:
            return answered
        if request.path == "/version":
            return await version(request)
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
        if request.path.endswith(f"/configmaps/{constants.CLAIM}"):
            if made.claim is None:
                return await missing(request)
            return web.json_response(
                {"kind": "ConfigMap", "metadata": {"name": "claim", "uid": "c"}, "data": made.claim}
            )
        if "/configmaps/" in request.path:
            if made.term is None:
                return await missing(request)
            annotations = {constants.TERM: made.term}
            metadata = {"name": "inventory", "uid": "i", "annotations": annotations}
            return web.json_response(
                {"kind": "ConfigMap", "metadata": metadata, "data": {"shop-home": "shop"}}
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


async def test_all_is_well(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings("shop")
    assert {one.outcome for one in found.values()} == {Outcome.OK}, found
    assert found["home identity"].seen == "system:node:far"
    assert found["foreign namespace of shop"].seen == "shop-home, not used yet"
    (pods,) = [
        asked
        for where, asked in env.reviewed
        if (where, asked["verb"], asked["resource"]) == ("home", "list", "pods")
    ]
    assert pods["fieldSelector"] == {"rawSelector": "spec.nodeName=far"}
    assert found["home API server"].seen.startswith("v1.33.1 at https://127.0.0.1:")
    assert found[ADDRESS].seen == "kubernetes.default.svc:443 at 10.96.3.4"
    assert ", ".join(USUAL) in found["certificate at that address"].seen
    assert checking.good(tuple(found.values()))
    assert env.foreign.received == b""


def _no_service(env: Environment) -> dict[str, str]:
    env.foreign.service = None
    return {}


def _another_ca(env: Environment) -> dict[str, str]:
    env.foreign.present(*USUAL, ca=certificates.authority("another CA"))
    return {}


def _no_ready_pod(env: Environment) -> dict[str, str]:
    env.foreign.pods = []
    return {}


def _forbidden(env: Environment) -> dict[str, str]:
    env.foreign.forbids = stage.SERVICES
    return {}


def _dead(side: str) -> Callable[[Environment], dict[str, str]]:
    def flags(env: Environment) -> dict[str, str]:
        path = apiserver.kubeconfig(env.folder / "dead", "http://127.0.0.1:1")
        return {f"{side}_kubeconfig": str(path)}

    return flags


def _garbage(env: Environment) -> dict[str, str]:
    (env.folder / "garbage").write_text("}{ no yaml")
    return {"foreign_kubeconfig": str(env.folder / "garbage")}


def _no_keys(env: Environment) -> dict[str, str]:
    (env.folder / "keys").mkdir()
    return {"gateway_keys": str(env.folder / "keys")}


def _no_gateway(env: Environment) -> dict[str, str]:
    own, _ = keys.write(env.folder / "keys")
    return {"gateway_keys": str(own)}


def _evicted(env: Environment) -> dict[str, str]:
    env.gateways.append({**stage.pod("evicted"), "status": {"phase": "Failed"}})
    return _no_gateway(env)


def _no_ready_pod_and_no_gateway(env: Environment) -> dict[str, str]:
    return {**_no_ready_pod(env), **_no_gateway(env)}


@pytest.mark.parametrize(
    ("wrong", "what", "text"),
    [
        pytest.param(_no_service, ADDRESS, "apply manifests/foreign/gateway", id="no Service"),
        pytest.param(_another_ca, ADDRESS, "not signed by the home CA", id="another CA"),
        pytest.param(_no_ready_pod, ADDRESS, "no pod behind", id="no pod behind the Service"),
        pytest.param(_forbidden, ADDRESS, "manifests/foreign", id="no right to see the Service"),
        pytest.param(_dead("home"), "home API server", "--home-kubeconfig", id="a dead home"),
        pytest.param(_dead("foreign"), "foreign API server", "--foreign-k", id="a dead foreign"),
        pytest.param(_dead("foreign"), ADDRESS, "foreign API server", id="and no way to ask it"),
        pytest.param(_garbage, "foreign API server", "garbage", id="a kubeconfig of garbage"),
        pytest.param(_no_keys, "gateway keys", "gateway-keys", id="no keys"),
        pytest.param(_no_gateway, "gateways", "manifests/foreign/gateway", id="no gateway"),
        pytest.param(_evicted, "gateways", "no running pod", id="none that runs"),
        pytest.param(
            _no_ready_pod_and_no_gateway, ADDRESS, "no pod behind", id="no pod and no gateway"
        ),
    ],
)
async def test_what_is_wrong_is_found_and_says_what_to_do(
    tmp_path: Path, wrong: Callable[[Environment], dict[str, str]], what: str, text: str
) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings(**wrong(env))
    assert found[what].outcome is Outcome.FAILED
    assert found[what].hint
    assert text in f"{found[what].seen} {found[what].hint}"
    assert not checking.good(tuple(found.values()))


ACCOUNT_AT_HOME = ("system:serviceaccount:farlet:farlet-far",)
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
NODES = "/api/v1/nodes"
NAMESPACE_DENIED = (
    'User "system:serviceaccount:farlet:farlet" cannot get resource "namespaces" in API group "" '
    'in the namespace "shop-home"'
)


def _refusal(code: int, message: str) -> web.StreamResponse:
    body = {"kind": "Status", "code": code, "message": message, "reason": "Forbidden"}
    return web.json_response(body, status=code)


def _csr(
    name: str, created: str, *conditions: str, node: str = "far", user: str = "system:node:far"
) -> dict[str, Any]:
    pem = key_pairs.request(key_pairs.new_key(), node=node, addresses=["192.0.2.1"])
    status = {"conditions": [{"type": one, "message": "because"} for one in conditions]}
    return {
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"username": user, "request": base64.b64encode(pem).decode()},
        "status": status,
    }


@dataclass(frozen=True)
class Mistake:
    """What is wrong, the check that finds it, and what its finding contains."""

    what: str
    text: str
    flags: dict[str, str] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()
    users: dict[str, tuple[str, ...]] = field(default_factory=dict)
    denied: tuple[tuple[str, str, str], ...] = ()
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: tuple[dict[str, Any], ...] = ()
    claim: dict[str, str] | None = None


MISTAKES = {
    "the certificate of another node": Mistake(
        "home identity",
        "the certificate is of system:node:far, but --nodename is near: set FARLET_NODENAME=far, "
        "or create a certificate for near",
        flags={"nodename": "near"},
    ),
    "a certificate without the group of nodes": Mistake(
        "home identity",
        "/O=system:nodes/CN=system:node:far",
        users={"home": ("system:node:far", "system:authenticated")},
    ),
    "no credentials for home": Mistake(
        "home identity",
        "into the Secret farlet-home",
        users={"home": ("system:anonymous", "system:unauthenticated")},
    ),
    "no credentials for home, whose RBAC denies the review": Mistake(
        "home identity",
        "into the Secret farlet-home",
        refused={
            "home /apis/authentication.k8s.io/v1/selfsubjectreviews": (
                403,
                'selfsubjectreviews is forbidden: User "system:anonymous" cannot create resource',
            )
        },
    ),
    "expired credentials for the foreign cluster": Mistake(
        "foreign identity",
        "into the Secret farlet-foreign",
        refused={
            "foreign /apis/authentication.k8s.io/v1/selfsubjectreviews": (401, "Unauthorized")
        },
    ),
    "no Role in the foreign system namespace": Mistake(
        "foreign permissions",
        "kubectl apply -f manifests/foreign/farlet-namespace.yaml",
        denied=(("foreign", "patch", "configmaps"),),
    ),
    "no Role in kube-system": Mistake(
        "home permissions",
        "kubectl apply -k manifests/home/node-identity",
        denied=(("home", "*", "configmaps"),),
    ),
    "no Node authorizer": Mistake(
        "home permissions",
        "--authorization-mode=Node,RBAC",
        denied=(("home", "*", "leases"),),
    ),
    "no ClusterRole for a ServiceAccount": Mistake(
        "home permissions",
        "kubectl apply -k manifests/home/service-account",
        users={"home": ACCOUNT_AT_HOME},
        denied=(("home", "create", "tokenreviews"),),
    ),
    "no permission for a Lease with a name of its own": Mistake(
        "home permissions",
        "create leases.coordination.k8s.io in kube-node-lease; create leases.coordination.k8s.io",
        flags={"leader_elect": "true", "leader_elect_lease": "farlet/lock"},
        users={"home": ACCOUNT_AT_HOME},
        denied=(("home", "create", "leases"),),
    ),
    "an unknown capacity": Mistake(
        "capacity",
        "kubectl apply -f manifests/foreign/capacity.yaml",
        flags={"capacity": ""},
        refused={f"foreign {NODES}": (403, "nodes is forbidden")},
    ),
    "a capacity that cannot be watched": Mistake(
        "capacity",
        "kubectl apply -f manifests/foreign/capacity.yaml",
        flags={"capacity": ""},
        denied=(("foreign", "watch", "nodes"),),
    ),
    "a Node that farlet must not read": Mistake(
        "Node far", "home permissions", refused={f"home {NODES}/far": (403, "no")}
    ),
    "a serving certificate without an approval": Mistake(
        "serving certificate",
        "kubectl certificate approve csr-2",
        requests=(
            _csr("csr-2", "2026-01-02T00:00:00Z"),
            _csr("csr-1", "2026-01-01T00:00:00Z", "Approved"),
            _csr("csr-3", "2026-01-03T00:00:00Z", "Approved", node="near"),
            _csr("csr-4", "2026-01-04T00:00:00Z", "Approved", user="system:node:near"),
        ),
    ),
    "a serving certificate that was denied": Mistake(
        "serving certificate",
        "kubectl delete csr csr-1",
        requests=(_csr("csr-1", "2026-01-01T00:00:00Z", "Denied"),),
    ),
    "no permission to watch its requests": Mistake(
        "serving certificate",
        "home permissions",
        refused={f"home {CSRS}": (403, "certificatesigningrequests is forbidden")},
    ),
    "a namespace that is not offloaded": Mistake(
        "foreign namespace of shop",
        "--namespace-map shop=NAME",
        namespaces=("shop",),
        flags={"foreign_namespace_template": "none"},
    ),
    "no Role in the foreign namespace": Mistake(
        "foreign namespace of shop",
        "kubectl apply -n shop-home -f manifests/foreign/offloaded-namespace.yaml",
        namespaces=("shop",),
        denied=(("foreign", "create", "secrets"),),
    ),
    "a foreign namespace that does not exist": Mistake(
        "foreign namespace of shop",
        "kubectl create namespace shop-home; kubectl apply -n shop-home",
        namespaces=("shop",),
        refused={
            "foreign /api/v1/namespaces/shop-home": (403, NAMESPACE_DENIED),
        },
    ),
    "a foreign namespace of another home namespace": Mistake(
        "foreign namespace of shop",
        "belongs to the home namespace blog of the home cluster with the id home-9",
        namespaces=("shop",),
        claim={"home-id": "home-9", "home-namespace": "blog"},
    ),
    "no RoleBinding in the home namespace": Mistake(
        "home namespace shop",
        "kubectl create rolebinding farlet -n shop --clusterrole farlet-pods --serviceaccount "
        "farlet:farlet-far",
        namespaces=("shop",),
        users={"home": ACCOUNT_AT_HOME},
        denied=(("home", "create", "serviceaccounts"),),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
async def test_each_mistake_is_a_failed_finding_with_its_fix(
    tmp_path: Path, mistake: Mistake
) -> None:
    async with environment(tmp_path) as env:
        env.users |= mistake.users
        env.denied |= set(mistake.denied)
        env.refused |= {where: _refusal(*answer) for where, answer in mistake.refused.items()}
        env.requests += mistake.requests
        env.claim = mistake.claim
        given = {**env.flags, **mistake.flags}
        env.flags = {flag: value for flag, value in given.items() if value}
        found = await env.findings(*mistake.namespaces)
    assert found[mistake.what].outcome is Outcome.FAILED, found
    assert found[mistake.what].hint
    assert mistake.text in f"{found[mistake.what].seen} {found[mistake.what].hint}"
    assert not checking.good(tuple(found.values()))


async def test_nothing_is_concluded_from_answers_to_a_wrong_identity(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings("shop", nodename="near")
    failed = {what for what, one in found.items() if one.outcome is Outcome.FAILED}
    assert failed == {"home identity"}
    assert env.reviewed == []


async def test_a_node_is_asked_nothing_about_pods_that_it_does_not_have_yet(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        await env.findings("shop")
    asked = {one["resource"] for where, one in env.reviewed if where == "home"}
    assert "serviceaccounts" not in asked
    assert {one["namespace"] for where, one in env.reviewed if where == "home"} == {
        "",
        "default",
        "kube-node-lease",
        "kube-system",
    }


async def test_reviews_that_are_not_allowed_are_not_taken_for_permissions(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        env.refused[f"home {path}"] = _refusal(403, "no")
        found = await env.findings()
    assert found["home permissions"].outcome is Outcome.FAILED
    assert "system:basic-user" in found["home permissions"].hint


async def test_settings_decide_what_is_required(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        env.denied = {("home", "*", name) for name in ("subjectaccessreviews", "configmaps")}
        env.denied |= {("home", "create", "certificatesigningrequests")}
        found = await env.findings(kubelet_bind_address="0")
    assert found["home permissions"].outcome is Outcome.OK
    assert "serving certificate" not in found


RECORDED = {
    constants.FOREIGN_CLUSTER: "cluster-a",
    constants.HOME_CLUSTER: "home-1",
    constants.TERM: "t1",
}
FOREIGN = "foreign cluster"


@pytest.mark.parametrize(
    ("node", "term", "adopt", "outcome", "text"),
    [
        pytest.param(None, None, None, Outcome.OK, "not recorded yet", id="a new node"),
        pytest.param(RECORDED, "t1", None, Outcome.OK, "as the Node records", id="the same"),
        pytest.param(
            RECORDED | {constants.FOREIGN_CLUSTER: "cluster-b"},
            "t1",
            None,
            Outcome.FAILED,
            "--adopt-foreign-cluster=cluster-a.",
            id="another cluster",
        ),
        pytest.param(
            RECORDED,
            "t9",
            None,
            Outcome.FAILED,
            "--adopt-foreign-cluster=cluster-a/t9",
            id="a clone of home",
        ),
        pytest.param(
            RECORDED,
            "t9",
            "cluster-a/t9",
            Outcome.WARNING,
            "Never become Failed with reason MirrorLost",
            id="a clone that is adopted",
        ),
    ],
)
async def test_the_foreign_cluster_is_compared_with_the_record(
    tmp_path: Path,
    node: dict[str, str] | None,
    term: str | None,
    adopt: str | None,
    outcome: Outcome,
    text: str,
) -> None:
    async with environment(tmp_path) as env:
        env.node, env.term = node, term
        found = await env.findings(**({} if adopt is None else {"adopt_foreign_cluster": adopt}))
    assert found[FOREIGN].outcome is outcome
    assert text in f"{found[FOREIGN].seen} {found[FOREIGN].hint}"


ACCOUNT = "system:serviceaccount:farlet:farlet"


@pytest.mark.parametrize(
    ("authenticated", "user", "same"),
    [
        pytest.param(True, ACCOUNT, True, id="its ServiceAccount"),
        pytest.param(False, ACCOUNT, False, id="a token that home rejects"),
        pytest.param(True, "alice@example.org", False, id="a user of a shared issuer"),
    ],
)
async def test_home_as_foreign_cluster_is_found_by_the_token(
    tmp_path: Path, authenticated: bool, user: str, same: bool
) -> None:
    async with environment(tmp_path) as env:
        env.review = {"authenticated": authenticated, "user": {"username": user}}
        found = await env.findings()
    assert (found[FOREIGN].outcome is Outcome.FAILED) is same
    assert ("the foreign cluster is the home cluster" in found[FOREIGN].seen) is same
    assert "first" not in found[FOREIGN].seen.split()


async def test_home_as_foreign_cluster_is_found_by_server_and_ca(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        copied = tmp_path / "copied"
        shutil.copy(env.flags["home_kubeconfig"], copied)
        found = await env.findings(foreign_kubeconfig=str(copied))
    assert found[FOREIGN].outcome is Outcome.FAILED
    assert "the same CA" in found[FOREIGN].seen


async def test_an_address_that_only_pods_may_reach_is_a_warning(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings(home_api_server_host="127.0.0.1", home_api_server_port="1")
    assert found[ADDRESS].outcome is Outcome.WARNING
    assert "connection refused" in found[ADDRESS].hint
    assert "--image=curlimages/curl -- -kv https://127.0.0.1:1" in found[ADDRESS].hint
    assert "certificate at that address" not in found
    assert checking.good(tuple(found.values()))


async def test_an_address_where_each_pod_meets_itself_is_a_warning(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        pair = certificates.issue(
            env.foreign.ca, user="api", uses=(certificates.SERVER,), hosts=("127.0.0.1",)
        )
        tls = certificates.server_context(pair, tmp_path / "here-tls")
        async with apiserver.listening(tls) as here:
            port = here.url.rpartition(":")[2]
            found = await env.findings(home_api_server_host="127.0.0.1", home_api_server_port=port)
    assert found[ADDRESS].outcome is Outcome.WARNING
    assert "each pod reaches itself" in found[ADDRESS].hint
    assert found["certificate at that address"].outcome is Outcome.OK


async def test_a_home_that_is_lost_meanwhile_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "ANSWER_SECONDS", 2.0)

    async def lost(request: web.Request) -> web.StreamResponse:
        return await (version if request.path == "/version" else apiserver.status(503))(request)

    async with environment(tmp_path) as env, apiserver.listening() as at_home:
        at_home.answer = lost
        env.flags.pop("home_id")
        path = apiserver.kubeconfig(tmp_path / "lost", at_home.url)
        async with asyncio.timeout(20):
            found = await env.findings(home_kubeconfig=str(path))
    assert found[ADDRESS].outcome is Outcome.FAILED
    assert "503" in found[ADDRESS].hint


def test_the_table_has_a_line_for_each_and_what_to_do_below() -> None:
    assert checking.table(MIXED) == (
        "CHECK      RESULT  SEEN\n"
        "one        ok      v1.33.1\n"
        "the other  failed  no answer\n"
        "                   > look there\n"
    )


def test_programs_get_json() -> None:
    assert json.loads(checking.to_json(MIXED)) == {
        "ok": False,
        "checks": [
            {"what": "one", "outcome": "ok", "seen": "v1.33.1", "hint": ""},
            {
                "what": "the other",
                "outcome": "failed",
                "seen": "no\nanswer",
                "hint": "look\nthere",
            },
        ],
    }


@pytest.mark.parametrize(
    ("result", "code"),
    [
        pytest.param(MIXED[:1], 0, id="all is well"),
        pytest.param((Finding("one", Outcome.WARNING, "", "look"),), 0, id="a warning"),
        pytest.param(MIXED, 1, id="something failed"),
        pytest.param(errors.UsageError("the same credentials"), 2, id="wrong usage"),
        pytest.param(KeyboardInterrupt(), 130, id="interrupted"),
    ],
)
def test_the_exit_code_tells(
    monkeypatch: pytest.MonkeyPatch, result: tuple[Finding, ...] | BaseException, code: int
) -> None:
    def check(_wanted: settings.Settings, _offloaded: tuple[str, ...]) -> tuple[Finding, ...]:
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(checking, "check", check)
    arguments = ["check", "--nodename", "far", "--foreign-kubeconfig", "/dev/null", "-o", "json"]
    answer = CliRunner().invoke(main.cli, arguments)
    assert answer.exit_code == code, answer.output
