"""Mistakes of administrators: each is a failed finding of `farlet check`, with its fix."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from farlet.certs import key_pairs
from farlet.cli import check as checking
from farlet.cli.checks.findings import Outcome
from unit.cli.check_environment import (
    NODES,
    environment,
)

ACCOUNT_AT_HOME = ("system:serviceaccount:farlet:farlet-far",)
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
NAMESPACE_DENIED = (
    'User "system:serviceaccount:farlet:farlet" cannot get resource "namespaces" in API group "" '
    'in the namespace "shop-home"'
)


def _refusal(code: int, message: str) -> web.Response:
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
    home_namespace: dict[str, str] | None = None
    seconds: float = checking.ANSWER_SECONDS
    """How long each API server is asked."""


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
        "into the Secret farlet-NODE-home",
        users={"home": ("system:anonymous", "system:unauthenticated")},
    ),
    "no credentials for home, whose RBAC denies the review": Mistake(
        "home identity",
        "into the Secret farlet-NODE-home",
        refused={
            "home /apis/authentication.k8s.io/v1/selfsubjectreviews": (
                403,
                'selfsubjectreviews is forbidden: User "system:anonymous" cannot create resource',
            )
        },
    ),
    "expired credentials for the foreign cluster": Mistake(
        "foreign identity",
        "into the Secret farlet-far-foreign",
        refused={
            "foreign /apis/authentication.k8s.io/v1/selfsubjectreviews": (401, "Unauthorized")
        },
    ),
    "a foreign token that is not accepted": Mistake(
        "foreign API server",
        "Run: farlet connect --node far (a node without farlet connect: "
        "put a kubeconfig with new credentials into the Secret farlet-far-foreign",
        refused={"foreign /version": (401, "Unauthorized")},
    ),
    "no Role in the foreign system namespace": Mistake(
        "foreign permissions",
        "kubectl apply -f manifests/foreign/farlet-namespace.yaml",
        denied=(("foreign", "patch", "configmaps"),),
    ),
    "no Role in kube-system": Mistake(
        "home permissions",
        "kubectl apply -k manifests/home/nodes/far",
        denied=(("home", "*", "configmaps"),),
    ),
    "no Role in kube-system, of a node of connect": Mistake(
        "home permissions",
        "farlet connect --node far (",
        flags={"foreign_system_namespace": "farlet-far"},
        denied=(("home", "*", "configmaps"),),
    ),
    "no Node authorizer": Mistake(
        "home permissions",
        "--authorization-mode=Node,RBAC",
        denied=(("home", "*", "leases"),),
    ),
    "no ClusterRole for a ServiceAccount": Mistake(
        "home permissions",
        "kubectl apply -k manifests/home/nodes/NODE with the component service-account",
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
    "an unknown capacity of a node of connect": Mistake(
        "capacity",
        "farlet connect --node far (",
        flags={"capacity": "", "foreign_system_namespace": "farlet-far"},
        denied=(("foreign", "watch", "nodes"),),
    ),
    "a capacity that cannot be watched": Mistake(
        "capacity",
        "kubectl apply -f manifests/foreign/capacity.yaml",
        flags={"capacity": ""},
        denied=(("foreign", "watch", "nodes"),),
    ),
    "a Node that farlet must not read": Mistake(
        "Node far", "home permissions", refused={f"home {NODES}/far": (403, "no")}, seconds=3.0
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
    "no Role in the foreign namespace, of a node of connect": Mistake(
        "foreign namespace of shop",
        "--node far --namespace shop (",
        namespaces=("shop",),
        flags={"foreign_system_namespace": "farlet-far"},
        denied=(("foreign", "create", "secrets"),),
    ),
    "a home namespace that does not exist": Mistake(
        "home namespace shop",
        "kubectl create namespace shop",
        namespaces=("shop",),
        refused={"home /api/v1/namespaces/shop": (404, 'namespaces "shop" not found')},
    ),
    "a foreign namespace that does not exist": Mistake(
        "foreign namespace of shop",
        "kubectl create namespace shop-home; kubectl apply -n shop-home",
        namespaces=("shop",),
        refused={
            "foreign /api/v1/namespaces/shop-home": (403, NAMESPACE_DENIED),
        },
    ),
    "no permission to create foreign namespaces": Mistake(
        "creation of namespaces",
        "kubectl apply -k manifests/foreign/created-namespaces",
        flags={"create_namespaces": "true"},
        denied=(("foreign", "create", "rolebindings"),),
    ),
    "a foreign namespace of another home namespace": Mistake(
        "foreign namespace of shop",
        "belongs to the home namespace blog of the home cluster with the id home-9",
        namespaces=("shop",),
        home_namespace={"home-id": "home-9", "home-namespace": "blog"},
    ),
    "no RoleBinding in the home namespace": Mistake(
        "home namespace shop",
        "kubectl create rolebinding farlet-far -n shop --clusterrole farlet-far-pods "
        "--serviceaccount farlet:farlet-far",
        namespaces=("shop",),
        users={"home": ACCOUNT_AT_HOME},
        denied=(("home", "create", "serviceaccounts"),),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
async def test_each_mistake_is_a_failed_finding_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Mistake
) -> None:
    monkeypatch.setattr(checking, "ANSWER_SECONDS", mistake.seconds)
    async with environment(tmp_path) as env:
        env.users |= mistake.users
        env.denied |= set(mistake.denied)
        env.refused |= {where: _refusal(*answer) for where, answer in mistake.refused.items()}
        env.requests += mistake.requests
        env.home_namespace = mistake.home_namespace
        given = {**env.flags, **mistake.flags}
        env.flags = {flag: value for flag, value in given.items() if value}
        found = await env.findings(*mistake.namespaces)
    assert found[mistake.what].outcome is Outcome.FAILED, found
    assert found[mistake.what].hint
    said = f"{found[mistake.what].seen} {found[mistake.what].hint}"
    assert mistake.text in re.sub(r" --(home-|foreign-)?kubeconfig \S+", "", said)
    assert not checking.good(tuple(found.values()))


async def test_a_home_namespace_that_farlet_cannot_read_is_a_warning(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        env.denied = {("home", "get", "namespaces")}
        found = await env.findings(create_namespaces="true")
    one = found["creation of namespaces"]
    assert one.outcome is Outcome.WARNING
    kubectl = f"kubectl --kubeconfig {env.flags['home_kubeconfig']}"
    assert f"{kubectl} apply -f manifests/home/created-namespaces.yaml" in one.hint
    assert found["home permissions"].outcome is Outcome.OK


NAMESPACES = "foreign /api/v1/namespaces"
BINDINGS = "foreign /apis/rbac.authorization.k8s.io/v1/namespaces/farlet/rolebindings"
DENIED = (
    "it is forbidden: ValidatingAdmissionPolicy 'farlet-namespaces' with binding "
    "'farlet-namespaces' denied request: farlet can create only"
)
BY_POLICY = (403, DENIED)
BY_RBAC = (403, 'namespaces is forbidden: User "x" cannot create resource "namespaces"')
POLICIES = {
    "that is in force": ({NAMESPACES: BY_POLICY, BINDINGS: BY_POLICY}, Outcome.OK, "only"),
    "that is missing": ({}, Outcome.WARNING, "farlet can create any namespace"),
    "without the part on RoleBindings": (
        {NAMESPACES: BY_POLICY},
        Outcome.WARNING,
        "RoleBindings in any namespace",
    ),
    "where the name is used": (
        {NAMESPACES: (409, "already exists")},
        Outcome.WARNING,
        "farlet can create any namespace",
    ),
    "that farlet cannot try": ({NAMESPACES: BY_RBAC}, Outcome.WARNING, "not checked: namespaces"),
}


@pytest.mark.parametrize(("answers", "outcome", "seen"), POLICIES.values(), ids=POLICIES)
async def test_a_policy_for_created_namespaces(
    tmp_path: Path, answers: dict[str, tuple[int, str]], outcome: Outcome, seen: str
) -> None:
    async with environment(tmp_path) as env:
        env.refused |= {where: _refusal(*answer) for where, answer in answers.items()}
        found = (await env.findings(create_namespaces="true"))["policy for created namespaces"]
    assert found.outcome is outcome
    assert seen in found.seen
    assert bool(found.hint) is (outcome is not Outcome.OK)


async def test_a_foreign_namespace_that_farlet_will_create_is_no_mistake(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        path = "/api/v1/namespaces/shop-home"
        env.refused[f"foreign {path}"] = _refusal(404, 'namespaces "shop-home" not found')
        found = await env.findings("shop", create_namespaces="true")
    assert found["foreign namespace of shop"].outcome is Outcome.OK
    assert "created when a pod needs it" in found["foreign namespace of shop"].seen
    assert found["creation of namespaces"].outcome is Outcome.OK


async def test_nothing_is_concluded_from_answers_to_a_wrong_identity(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        found = await env.findings("shop", nodename="near")
    failed = {what for what, one in found.items() if one.outcome is Outcome.FAILED}
    assert failed == {"home identity"}
    assert env.reviewed == []


async def test_a_node_is_asked_nothing_about_pods_that_it_does_not_have_yet(tmp_path: Path) -> None:
    async with environment(tmp_path) as env:
        await env.findings("shop")
    reviewed = [(where, one) for where, one in env.reviewed if where == "home"]
    assert "serviceaccounts" not in {one["resource"] for _, one in reviewed}
    of_administrators = {"namespaces", "virtualnodes", "deployments"}
    of_farlet = [one for _, one in reviewed if one["resource"] not in of_administrators]
    assert {one["namespace"] for one in of_farlet} == {
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


async def test_no_foreign_namespace_is_created_for_a_home_namespace_that_does_not_exist(
    tmp_path: Path,
) -> None:
    async with environment(tmp_path) as env:
        env.refused["home /api/v1/namespaces/nope"] = _refusal(404, 'namespaces "nope" not found')
        found = await env.findings("nope", "shop")
    assert found["home namespace nope"].seen == "does not exist"
    assert "foreign namespace of nope" not in found
    assert found["foreign namespace of shop"].outcome is Outcome.OK
