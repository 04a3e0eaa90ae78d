"""Foreign namespaces that farlet creates with the first pod and deletes with the home namespace.

farlet has exactly the shipped roles, and the shipped policy limits them in all tests but the first.
It waits seconds in place of minutes before it judges an unused namespace: `sitecustomize` shortens
these times.
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from clusters import identity as identities
from clusters import pair, rest
from clusters import workspace as workspaces
from conftest import StartFarlet
from faults import manifests

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.takes(90),
    pytest.mark.refused("home"),  # a home namespace that farlet cannot read, and one that ends
]

ROOT = Path(__file__).parents[2] / "manifests"
CREATION = "foreign/created-namespaces"
CREATED = "farlet.io/created-namespace"
ENFORCE = "pod-security.kubernetes.io/enforce"
ACCOUNT = "system:serviceaccount:farlet:farlet"
RBAC = "rbac.authorization.k8s.io"
BINDINGS = f"{RBAC}/v1/rolebindings"
SHORT_TIMES = """
from farlet.foreign import namespace
from farlet.home import pods

namespace.IDLE_SECONDS = 1.0
pods.RESYNC_SECONDS = 1.0
"""
DEFAULTS = {
    "labels": {"team": "guests"},
    "podSecurityLevel": "restricted",
    "resourceQuota": {"hard": {"pods": "5"}},
    "networkPolicy": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


def shipped(path: str, user: str) -> list[Any]:
    """The objects of a manifest, for this user in place of the ServiceAccount."""
    objects = list(yaml.safe_load_all((ROOT / path).read_text().replace(ACCOUNT, user)))
    subject = {"kind": "User", "name": user, "apiGroup": RBAC}
    for found in objects:
        if "subjects" in found:
            found["subjects"] = [subject]
    return objects


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def user(clusters: pair.Clusters) -> AsyncIterator[str]:
    """A foreign user with the shipped roles, until the end."""
    name = f"{workspaces.USER}-{secrets.token_hex(3)}"
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": workspaces.FARLET_NAMESPACE},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": workspaces.ROLE},
        "subjects": [{"kind": "User", "name": name, "apiGroup": RBAC}],
    }
    objects = [*shipped(f"{CREATION}/roles.yaml", name), binding]
    async with clusters.foreign.api() as foreign:
        await workspaces.create_farlet_namespace(foreign)
        try:
            clusters.foreign.apply(*objects)
            for resource in ("namespaces", f"{RBAC}/rolebindings"):
                group, _, plural = resource.rpartition("/")
                rule = {"apiGroups": [group], "resources": [plural], "verbs": ["create"]}
                await workspaces.until_allowed(foreign, user=name, namespace="", rule=rule)
            yield name
        finally:
            clusters.foreign.remove(*reversed(objects))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def policy(clusters: pair.Clusters, user: str) -> AsyncIterator[None]:
    """The shipped policy limits the user, until the end."""
    objects = shipped(f"{CREATION}/policy.yaml", user)
    try:
        clusters.foreign.apply(*objects)
        await _until_in_force(clusters, user)
        yield
    finally:
        clusters.foreign.remove(*reversed(objects))


async def _until_in_force(clusters: pair.Clusters, user: str) -> None:
    """Wait until the API server has compiled both policies."""
    async with clusters.foreign.api(login=clusters.foreign.login(user)) as farlet:
        for resource, body, where in (
            ("namespaces", {"metadata": {"name": "probe"}}, {}),
            (BINDINGS, binding(user), {"namespace": "default"}),
        ):
            deadline = time.monotonic() + 120
            while not await denied(farlet, resource, body, **where):
                assert time.monotonic() < deadline, "the policies are still not active"
                await asyncio.sleep(0.1)


async def denied(api: rest.Api, resource: str, body: dict[str, Any], **where: str) -> str | None:
    """What the policy says; `None`: the API server accepts the object, which is not stored."""
    try:
        await api.create(resource, body, dryRun="All", **where)
    except rest.ApiError as error:
        return str(error) if "ValidatingAdmissionPolicy" in str(error) else None
    return None


def binding(user: str, *, name: str = "farlet", role: str = "farlet-offloaded") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": RBAC}],
    }


@dataclass(frozen=True)
class Shop:
    """A home namespace without a foreign one, and a farlet that creates it."""

    home: rest.Api
    foreign: rest.Api
    node: str
    name: str
    foreign_name: str

    async def pod(self, name: str, **spec: Any) -> None:
        """Create a pod as the level `restricted` requires it."""
        made = manifests.pod(
            name,
            node=self.node,
            annotations=manifests.access(manifests.DISABLED),
            container={
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "runAsNonRoot": True,
                    "capabilities": {"drop": ["ALL"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                }
            },
            spec=spec,
        )
        await self.home.create("pods", made, namespace=self.name)

    async def running(self, name: str) -> None:
        await self.home.until(
            "pods", rest.phase("Running"), name=name, namespace=self.name, seconds=120
        )

    async def until_foreign(self, condition: rest.Condition, *, seconds: float = 120) -> Any:
        return await self.foreign.until(
            "namespaces", condition, name=self.foreign_name, seconds=seconds
        )

    async def kept(self) -> list[str]:
        """Messages of Events on the Node about the foreign namespace."""
        return [
            event["message"]
            for event in await self.home.list("events", namespace="default")
            if event["reason"] == "ForeignNamespaceKept" and self.foreign_name in event["message"]
        ]


Start = Callable[[], Awaitable[Shop]]


@pytest.fixture
async def start(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    node: str,
    user: str,
    start_farlet: StartFarlet,
    tmp_path: Path,
) -> AsyncIterator[Start]:
    name = f"t-{secrets.token_hex(4)}"
    shop = Shop(home, foreign, node, name, f"{name}-{workspaces.HOME_NAME}")
    (tmp_path / "sitecustomize.py").write_text(SHORT_TIMES)
    (tmp_path / "defaults.yaml").write_text(json.dumps(DEFAULTS))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {
        "create-namespaces": "true",
        "namespace-defaults": str(tmp_path / "defaults.yaml"),
    }

    async def begin() -> Shop:
        await home.create("namespaces", {"metadata": {"name": name}})
        await home.until("serviceaccounts", rest.exists, name="default", namespace=name)
        await start_farlet(
            node,
            settings=settings,
            foreign_login=clusters.foreign.login(user),
            environment={"PYTHONPATH": path},
        )
        return shop

    yield begin
    for api, namespace in ((home, shop.name), (foreign, shop.foreign_name)):
        if await api.find("namespaces", name=namespace) is not None:
            await api.delete("namespaces", name=namespace)


@pytest.fixture
async def reads_home(
    clusters: pair.Clusters, home: rest.Api, node: str, identity: identities.Identity
) -> AsyncIterator[None]:
    """farlet has the optional role in the home cluster."""
    who = identity.user(node)
    objects = shipped("home/created-namespaces.yaml", who)
    clusters.home.apply(*objects)
    rule = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}
    await workspaces.until_allowed(home, user=who, namespace="", rule=rule)
    yield
    clusters.home.remove(*objects)


async def test_the_shipped_roles_are_enough_to_create_a_namespace(start: Start) -> None:
    """Without the policy, which other tests of this module need."""
    shop = await start()
    await shop.pod("web")
    await shop.running("web")
    for resource in ("resourcequotas", "networking.k8s.io/v1/networkpolicies"):
        found = await shop.foreign.find(resource, name="farlet", namespace=shop.foreign_name)
        assert found is not None, resource


async def test_a_namespace_is_created_with_its_first_pod_and_deleted_with_its_home_namespace(
    policy: None, reads_home: None, start: Start
) -> None:
    shop = await start()
    await shop.pod("refused", hostNetwork=True)
    await shop.home.until(
        "pods", rest.reason("PodFeatureNotAllowed"), name="refused", namespace=shop.name
    )
    assert await shop.foreign.find("namespaces", name=shop.foreign_name) is None

    await shop.pod("web")
    await shop.running("web")
    made = await shop.until_foreign(rest.exists)
    assert made["metadata"]["labels"].items() >= {
        "team": "guests", ENFORCE: "restricted", CREATED: "true"
    }.items()  # fmt: skip
    where = {"namespace": shop.foreign_name}
    quota = await shop.foreign.get("resourcequotas", name="farlet", **where)
    assert quota["spec"] == DEFAULTS["resourceQuota"]
    rules = await shop.foreign.get("networking.k8s.io/v1/networkpolicies", name="farlet", **where)
    assert rules["spec"] == DEFAULTS["networkPolicy"]
    events = await shop.home.list("events", namespace=shop.name)
    waited = [event["reason"] for event in events if event["involvedObject"]["name"] == "web"]
    assert "ForeignForbidden" not in waited
    assert "ForeignNamespaceNotFound" not in waited

    # What others put there keeps it.
    theirs = {"metadata": {"name": "theirs"}, "data": {"a": "b"}}
    await shop.foreign.create("configmaps", theirs, **where)
    await shop.home.delete("namespaces", name=shop.name)
    await shop.home.until("namespaces", rest.gone, name=shop.name, seconds=180)
    await _until(lambda: shop.kept())
    (message,) = await shop.kept()
    assert "configmaps/theirs" in message
    await asyncio.sleep(5)  # several checks
    kept = await shop.until_foreign(rest.exists)
    assert "deletionTimestamp" not in kept["metadata"]
    await shop.foreign.delete("configmaps", name="theirs", **where)
    await shop.until_foreign(rest.gone, seconds=180)
    assert len(await shop.kept()) == 1


async def test_a_namespace_stays_and_is_reported_where_farlet_cannot_read_home_namespaces(
    policy: None, start: Start
) -> None:
    shop = await start()
    await shop.pod("web")
    await shop.running("web")
    await shop.home.delete("namespaces", name=shop.name)
    await shop.home.until("namespaces", rest.gone, name=shop.name, seconds=180)
    await _until(lambda: shop.kept())
    (message,) = await shop.kept()
    assert "kubectl apply -f manifests/home/created-namespaces.yaml" in message
    await asyncio.sleep(5)
    kept = await shop.until_foreign(rest.exists)
    assert "deletionTimestamp" not in kept["metadata"]


async def test_the_policy_allows_nothing_but_the_namespaces_of_farlet(
    policy: None, clusters: pair.Clusters, foreign: rest.Api, user: str
) -> None:
    name = f"t-{secrets.token_hex(4)}"
    labels = {CREATED: "true", ENFORCE: "baseline"}

    def namespace(**labels: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "labels": labels}}

    theirs = f"{name}-theirs"
    await foreign.create("namespaces", {"metadata": {"name": theirs}})
    async with clusters.foreign.api(login=clusters.foreign.login(user)) as farlet:
        only = "only namespaces with the label"
        assert only in str(await denied(farlet, "namespaces", namespace()))
        assert only in str(await denied(farlet, "namespaces", namespace(**{ENFORCE: "baseline"})))
        for level in ({}, {ENFORCE: "privileged"}):
            body = namespace(**{CREATED: "true", **level})
            assert "one of baseline, restricted" in str(await denied(farlet, "namespaces", body))
        with pytest.raises(rest.ApiError, match="can delete only namespaces with the label"):
            await farlet.delete("namespaces", name=theirs)

        await farlet.create("namespaces", namespace(**labels))
        own = {"namespace": name}
        for where, body, text in (
            ({"namespace": theirs}, binding(user), "only in a namespace with the label"),
            ({"namespace": "kube-system"}, binding(user), "only in a namespace with the label"),
            (own, binding(user, name="other"), "only the RoleBinding farlet"),
            (own, binding("system:anonymous"), "only to its own user"),
        ):
            assert text in str(await denied(farlet, BINDINGS, body, **where)), text
        with pytest.raises(rest.ApiError, match="forbidden"):
            await farlet.create(BINDINGS, binding(user, role="cluster-admin"), **own)
        assert await denied(farlet, BINDINGS, binding(user), **own) is None

    # The administrator: neither a namespace with the label, nor the label on one that exists.
    body = {"metadata": {"name": f"{name}-forged", "labels": labels}}
    assert "only farlet can create" in str(await denied(foreign, "namespaces", body))
    with pytest.raises(rest.ApiError, match="no user can add it"):
        await foreign.patch("namespaces", {"metadata": {"labels": labels}}, name=theirs)
    await foreign.patch("namespaces", {"metadata": {"labels": {CREATED: None}}}, name=name)
    for one in (name, theirs):
        await foreign.delete("namespaces", name=one)


async def test_farlet_does_not_start_without_the_permissions_to_create_namespaces(
    node: str, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(node, settings={"create-namespaces": "true"}, ready=False)
    assert await farlet.ended() == 1
    assert "kubectl apply -k manifests/foreign/created-namespaces" in farlet.log


async def _until(check: Callable[[], Awaitable[Any]], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.2)
