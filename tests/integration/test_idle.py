"""While nothing happens farlet writes nothing but the node's heartbeat.

Whatever foreign admission made of its mirrors.
"""

import asyncio
import collections
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from clusters import rest
from clusters import workspace as workspaces
from clusters.cluster import Cluster
from conftest import StartFarlet
from faults import manifests
from faults.stage import Stage

pytestmark = pytest.mark.clusters

IDLE_SECONDS = 60
BEAT_SECONDS = 10
LOOK_SECONDS = 60.0
QUIET_SECONDS = 3.0
ALIVE = "foreign: get configmaps"
READS = {"get", "list", "watch"}

# What a service mesh does: a container, a label, an annotation, a volume, a toleration more.
INJECTIONS = """[
  JSONPatch{op: "add", path: "/spec/containers/-",
    value: Object.spec.containers{name: "injected", image: "farlet.test/clients:1"}},
  JSONPatch{op: "add", path: "/metadata/labels/injected", value: "yes"},
  JSONPatch{op: "add", path: "/metadata/annotations/injected", value: "yes"},
  JSONPatch{op: "add", path: "/spec/tolerations/-",
    value: Object.spec.tolerations{key: "injected", operator: "Exists"}}
]"""


@contextlib.asynccontextmanager
async def injecting(stage: Stage) -> AsyncIterator[None]:
    """Foreign admission limits every container and injects another."""
    name = f"inject-{secrets.token_hex(3)}"
    namespace = stage.workspace.foreign
    sizes = {"cpu": "1", "memory": "64Mi"}
    limits = {"type": "Container", "default": sizes, "defaultRequest": {"cpu": "10m"}}
    await stage.foreign.create(
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
    await stage.foreign.create(
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
    await stage.foreign.create(
        "mutatingadmissionpolicybindings",
        {"metadata": {"name": name}, "spec": {"policyName": name}},
    )
    await _until_it_injects(stage)
    yield
    await stage.foreign.delete("mutatingadmissionpolicybindings", name=name)
    await stage.foreign.delete("mutatingadmissionpolicies", name=name)


async def _until_it_injects(stage: Stage) -> None:
    """A policy counts only once the API server has compiled it."""
    # A node name brings the tolerations, and an account the volume, that are added to.
    probe = manifests.pod("probe", node="nowhere", labels={"a": "b"}, annotations={"a": "b"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        made = await stage.foreign.create(
            "pods", probe, namespace=stage.workspace.foreign, dryRun="All"
        )
        if len(made["spec"]["containers"]) == 2:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the policy never came into force")


async def test_sixty_idle_seconds_see_no_write_but_heartbeats(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    async with injecting(stage):
        await start_farlet(stage.node)
        await stage.create(
            stage.pod("home"),
            stage.pod("never", restart="Never"),
            stage.pod("remote", annotations=manifests.access("remote")),
            stage.pod("disabled", annotations=manifests.access("disabled")),
            stage.pod(
                "ends", restart="Never", annotations=manifests.finishing("Failed", after="1s")
            ),
            stage.pod("refused", annotations={manifests.SUPPORT: "nonsense"}),
            stage.pod(
                "waits", annotations={manifests.SUPPORT: "remote", manifests.ACCOUNT: "nobody"}
            ),
            stage.pod("held", annotations={manifests.HOLD: "yes"}),
        )
        for name in ("home", "never", "remote", "disabled"):
            await stage.seen(name, rest.phase("Running"))
        await stage.seen("ends", rest.phase("Failed"))
        await stage.seen("refused", rest.reason("InvalidAPIServerSupport"))
        await stage.seen("waits", rest.reason("ServiceAccountNotFound"))
        await stage.mirror("held", rest.exists)
        mirrors = {one["metadata"]["name"]: one for one in (await stage.sight()).mirrors}
        for name in ("home", "never", "remote", "disabled", "ends", "held"):
            _was_injected(mirrors[name])
        home = await stage.home.get("pods", name="home", namespace=stage.workspace.home)
        assert [one["name"] for one in home["status"]["containerStatuses"]] == ["main"]
        sides = (stage.clusters.home, stage.clusters.foreign)
        users = (stage.user, workspaces.USER)
        await _until_quiet(sides, users)

        marks = [side.audit_mark() for side in sides]
        began = time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        idle = time.monotonic() - began
        seen = collections.Counter(
            f"{side.name}: {entry.verb} {entry.resource}"
            for side, user, mark in zip(sides, users, marks, strict=True)
            for entry in side.audit(since=mark, user=user)
        )
        print(f"requests in {idle:.1f} idle seconds: {dict(seen)}")
        beats = seen.pop("home: update leases", 0) + seen.pop("home: patch leases", 0)
        assert abs(beats - idle / BEAT_SECONDS) <= 1.5
        # Whether the foreign API server is there; the anchor of the namespace, and the registry.
        asked = seen.pop(ALIVE, 0)
        assert asked <= idle / BEAT_SECONDS + 2 * idle / LOOK_SECONDS + 1
        writes = {what: count for what, count in seen.items() if what.split()[1] not in READS}
        assert writes == {}
        assert sum(seen.values()) <= 4  # a watch may end and begin again


async def _until_quiet(sides: Sequence[Cluster], users: Sequence[str]) -> None:
    """Return once farlet has written nothing but heartbeats for a while, if it ever does not."""
    for _ in range(20):
        marks = [side.audit_mark() for side in sides]
        await asyncio.sleep(QUIET_SECONDS)
        written = [
            entry
            for side, user, mark in zip(sides, users, marks, strict=True)
            for entry in side.audit(since=mark, user=user)
            if entry.verb not in READS and entry.resource != "leases"
        ]
        if not written:
            return


def _was_injected(mirror: rest.Object) -> None:
    spec, metadata = mirror["spec"], mirror["metadata"]
    assert [one["name"] for one in spec["containers"]] == ["main", "injected"]
    assert "cpu" in spec["containers"][0]["resources"]["limits"]
    assert metadata["labels"]["injected"] == metadata["annotations"]["injected"] == "yes"
