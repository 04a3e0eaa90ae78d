"""The shipped policy keeps DaemonSets off virtual nodes, and changes nothing else in them."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from clusters import images, pair, rest
from clusters.workspace import Workspace

POLICY = Path(__file__).parents[2] / "manifests" / "home" / "daemonset-policy.yaml"
ALLOWED = "farlet.io/on-virtual-nodes"
OFF = {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]}
ARCH = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}
GPU = {"key": "gpu", "operator": "Exists"}
HERE = {"key": "metadata.name", "operator": "In", "values": ["here"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = {
    "preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [GPU]}}
    ]
}
NOT_TOGETHER = {"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone", "labelSelector": {}}]}}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def policy(clusters: pair.Clusters) -> AsyncIterator[None]:
    """The policy, active in the home cluster until the end."""
    objects = list(yaml.safe_load_all(POLICY.read_text()))
    for found in objects:
        if found["kind"] == "MutatingAdmissionPolicy":
            found["spec"]["failurePolicy"] = "Fail"  # an error in it must be visible
    clusters.home.apply(*objects)
    async with clusters.home.api() as home:
        await _until_in_force(home)
        yield
        clusters.home.remove(*reversed(objects))
        await _until_in_force(home, in_force=False)


async def _until_in_force(home: rest.Api, *, in_force: bool = True) -> None:
    """Wait until the API server has compiled the policy, or has seen its deletion."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        made = await home.create("daemonsets", daemonset(), namespace="default", dryRun="All")
        if bool(affinity(made)) is in_force:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"the policy is still {'in' if in_force else ''}active")


def daemonset(
    name: str = "agent", *, affinity: Any = None, allowed: str | None = None
) -> dict[str, Any]:
    labels = {"app": name}
    pod: dict[str, Any] = {
        "containers": [{"name": "main", "image": images.CLIENTS, "command": ["sleep", "inf"]}],
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
    }
    if affinity is not None:
        pod["affinity"] = affinity
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "annotations": {} if allowed is None else {ALLOWED: allowed}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def affinity(made: rest.Object) -> Any:
    return made["spec"]["template"]["spec"].get("affinity")


def terms(*each: dict[str, Any]) -> dict[str, Any]:
    return {REQUIRED: {"nodeSelectorTerms": list(each)}}


KEPT_OFF = {"nodeAffinity": terms({"matchExpressions": [OFF]})}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "none": (None, KEPT_OFF),
    "an empty one": ({}, KEPT_OFF),
    "an empty one of nodes": ({"nodeAffinity": {}}, KEPT_OFF),
    "only a preference": (
        {"nodeAffinity": PREFERRED},
        {"nodeAffinity": KEPT_OFF["nodeAffinity"] | PREFERRED},
    ),
    "only to pods": (NOT_TOGETHER, KEPT_OFF | NOT_TOGETHER),
    "one term": (
        {"nodeAffinity": terms({"matchExpressions": [ARCH]}) | PREFERRED},
        {"nodeAffinity": terms({"matchExpressions": [ARCH, OFF]}) | PREFERRED},
    ),
    "a term with fields": (
        {"nodeAffinity": terms({"matchFields": [HERE]})},
        {"nodeAffinity": terms({"matchExpressions": [OFF], "matchFields": [HERE]})},
    ),
    "alternatives": (
        {
            "nodeAffinity": terms(
                {"matchExpressions": [ARCH], "matchFields": [HERE]}, {"matchExpressions": [GPU]}
            )
        },
        {
            "nodeAffinity": terms(
                {"matchExpressions": [ARCH, OFF], "matchFields": [HERE]},
                {"matchExpressions": [GPU, OFF]},
            )
        },
    ),
    "a term that matches nothing": (
        {"nodeAffinity": terms({}, {"matchExpressions": [ARCH]})},
        {"nodeAffinity": terms({}, {"matchExpressions": [ARCH, OFF]})},
    ),
    "the affinity of the policy": (
        {"nodeAffinity": terms({"matchExpressions": [OFF]}, {"matchExpressions": [ARCH]})},
        {"nodeAffinity": terms({"matchExpressions": [OFF]}, {"matchExpressions": [ARCH, OFF]})},
    ),
}


@pytest.mark.parametrize(("given", "expected"), CASES.values(), ids=CASES)
async def test_the_policy_extends_an_affinity_that_is(
    home: rest.Api, given: Any, expected: dict[str, Any]
) -> None:
    made = await home.create(
        "daemonsets", daemonset(affinity=given), namespace="kube-system", dryRun="All"
    )
    assert affinity(made) == expected


@pytest.mark.parametrize(("allowed", "kept_off"), [("true", False), ("false", True), ("", True)])
async def test_a_daemonset_with_the_annotation_is_not_changed(
    home: rest.Api, allowed: str, *, kept_off: bool
) -> None:
    made = await home.create(
        "daemonsets", daemonset(allowed=allowed), namespace="default", dryRun="All"
    )
    assert affinity(made) == (KEPT_OFF if kept_off else None)


async def test_an_existing_daemonset_is_changed_once_with_its_next_template_change(
    home: rest.Api, workspace: Workspace
) -> None:
    namespace = workspace.home
    made = await home.create("daemonsets", daemonset(allowed="true"), namespace=namespace)
    made["metadata"]["annotations"] = {"note": "no change of the template"}
    made = await _replaced(home, made)
    assert affinity(made) is None

    made["spec"]["template"]["metadata"]["annotations"] = {"restarted": "now"}
    made = await _replaced(home, made)
    assert affinity(made) == KEPT_OFF
    generation = made["metadata"]["generation"]

    del made["spec"]["template"]["spec"]["affinity"]
    made = await _replaced(home, made)
    assert affinity(made) == KEPT_OFF
    assert made["metadata"]["generation"] == generation, "no pod is replaced for it"


async def _replaced(home: rest.Api, wanted: rest.Object) -> rest.Object:
    """Without resourceVersion, because the controller writes the status at the same time."""
    del wanted["metadata"]["resourceVersion"]
    return await home.replace("daemonsets", wanted)


async def test_the_controller_creates_pods_on_real_nodes_only(
    clusters: pair.Clusters, home: rest.Api, workspace: Workspace, node: str
) -> None:
    namespace = workspace.home
    clusters.home.create_virtual_node(node)
    machines = {
        one["metadata"]["name"]
        for one in await home.list("nodes")
        if one["metadata"]["labels"].get("type") != "virtual-kubelet"
    }

    def counted(least: int) -> rest.Condition:
        return lambda seen: (
            seen is not None
            and seen["status"].get("observedGeneration") is not None
            and seen["status"]["desiredNumberScheduled"] >= least
        )

    # One after the other: once the controller has counted the first, it knows the virtual node.
    for name, allowed, least in (("all", "true", len(machines) + 1), ("machines", None, 0)):
        await home.create("daemonsets", daemonset(name, allowed=allowed), namespace=namespace)
        seen = await home.until(
            "daemonsets", counted(least), name=name, namespace=namespace, seconds=180
        )
    assert seen["status"]["desiredNumberScheduled"] == len(machines)
    for name in ("machines", "all"):
        await home.delete("daemonsets", name=name, namespace=namespace)
