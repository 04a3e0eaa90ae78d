"""The shipped policies: a label offloads a namespace, and keeps all others off virtual nodes."""

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

FOLDER = Path(__file__).parents[2] / "manifests" / "home" / "offload"
LABEL = "farlet.io/offload"
GUARDED = "guarded-node"
TOLERATION = {"key": "farlet.io/virtual-node", "operator": "Exists", "effect": "NoSchedule"}
GPU = {"key": "gpu", "operator": "Exists"}
VIRTUAL = {"key": "type", "operator": "In", "values": ["virtual-kubelet"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
ON_VIRTUAL = {"weight": 100, "preference": {"matchExpressions": [VIRTUAL]}}
ON_GPU = {"weight": 1, "preference": {"matchExpressions": [GPU]}}
APART = {"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone", "labelSelector": {}}]}}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def policies(clusters: pair.Clusters) -> AsyncIterator[None]:
    """Both policies, active in the home cluster until the end."""
    objects: list[Any] = []
    for file in ("toleration.yaml", "guard.yaml"):
        objects += yaml.safe_load_all((FOLDER / file).read_text())
    for found in objects:
        if found["kind"] == "ConfigMap":
            found["data"] = {GUARDED: ""}
            found["metadata"]["namespace"] = "default"  # that of an installation does not exist
        reference = found.get("spec", {}).get("paramRef", {})
        if reference:
            reference["namespace"] = "default"
    async with clusters.home.api() as home:
        for labels, name in (({LABEL: "enabled"}, "offload-probe"), ({}, "guard-probe")):
            await home.create("namespaces", {"metadata": {"name": name, "labels": labels}})
        try:
            clusters.home.apply(*objects)
            await _until_in_force(home)
            yield
        finally:
            clusters.home.remove(*reversed(objects))
            for name in ("offload-probe", "guard-probe"):
                await home.delete("namespaces", name=name)


