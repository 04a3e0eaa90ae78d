"""A foreign namespace shared with the farlet of another node or home cluster, or with other users.

Each farlet has its own foreign user, so that the foreign audit log shows who did what.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator

import pytest

from clusters import auditlog, rest
from clusters import farlet as farlets
from clusters import workspace as workspaces
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment

pytestmark = pytest.mark.clusters


@dataclasses.dataclass(frozen=True)
class Tenant:
    """One farlet, its home namespace, and its foreign user."""

    env: Environment
    farlet: farlets.Farlet
    user: str

    async def running(self, *names: str) -> None:
        await self.env.create(*(self.env.pod(name) for name in names))
        await asyncio.gather(*(self.env.seen(name, rest.phase("Running")) for name in names))


@pytest.fixture(params=["two nodes", "two homes"])
async def tenants(
    request: pytest.FixtureRequest, env: Environment, start_farlet: StartFarlet
) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """Two farlets whose home namespaces share one foreign namespace: the first's."""
    two_homes = request.param == "two homes"
    more = await workspaces.create(env.home, env.foreign)
    shared = env.workspace.foreign
    # Virtual nodes of two home clusters can have the same name; those of one cannot.
    node = f"virtual-{secrets.token_hex(3)}"
    second = dataclasses.replace(
        env, node=node, workspace=dataclasses.replace(more, foreign=shared)
    )
    made = []
    for number, one in enumerate((env, second)):
        user = f"farlet-{number}-{secrets.token_hex(2)}"
        for namespace in (shared, workspaces.FARLET_NAMESPACE):
            await _bind(one.foreign, namespace=namespace, user=user)
        settings: dict[str, str | None] = {"namespace-map": f"{one.workspace.home}={shared}"}
        if two_homes:
            settings["home-id"] = f"home-{number}"
        farlet = await start_farlet(
            one.node, settings=settings, foreign_login=one.clusters.foreign.login(user)
        )
        made.append(Tenant(one, farlet, user))
    yield made[0], made[1]
    await env.home.delete("nodes", name=node)
    await workspaces.delete(env.home, env.foreign, more)


