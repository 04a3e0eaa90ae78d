"""While nothing happens, farlet writes only the heartbeat of the node.

This holds even if foreign admission has changed its mirrors.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator

import pytest

import idling
from clusters import rest
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.takes(70)]

IDLE_SECONDS = 60
BEAT_SECONDS = 10
LOOK_SECONDS = 60.0
ALIVE = ("foreign: get configmaps", "foreign: get namespaces")

# Like a service mesh: an additional container, label, annotation, volume and toleration.
INJECTIONS = """[
  JSONPatch{op: "add", path: "/spec/containers/-",
    value: Object.spec.containers{name: "injected", image: "farlet.test/clients:1"}},
  JSONPatch{op: "add", path: "/metadata/labels/injected", value: "yes"},
  JSONPatch{op: "add", path: "/metadata/annotations/injected", value: "yes"},
  JSONPatch{op: "add", path: "/spec/tolerations/-",
    value: Object.spec.tolerations{key: "injected", operator: "Exists"}}
]"""


@contextlib.asynccontextmanager
async def injecting(env: Environment) -> AsyncIterator[None]:
    """Foreign admission that sets limits and injects a container."""
    name = f"inject-{secrets.token_hex(3)}"
    namespace = env.workspace.foreign
    sizes = {"cpu": "1", "memory": "64Mi"}
    limits = {"type": "Container", "default": sizes, "defaultRequest": {"cpu": "10m"}}
    await env.foreign.create(
        "limitranges",
        {"metadata": {"name": "sizes"}, "spec": {"limits": [limits]}},
        namespace=namespace,
    )
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    only = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    await env.foreign.create(
        "mutatingadmissionpolicies",
        {
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [rule], "namespaceSelector": only},
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": INJECTIONS}}],
            },
        },
    )
    await env.foreign.create(
        "mutatingadmissionpolicybindings",
        {"metadata": {"name": name}, "spec": {"policyName": name}},
    )
    await _until_it_injects(env)
    yield
    await env.foreign.delete("mutatingadmissionpolicybindings", name=name)
    await env.foreign.delete("mutatingadmissionpolicies", name=name)


async def _until_it_injects(env: Environment) -> None:
    """Wait until the API server has compiled the policy; before that it has no effect."""
    # With a node name and an account, the pod has the tolerations and the volume to extend.
    probe = manifests.pod("probe", node="nowhere", labels={"a": "b"}, annotations={"a": "b"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        made = await env.foreign.create(
            "pods", probe, namespace=env.workspace.foreign, dryRun="All"
        )
        if len(made["spec"]["containers"]) == 2:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the policy did not take effect in time")


async def test_sixty_idle_seconds_have_no_write_but_heartbeats(
    env: Environment, start_farlet: StartFarlet
) -> None:
    async with injecting(env):
        await start_farlet(env.node)
        await env.create(
            env.pod("home"),
            env.pod("never", restart="Never"),
            env.pod("remote", annotations=manifests.access("remote")),
            env.pod("disabled", annotations=manifests.access("disabled")),
            env.pod("ends", restart="Never", annotations=manifests.finishing("Failed", after="1s")),
            env.pod("refused", annotations={manifests.SUPPORT: "nonsense"}),
            env.pod(
                "waits", annotations={manifests.SUPPORT: "remote", manifests.ACCOUNT: "missing"}
            ),
            env.pod("held", annotations={manifests.HOLD: "yes"}),
        )
        for name in ("home", "never", "remote", "disabled"):
            await env.seen(name, rest.phase("Running"))
        await env.seen("ends", rest.phase("Failed"))
        await env.seen("refused", rest.reason("InvalidAPIServerSupport"))
        await env.seen("waits", rest.reason("ServiceAccountNotFound"))
        await env.mirror("held", rest.exists)
        mirrors = {one["metadata"]["name"]: one for one in (await env.observe()).mirrors}
        for name in ("home", "never", "remote", "disabled", "ends", "held"):
            _was_injected(mirrors[name])
        home = await env.home.get("pods", name="home", namespace=env.workspace.home)
        assert [one["name"] for one in home["status"]["containerStatuses"]] == ["main"]
        seen, idle = await idling.requests(env, seconds=IDLE_SECONDS)
        beats = seen.pop("home: update leases", 0) + seen.pop("home: patch leases", 0)
        assert abs(beats - idle / BEAT_SECONDS) <= 1.5
        # The check of the foreign API server, the foreign namespace, its home namespace, inventory.
        asked = sum(seen.pop(what, 0) for what in ALIVE)
        assert asked <= idle / BEAT_SECONDS + 3 * idle / LOOK_SECONDS + 1
        assert idling.writes(seen) == {}
        assert sum(seen.values()) <= 4  # a watch may end and be reopened


def _was_injected(mirror: rest.Object) -> None:
    spec, metadata = mirror["spec"], mirror["metadata"]
    assert [one["name"] for one in spec["containers"]] == ["main", "injected"]
    assert "cpu" in spec["containers"][0]["resources"]["limits"]
    assert metadata["labels"]["injected"] == metadata["annotations"]["injected"] == "yes"