async def _until_in_force(home: rest.Api) -> None:
    """Wait until the API server has compiled both policies."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        made = await home.create("pods", pod(), namespace="offload-probe", dryRun="All")
        if TOLERATION in made["spec"]["tolerations"] and await _guarded(home):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the policies are still not active")


async def _guarded(home: rest.Api) -> bool:
    try:
        await home.create("pods", pod(node=GUARDED), namespace="guard-probe", dryRun="All")
    except rest.ApiError as error:
        return "is not offloaded" in str(error)
    return False


def pod(name: str = "web", *, node: str = "", **spec: Any) -> dict[str, Any]:
    placed = {"nodeName": node} if node else {}
    return {
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "main", "image": images.CLIENTS, "command": ["sleep", "inf"]}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            **placed,
            **spec,
        },
    }


async def offload(home: rest.Api, namespace: str, how: str | None) -> None:
    """Label the namespace, and wait until admission uses it."""
    body = {"metadata": {"labels": {LABEL: how}}}
    await home.patch("namespaces", body, name=namespace)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        made = await home.create("pods", pod("probe"), namespace=namespace, dryRun="All")
        nodes = made["spec"].get("affinity", {}).get("nodeAffinity", {})
        seen = {
            "enabled": TOLERATION in made["spec"]["tolerations"],
            "preferred": PREFERRED in nodes,
            "required": REQUIRED in nodes,
            None: TOLERATION not in made["spec"]["tolerations"],
        }
        if seen[how]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the label {LABEL}={how} has no effect")


def nodes(**rules: Any) -> dict[str, Any]:
    return {"nodeAffinity": rules}


def terms(*each: dict[str, Any]) -> dict[str, Any]:
    return {"nodeSelectorTerms": list(each)}


CASES: dict[str, tuple[str, Any, Any]] = {
    "enabled, none": ("enabled", None, None),
    "enabled, of pods": ("enabled", APART, APART),
    "preferred, none": ("preferred", None, nodes(**{PREFERRED: [ON_VIRTUAL]})),
    "preferred, another preference": (
        "preferred",
        nodes(**{PREFERRED: [ON_GPU]}),
        nodes(**{PREFERRED: [ON_GPU, ON_VIRTUAL]}),
    ),
    "preferred, already": (
        "preferred",
        nodes(**{PREFERRED: [ON_VIRTUAL]}),
        nodes(**{PREFERRED: [ON_VIRTUAL]}),
    ),
    "required, none": (
        "required",
        None,
        nodes(**{REQUIRED: terms({"matchExpressions": [VIRTUAL]})}),
    ),
    "required, of pods": (
        "required",
        APART,
        APART | nodes(**{REQUIRED: terms({"matchExpressions": [VIRTUAL]})}),
    ),
    "required, alternatives": (
        "required",
        nodes(**{REQUIRED: terms({"matchExpressions": [GPU]}, {"matchExpressions": [VIRTUAL]})}),
        nodes(
            **{
                REQUIRED: terms(
                    {"matchExpressions": [GPU, VIRTUAL]}, {"matchExpressions": [VIRTUAL]}
                )
            }
        ),
    ),
}


@pytest.mark.parametrize(("how", "given", "expected"), CASES.values(), ids=CASES)
async def test_pods_of_an_offloaded_namespace_get_the_toleration_and_their_affinity_is_extended(
    home: rest.Api, workspace: Workspace, how: str, given: Any, expected: Any
) -> None:
    await offload(home, workspace.home, how)
    affinity = {} if given is None else {"affinity": given}
    made = await home.create("pods", pod(**affinity), namespace=workspace.home, dryRun="All")
    assert made["spec"]["tolerations"].count(TOLERATION) == 1
    assert made["spec"].get("affinity") == expected


@pytest.mark.parametrize(
    "tolerations",
    [
        pytest.param([TOLERATION], id="the same toleration"),
        pytest.param([{"key": "gpu", "operator": "Exists"}], id="another toleration"),
    ],
)
async def test_a_toleration_is_added_once_and_others_are_kept(
    home: rest.Api, workspace: Workspace, tolerations: list[Any]
) -> None:
    await offload(home, workspace.home, "enabled")
    made = await home.create(
        "pods", pod(tolerations=tolerations), namespace=workspace.home, dryRun="All"
    )
    given = [one for one in made["spec"]["tolerations"] if "tolerationSeconds" not in one]
    assert given == tolerations + [TOLERATION] * (TOLERATION not in tolerations)


async def test_pods_of_daemonsets_are_not_changed(home: rest.Api, workspace: Workspace) -> None:
    await offload(home, workspace.home, "required")
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "u"}
    wanted = pod()
    wanted["metadata"]["ownerReferences"] = [owner | {"controller": True}]
    made = await home.create("pods", wanted, namespace=workspace.home, dryRun="All")
    assert TOLERATION not in made["spec"]["tolerations"]
    assert "affinity" not in made["spec"]


async def test_other_namespaces_cannot_name_a_listed_node(
    home: rest.Api, workspace: Workspace
) -> None:
    with pytest.raises(rest.ApiError, match=f"label namespace {workspace.home} {LABEL}=enabled"):
        await home.create("pods", pod(node=GUARDED), namespace=workspace.home, dryRun="All")
    for allowed in (pod(node="machine"), pod(), pod(tolerations=[{"operator": "Exists"}])):
        await home.create("pods", allowed, namespace=workspace.home, dryRun="All")
    await offload(home, workspace.home, "enabled")
    await home.create("pods", pod(node=GUARDED), namespace=workspace.home, dryRun="All")


async def test_the_scheduler_cannot_bind_pods_of_other_namespaces_to_a_listed_node(
    clusters: pair.Clusters, home: rest.Api, workspace: Workspace
) -> None:
    clusters.home.create_virtual_node(GUARDED)
    wanted = pod(
        tolerations=[{"operator": "Exists"}], nodeSelector={"kubernetes.io/hostname": GUARDED}
    )
    await home.create("pods", wanted, namespace=workspace.home)

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        events = await home.list("events", namespace=workspace.home)
        if any("is not offloaded" in event.get("message", "") for event in events):
            break
        await asyncio.sleep(0.2)
    else:
        raise AssertionError("no Event contains the message of the policy")
    found = await home.get("pods", name="web", namespace=workspace.home)
    assert "nodeName" not in found["spec"]
    await offload(home, workspace.home, "enabled")
    await home.until(
        "pods",
        lambda seen: seen is not None and seen["spec"].get("nodeName") == GUARDED,
        name="web",
        namespace=workspace.home,
        seconds=180,
    )
    await home.delete("pods", name="web", namespace=workspace.home, gracePeriodSeconds="0")
    await home.delete("nodes", name=GUARDED)
