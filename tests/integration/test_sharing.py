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

pytestmark = [pytest.mark.clusters, pytest.mark.takes(140)]


@dataclasses.dataclass(frozen=True)
class Tenant:
    """One farlet, its home namespace, and its foreign user."""

    env: Environment
    farlet: farlets.Farlet
    user: str

    async def running(self, *names: str) -> None:
        await self.env.create(*(self.env.pod(name) for name in names))
        await asyncio.gather(*(self.env.seen(name, rest.phase("Running")) for name in names))


@pytest.fixture
async def nodes(
    env: Environment, start_farlet: StartFarlet
) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """Two virtual nodes that run pods of one home namespace in one foreign namespace."""
    second = dataclasses.replace(env, node=f"virtual-{secrets.token_hex(3)}")
    one = await _tenant(env, start_farlet, shared=env.workspace.foreign)
    two = await _tenant(second, start_farlet, shared=env.workspace.foreign)
    yield one, two
    await env.home.delete("nodes", name=second.node)


@pytest.fixture(params=["another home namespace", "another home cluster"])
async def homes(
    request: pytest.FixtureRequest, env: Environment, start_farlet: StartFarlet
) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """Two farlets whose home namespaces have one foreign namespace: the first one's."""
    more = await workspaces.create(env.home, env.foreign)
    shared = env.workspace.foreign
    two_homes = request.param == "another home cluster"
    second = dataclasses.replace(
        env,
        node=f"virtual-{secrets.token_hex(3)}",
        workspace=dataclasses.replace(more, foreign=shared),
    )
    one = await _tenant(env, start_farlet, shared=shared)
    await one.running("same")
    home_id = "another-home" if two_homes else None
    yield one, await _tenant(second, start_farlet, shared=shared, home_id=home_id)
    await env.home.delete("nodes", name=second.node)
    await workspaces.delete(env.home, env.foreign, more)


async def _tenant(
    env: Environment, start_farlet: StartFarlet, *, shared: str, home_id: str | None = None
) -> Tenant:
    user = f"farlet-{secrets.token_hex(3)}"
    for namespace in (shared, workspaces.FARLET_NAMESPACE):
        await _bind(env.foreign, namespace=namespace, user=user)
    settings: dict[str, str | None] = {"namespace-map": f"{env.workspace.home}={shared}"}
    if home_id is not None:
        settings["home-id"] = home_id
    farlet = await start_farlet(
        env.node, settings=settings, foreign_login=env.clusters.foreign.login(user)
    )
    return Tenant(env, farlet, user)


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
        rule={"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    )


async def test_two_nodes_never_touch_each_others_pods(nodes: tuple[Tenant, Tenant]) -> None:
    one, two = nodes
    began = one.env.clusters.foreign.audit_mark()
    await one.running("kept", "mine")
    await two.running("other")
    before = await _mirrors(one.env)
    assert sorted(before) == ["kept", "mine", "other"]
    owners = {
        name: mirror["metadata"]["labels"][manifests.OWNER] for name, mirror in before.items()
    }
    assert owners["mine"] == owners["kept"] != owners["other"]

    for tenant in nodes:
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
        "kept": manifests.uid(before["kept"])
    }
    _touched_only(one, began, {"kept", "mine"})
    _touched_only(two, began, {"other"})


async def test_a_foreign_namespace_belongs_to_one_home_namespace(
    homes: tuple[Tenant, Tenant],
) -> None:
    one, two = homes
    began = one.env.clusters.foreign.audit_mark()
    before = await _mirrors(one.env)
    await two.env.create(two.env.pod("same", restart="Never"), two.env.pod("leaves"))
    waiting = await two.env.seen("same", rest.reason("ForeignNamespaceInUse"))
    assert one.env.workspace.home in waiting["status"]["message"]
    await two.env.delete("leaves")
    await two.env.seen("leaves", rest.gone)
    after = await _mirrors(one.env)
    assert {name: manifests.uid(mirror) for name, mirror in after.items()} == {
        "same": manifests.uid(before["same"])
    }
    shared = one.env.workspace.foreign
    assert [entry for entry in _writes(two, began) if entry.namespace == shared] == []

    await one.env.delete("same")
    await one.env.seen("same", rest.gone)
    await one.env.foreign.delete("configmaps", name="farlet-home-namespace", namespace=shared)
    await two.env.seen("same", rest.phase("Running"))


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
