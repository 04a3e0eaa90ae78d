"""PersistentVolumeClaims of home pods, with volumes in the foreign cluster.

The home scheduler places the pods; containers run on the foreign real node.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clusters import farlet as farlets
from clusters import images, kwok, pair, rest, virtualnode
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import provisioner, realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(120)]

MANIFESTS = Path(__file__).parents[2] / "manifests" / "home" / "volumes"
ACCOUNT = "system:serviceaccount:farlet:farlet"
"""The subject of the shipped ClusterRoleBinding."""
SECONDS = 120
APPEND = "echo $HOSTNAME >> /data/log; cat /data/log; exec sleep inf"


@dataclasses.dataclass(frozen=True)
class Storage:
    """StorageClasses of both clusters, the foreign provisioner, and farlet's identity for it."""

    home_class: str
    provisioner: provisioner.Provisioner
    login: Path

    @property
    def settings(self) -> dict[str, str | None]:
        return {
            **realpods.AS_REAL,
            "storage-class-map": f"{self.home_class}={self.provisioner.storage_class}",
            "home-storage-kubeconfig": str(self.login),
        }


@pytest.fixture
async def storage(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
) -> AsyncIterator[Storage]:
    await asyncio.to_thread(clusters.home.kubectl, "apply", "-f", str(MANIFESTS))
    login = clusters.home.login(ACCOUNT)
    home_class = f"far-{workspace.home}"
    async with provisioner.running(foreign, f"local-{workspace.home}") as provides:
        made = Storage(home_class, provides, login)
        await home.create("storageclasses", storage_class(home_class))
        yield made
        await home.delete("storageclasses", name=home_class)
        for volume in await home.list("persistentvolumes"):
            if volume["spec"].get("storageClassName") == home_class:
                await home.delete("persistentvolumes", name=volume["metadata"]["name"])


def storage_class(name: str, **more: str) -> rest.Object:
    return {
        "metadata": {"name": name},
        "provisioner": "farlet.io/foreign",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        **more,
    }


def claim(name: str, storage_class: str, size: str = "1Gi") -> rest.Object:
    return {"metadata": {"name": name}, "spec": claim_spec(storage_class, size)}


def claim_spec(storage_class: str, size: str = "1Gi") -> rest.Object:
    return {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
    }


def pod_spec(node: str, volume: rest.Object | None = None) -> rest.Object:
    """Of pods that append their name to a file on their volume `data`."""
    return {
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": {"kubernetes.io/hostname": node, kwok.LABEL: "real"},
        "tolerations": [{"key": virtualnode.TAINT, "operator": "Exists"}],
        "containers": [
            {
                "name": "main",
                "image": images.CLIENTS,
                "command": ["sh", "-c", APPEND],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        **({} if volume is None else {"volumes": [{"name": "data", **volume}]}),
    }


def stateful_set(node: str, storage_class: str) -> rest.Object:
    labels = {"app": "db"}
    return {
        "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db",
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(node)},
            "volumeClaimTemplates": [claim("data", storage_class)],
        },
    }


def bound(seen: rest.Object | None) -> bool:
    return seen is not None and seen["status"]["phase"] == "Bound"


def sized(size: str) -> rest.Condition:
    return lambda seen: (
        seen is not None and seen["status"].get("capacity", {}).get("storage") == size
    )


def another(uid: str) -> rest.Condition:
    return lambda seen: (
        seen is not None and seen["metadata"]["uid"] != uid and rest.phase("Running")(seen)
    )


async def foreign_claims(foreign: rest.Api, workspace: Workspace) -> list[rest.Object]:
    return await foreign.list("persistentvolumeclaims", namespace=workspace.foreign)


async def warning(api: rest.Api, name: str, namespace: str) -> str:
    """The message of the first ProvisioningFailed Event on a claim."""
    found = await realpods.event(api, name, namespace=namespace, reason="ProvisioningFailed")
    message: str = found["message"]
    return message