async def _bind(foreign: rest.Api, *, namespace: str, user: str) -> None:
    body = {
        "metadata": {"name": user},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": workspaces.ROLE,
        },
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await foreign.create("rolebindings", body, namespace=namespace)
    await workspaces.until_allowed(
        foreign,
        user=user,
        namespace=namespace,
        rule={"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    )


async def test_two_farlets_never_touch_each_others_pods(tenants: tuple[Tenant, Tenant]) -> None:
    one, two = tenants
    began = one.env.clusters.foreign.audit_mark()
    await one.running("same", "mine")
    await two.running("other")
    await two.env.create(two.env.pod("same", restart="Never"))
    await two.env.seen("same", rest.reason("NameConflict"))
    before = await _mirrors(one.env)
    assert sorted(before) == ["mine", "other", "same"]
    owners = {
        name: mirror["metadata"]["labels"][manifests.OWNER] for name, mirror in before.items()
    }
    assert owners["mine"] == owners["same"] != owners["other"]

    for tenant in tenants:
        await tenant.farlet.restart()
    await two.env.delete("other")
    await two.env.seen("other", rest.gone)
    two.farlet.kill()
    await one.env.delete("mine")
    await one.env.seen("mine", rest.gone)
    two.farlet.start()
    await two.farlet.ready()
    await asyncio.sleep(2)
    after = await _mirrors(one.env)
    assert {name: manifests.uid(mirror) for name, mirror in after.items()} == {
        "same": manifests.uid(before["same"])
    }

    await one.env.delete("same")
    await one.env.seen("same", rest.gone)
    await two.env.seen("same", rest.phase("Running"))
    secrets_left = (await two.env.observe()).secrets
    assert len(secrets_left) == 1
    _touched_only(one, began, {"same", "mine"})
    _touched_only(two, began, {"same", "other"})
    assert [entry.code for entry in _writes(two, began) if entry.name == "same"].count(201) == 1


def _touched_only(tenant: Tenant, began: auditlog.Mark, names: set[str]) -> None:
    pods = {entry.name for entry in _writes(tenant, began) if entry.resource == "pods"}
    assert pods <= names, tenant.user
    deleted = [
        entry
        for entry in _writes(tenant, began)
        if entry.verb.startswith("delete") and entry.resource != "pods"
    ]
    assert deleted == [], tenant.user


def _writes(tenant: Tenant, began: auditlog.Mark) -> list[auditlog.Entry]:
    return [
        entry
        for entry in tenant.env.clusters.foreign.audit(since=began, user=tenant.user)
        if entry.verb not in {"get", "list", "watch"}
    ]


async def _mirrors(env: Environment) -> dict[str, rest.Object]:
    return {mirror["metadata"]["name"]: mirror for mirror in (await env.observe()).mirrors}


# --- others in the same namespace ----------------------------------------------------------------


async def test_a_replica_set_and_a_service_that_select_a_mirror_change_nothing(
    env: Environment, start_farlet: StartFarlet
) -> None:
    labels = {"app": "shop"}
    namespace = env.workspace.foreign
    await start_farlet(env.node)
    await env.create(env.pod("shop", labels=labels))
    before = (await env.settled()).mirrors[0]
    theirs = manifests.pod("unused", node="", labels=labels)
    del theirs["spec"]["nodeName"], theirs["metadata"]["name"]
    await env.foreign.create(
        "replicasets",
        {
            "metadata": {"name": "shop"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": theirs},
        },
        namespace=namespace,
    )
    await env.foreign.create(
        "services",
        {"metadata": {"name": "shop"}, "spec": {"selector": labels, "ports": [{"port": 80}]}},
        namespace=namespace,
    )
    await env.foreign.until(
        "replicasets",
        lambda seen: seen is not None and seen["status"].get("readyReplicas") == 1,
        name="shop",
        namespace=namespace,
    )
    pods = await env.foreign.list("pods", namespace=namespace, labelSelector="app=shop")
    assert len(pods) == 2  # it has created its own
    await env.foreign.patch(
        "replicasets", {"spec": {"replicas": 0}}, name="shop", namespace=namespace
    )
    await env.foreign.until(
        "replicasets",
        lambda seen: seen is not None and seen["status"].get("replicas", 0) == 0,
        name="shop",
        namespace=namespace,
    )
    await env.foreign.delete("replicasets", name="shop", namespace=namespace)
    after = (await env.settled()).mirrors[0]
    assert manifests.uid(after) == manifests.uid(before)
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]


@pytest.fixture
async def other_node(env: Environment) -> AsyncIterator[str]:
    """A Node of the home cluster that no farlet serves."""
    name = f"virtual-{secrets.token_hex(3)}"
    await asyncio.to_thread(env.clusters.home.create_virtual_node, name)
    yield name
    await env.home.delete("nodes", name=name)


async def test_forged_labels_and_annotations_of_foreign_pods_change_nothing_in_the_home_cluster(
    env: Environment, start_farlet: StartFarlet, other_node: str
) -> None:
    namespace = env.workspace.foreign
    await start_farlet(env.node)
    await env.create(
        env.pod("victim"),
        env.pod("aside", restart="Never", annotations=manifests.access("disabled")),
    )
    # Bound to another node, so farlet ignores it.
    elsewhere = env.pod("elsewhere")
    elsewhere["spec"]["nodeName"] = other_node
    await env.create(elsewhere)
    before = await _home(env)
    real = await env.foreign.get("pods", name="victim", namespace=namespace)
    began = env.clusters.home.audit_mark()

    for name, about in (("forged", "victim"), ("elsewhere", "elsewhere"), ("third", "aside")):
        forged = manifests.pod(
            name,
            node="",
            restart="Never",
            labels=real["metadata"]["labels"],
            annotations={
                **real["metadata"]["annotations"],
                **manifests.finishing("Failed", after="0ms"),
                "farlet.io/home-namespace": env.workspace.home,
                "farlet.io/home-name": about,
                manifests.HOME_UID: manifests.uid(before[about]),
            },
        )
        del forged["spec"]["nodeName"]
        await env.foreign.create("pods", forged, namespace=namespace)
    for key, value in {
        manifests.HOME_UID: manifests.uid(before["elsewhere"]),
        "farlet.io/home-name": "elsewhere",
        "farlet.io/home-namespace": "kube-system",
        "farlet.io/api-access": "home",
        manifests.TOKENS: "[1, 2",
        "farlet.io/restarts": '{"main": 99}',
    }.items():
        body = {"metadata": {"annotations": {key: value}}}
        await env.foreign.patch("pods", body, name="aside", namespace=namespace)
    await asyncio.sleep(4)

    after = await _home(env)
    assert {name: _visible(pod) for name, pod in after.items()} == {
        name: _visible(pod) for name, pod in before.items()
    }
    tokens = [
        entry
        for entry in env.clusters.home.audit(since=began, user=env.user)
        if entry.subresource == "token"
    ]
    assert tokens == []


async def _home(env: Environment) -> dict[str, rest.Object]:
    """The home pods, once those of farlet's node run."""
    for name in ("victim", "aside"):
        await env.seen(name, rest.phase("Running"))
    pods = await env.home.list("pods", namespace=env.workspace.home)
    return {pod["metadata"]["name"]: pod for pod in pods}


def _visible(pod: rest.Object) -> tuple[object, ...]:
    status = pod["status"]
    return (
        manifests.uid(pod),
        manifests.state(pod),
        [(one["restartCount"], one["state"]) for one in status.get("containerStatuses", ())],
        "deletionTimestamp" in pod["metadata"],
    )