@pytest.mark.both_identities
async def test_a_stateful_set_keeps_its_data_until_its_claim_is_deleted(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    storage: Storage,
    start_farlet: StartFarlet,
) -> None:
    farlet = await start_farlet(node, settings=storage.settings)
    space: dict[str, Any] = {"namespace": workspace.home}
    await home.create("statefulsets", stateful_set(node, storage.home_class), **space)
    first = await home.until("pods", rest.phase("Running"), name="db-0", seconds=SECONDS, **space)
    found = await home.until("persistentvolumeclaims", bound, name="data-db-0", **space)
    placeholder = found["spec"]["volumeName"]
    (remote,) = await foreign_claims(foreign, workspace)
    assert remote["spec"]["storageClassName"] == storage.provisioner.storage_class
    assert remote["metadata"]["name"] != "data-db-0"

    await home.delete("pods", name="db-0", **space)
    await home.until(
        "pods", another(first["metadata"]["uid"]), name="db-0", seconds=SECONDS, **space
    )
    assert (await home.logs("db-0", **space)).split() == ["db-0", "db-0"]

    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    await home.patch("persistentvolumeclaims", larger, name="data-db-0", **space)
    await home.until("persistentvolumeclaims", sized("2Gi"), name="data-db-0", **space)
    (remote,) = await foreign_claims(foreign, workspace)
    assert remote["status"]["capacity"] == {"storage": "2Gi"}

    await farlet.restart()
    await home.delete("persistentvolumeclaims", name="data-db-0", **space)
    await asyncio.sleep(1)
    assert len(await foreign_claims(foreign, workspace)) == 1, "a pod still uses the claim"
    await home.delete("statefulsets", name="db", **space)
    await home.until("persistentvolumes", rest.gone, name=placeholder, seconds=SECONDS)
    assert await foreign_claims(foreign, workspace) == []
    await foreign.until("persistentvolumes", rest.gone, name=remote["spec"]["volumeName"])


async def test_a_retained_volume_stays_and_a_recreated_claim_gets_another_one(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    storage: Storage,
    start_farlet: StartFarlet,
) -> None:
    kept = f"{storage.home_class}-kept"
    await home.create("storageclasses", storage_class(kept, reclaimPolicy="Retain"))
    classes = f"{kept}={storage.provisioner.storage_class}"
    await start_farlet(node, settings=storage.settings | {"storage-class-map": classes})
    space: dict[str, Any] = {"namespace": workspace.home}
    spec = pod_spec(node, {"persistentVolumeClaim": {"claimName": "data"}})
    try:
        for run in (1, 2):
            await home.create("persistentvolumeclaims", claim("data", kept), **space)
            await home.create("pods", {"metadata": {"name": "web"}, "spec": spec}, **space)
            await home.until("pods", rest.phase("Running"), name="web", seconds=SECONDS, **space)
            assert len(await foreign_claims(foreign, workspace)) == run
            assert (await home.logs("web", **space)).split() == ["web"]
            for resource, name in (("pods", "web"), ("persistentvolumeclaims", "data")):
                await home.delete(resource, name=name, **space)
                await home.until(resource, rest.gone, name=name, seconds=SECONDS, **space)
        remaining = [
            volume
            for volume in await home.list("persistentvolumes")
            if volume["spec"].get("storageClassName") == kept
        ]
        assert [v["status"]["phase"] for v in remaining] == ["Released", "Released"]
        assert len(await foreign_claims(foreign, workspace)) == 2
    finally:
        await home.delete("storageclasses", name=kept)
        for volume in await home.list("persistentvolumes"):
            if volume["spec"].get("storageClassName") == kept:
                await home.delete("persistentvolumes", name=volume["metadata"]["name"])


async def test_a_generic_ephemeral_volume_ends_with_its_pod_and_errors_are_events_of_the_claim(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    storage: Storage,
    start_farlet: StartFarlet,
) -> None:
    storage.provisioner.problem = "the disks are full"
    await start_farlet(node, settings=storage.settings)
    space: dict[str, Any] = {"namespace": workspace.home}
    template = {"spec": claim_spec(storage.home_class)}
    spec = pod_spec(node, {"ephemeral": {"volumeClaimTemplate": template}})
    await home.create("pods", {"metadata": {"name": "job"}, "spec": spec}, **space)
    text = await warning(home, "job-data", workspace.home)
    assert text == "in the foreign cluster: job-data: the disks are full"

    storage.provisioner.problem = ""
    await home.until("pods", rest.phase("Running"), name="job", seconds=SECONDS, **space)
    mirror = await foreign.get("pods", name="job", namespace=workspace.foreign)
    (volume,) = [v for v in mirror["spec"]["volumes"] if v["name"] == "data"]
    (remote,) = await foreign_claims(foreign, workspace)
    assert volume["persistentVolumeClaim"] == {"claimName": remote["metadata"]["name"]}

    await home.delete("pods", name="job", **space)
    name = remote["metadata"]["name"]
    await foreign.until(
        "persistentvolumeclaims",
        rest.gone,
        name=name,
        namespace=workspace.foreign,
        seconds=SECONDS,
    )


@pytest.mark.refused("foreign")
async def test_a_quota_of_the_foreign_namespace_is_an_event_of_the_claim(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    storage: Storage,
    start_farlet: StartFarlet,
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"persistentvolumeclaims": "0"}}}
    await foreign.create("resourcequotas", quota, namespace=workspace.foreign)
    await foreign.until(
        "resourcequotas",
        lambda seen: seen is not None and "hard" in seen.get("status", {}),
        name="none",
        namespace=workspace.foreign,
    )
    await start_farlet(node, settings=storage.settings)
    space: dict[str, Any] = {"namespace": workspace.home}
    await home.create("persistentvolumeclaims", claim("data", storage.home_class), **space)
    spec = pod_spec(node, {"persistentVolumeClaim": {"claimName": "data"}})
    await home.create("pods", {"metadata": {"name": "web"}, "spec": spec}, **space)
    assert "exceeded quota" in await warning(home, "data", workspace.home)

    await foreign.delete("resourcequotas", name="none", namespace=workspace.foreign)
    await home.until("pods", rest.phase("Running"), name="web", seconds=SECONDS, **space)


async def test_farlet_does_not_start_without_what_volumes_require(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    storage: Storage,
    start_farlet: StartFarlet,
) -> None:
    other = f"other-{workspace.home}"
    await home.create("storageclasses", storage_class(other, provisioner="disks.example.com"))
    foreign_class = storage.provisioner.storage_class
    cases: dict[str, dict[str, str | None]] = {
        "whose provisioner is disks.example.com": {"storage-class-map": f"{other}={foreign_class}"},
        "farlet is not allowed to get or list or watch persistentvolumeclaims": {
            "home-storage-kubeconfig": str(clusters.home.login("without-permissions"))
        },
    }
    try:
        for text, changed in cases.items():
            failing = await start_farlet(node, settings=storage.settings | changed, ready=False)
            await ended(failing)
            assert failing.process.exit_code == 1
            assert text in failing.log
    finally:
        await home.delete("storageclasses", name=other)


async def ended(farlet: farlets.Farlet) -> None:
    async with asyncio.timeout(60):
        while farlet.process.alive:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_the_shipped_policy_limits_the_identity_to_placeholders(
    clusters: pair.Clusters, home: rest.Api, workspace: Workspace, storage: Storage
) -> None:
    name = f"theirs-{workspace.home}"
    theirs = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/"},
        },
    }
    space: dict[str, Any] = {"namespace": workspace.home}
    await home.create("persistentvolumeclaims", claim("data", storage.home_class), **space)
    async with clusters.home.api(login=storage.login) as identity:
        await until_forbidden(identity, theirs)
        await home.create("persistentvolumes", theirs)
        try:
            body = {"spec": {"capacity": {"storage": "2Gi"}}}
            with pytest.raises(rest.ApiError, match=r"foreign\.farlet\.io"):
                await identity.patch("persistentvolumes", body, name=name)
            with pytest.raises(rest.ApiError, match=r"foreign\.farlet\.io"):
                await identity.delete("persistentvolumes", name=name)
            status = {"status": {"capacity": {"storage": "9Gi"}}}
            with pytest.raises(rest.ApiError, match="bound to its own volumes"):
                await identity.patch(
                    "persistentvolumeclaims", status, name="data", subresource="status", **space
                )
        finally:
            await home.delete("persistentvolumes", name=name)


async def until_forbidden(api: rest.Api, volume: rest.Object) -> None:
    """Until the API server applies the policy."""
    async with asyncio.timeout(60):
        while True:
            try:
                await api.create("persistentvolumes", volume, dryRun="All")
            except rest.ApiError as error:
                if "foreign.farlet.io" in str(error):
                    return
            await asyncio.sleep(0.2)
