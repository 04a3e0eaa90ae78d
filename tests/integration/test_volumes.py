"""PersistentVolumeClaims of home pods, with volumes in the foreign cluster.

The home scheduler places the pods; containers run on the foreign real node.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clusters import images, kwok, rest, virtualnode
from conftest import StartFarlet
from faults.environment import Environment
from integration import provisioner, realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(120)]

MANIFESTS = Path(__file__).parents[2] / "manifests" / "home" / "volumes"
ACCOUNT = "system:serviceaccount:farlet:farlet-far"
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
async def storage(env: Environment, tmp_path: Path) -> AsyncIterator[Storage]:
    await asyncio.to_thread(env.clusters.home.kubectl, "apply", "-f", str(MANIFESTS))
    login = env.clusters.home.login(ACCOUNT)
    home_class = f"far-{env.workspace.home}"
    foreign_class = f"local-{env.workspace.home}"
    async with provisioner.running(env.foreign, foreign_class, tmp_path) as provides:
        made = Storage(home_class, provides, login)
        await env.home.create("storageclasses", storage_class(home_class))
        yield made
        await provisioner.remove(env.home, home_class)


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


async def foreign_claims(env: Environment) -> list[rest.Object]:
    return await env.foreign.list("persistentvolumeclaims", namespace=env.workspace.foreign)


async def warning(api: rest.Api, name: str, namespace: str) -> str:
    """The message of the first ProvisioningFailed Event on a claim."""
    found = await realpods.event(api, name, namespace=namespace, reason="ProvisioningFailed")
    message: str = found["message"]
    return message


@pytest.mark.both_identities
async def test_a_stateful_set_keeps_its_data_until_its_claim_is_deleted(
    env: Environment, storage: Storage, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings=storage.settings)
    space: dict[str, Any] = {"namespace": env.workspace.home}
    await env.home.create("statefulsets", stateful_set(env.node, storage.home_class), **space)
    first = await env.seen("db-0", rest.phase("Running"))
    found = await env.home.until("persistentvolumeclaims", bound, name="data-db-0", **space)
    placeholder = found["spec"]["volumeName"]
    (remote,) = await foreign_claims(env)
    assert remote["spec"]["storageClassName"] == storage.provisioner.storage_class
    assert remote["metadata"]["name"] != "data-db-0"

    await env.delete("db-0")
    await env.seen("db-0", another(first["metadata"]["uid"]))
    assert (await env.home.logs("db-0", **space)).split() == ["db-0", "db-0"]

    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    await env.home.patch("persistentvolumeclaims", larger, name="data-db-0", **space)
    await env.home.until("persistentvolumeclaims", sized("2Gi"), name="data-db-0", **space)
    (remote,) = await foreign_claims(env)
    assert remote["status"]["capacity"] == {"storage": "2Gi"}

    await farlet.restart()
    await env.home.delete("persistentvolumeclaims", name="data-db-0", **space)
    await asyncio.sleep(1)
    assert len(await foreign_claims(env)) == 1, "a pod still uses the claim"
    await env.home.delete("statefulsets", name="db", **space)
    await env.home.until("persistentvolumes", rest.gone, name=placeholder, seconds=SECONDS)
    assert await foreign_claims(env) == []
    await env.foreign.until("persistentvolumes", rest.gone, name=remote["spec"]["volumeName"])


async def test_a_retained_volume_stays_and_a_recreated_claim_gets_another_one(
    env: Environment, storage: Storage, start_farlet: StartFarlet
) -> None:
    kept = f"{storage.home_class}-kept"
    await env.home.create("storageclasses", storage_class(kept, reclaimPolicy="Retain"))
    classes = f"{kept}={storage.provisioner.storage_class}"
    await start_farlet(env.node, settings=storage.settings | {"storage-class-map": classes})
    space: dict[str, Any] = {"namespace": env.workspace.home}
    spec = pod_spec(env.node, {"persistentVolumeClaim": {"claimName": "data"}})
    try:
        for run in (1, 2):
            await env.home.create("persistentvolumeclaims", claim("data", kept), **space)
            # The scheduler of the home cluster must not take it for the claim that is gone.
            await asyncio.sleep(1)
            await env.create({"metadata": {"name": "web"}, "spec": spec})
            await env.seen("web", rest.phase("Running"))
            assert len(await foreign_claims(env)) == run
            assert (await env.home.logs("web", **space)).split() == ["web"]
            for resource, name in (("pods", "web"), ("persistentvolumeclaims", "data")):
                await env.home.delete(resource, name=name, **space)
                await env.home.until(resource, rest.gone, name=name, seconds=SECONDS, **space)
        remaining = await provisioner.volumes(env.home, kept)
        assert len(remaining) == 2
        for volume in remaining:
            name = volume["metadata"]["name"]
            await env.home.until("persistentvolumes", rest.phase("Released"), name=name)
        assert len(await foreign_claims(env)) == 2
    finally:
        await provisioner.remove(env.home, kept)


async def test_a_generic_ephemeral_volume_ends_with_its_pod_and_errors_are_events_of_the_claim(
    env: Environment, storage: Storage, start_farlet: StartFarlet
) -> None:
    storage.provisioner.problem = "the disks are full"
    await start_farlet(env.node, settings=storage.settings)
    template = {"spec": claim_spec(storage.home_class)}
    spec = pod_spec(env.node, {"ephemeral": {"volumeClaimTemplate": template}})
    await env.create({"metadata": {"name": "job"}, "spec": spec})
    text = await warning(env.home, "job-data", env.workspace.home)
    assert text == "in the foreign cluster: job-data: the disks are full"

    storage.provisioner.problem = ""
    await env.seen("job", rest.phase("Running"))
    mirror = await env.foreign.get("pods", name="job", namespace=env.workspace.foreign)
    (volume,) = [v for v in mirror["spec"]["volumes"] if v["name"] == "data"]
    (remote,) = await foreign_claims(env)
    assert volume["persistentVolumeClaim"] == {"claimName": remote["metadata"]["name"]}

    await env.delete("job")
    name = remote["metadata"]["name"]
    await env.foreign.until(
        "persistentvolumeclaims",
        rest.gone,
        name=name,
        namespace=env.workspace.foreign,
        seconds=SECONDS,
    )


@pytest.mark.refused("foreign")
async def test_a_quota_of_the_foreign_namespace_is_an_event_of_the_claim(
    env: Environment, storage: Storage, start_farlet: StartFarlet
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"persistentvolumeclaims": "0"}}}
    await env.foreign.create("resourcequotas", quota, namespace=env.workspace.foreign)
    await env.foreign.until(
        "resourcequotas",
        lambda seen: seen is not None and "hard" in seen.get("status", {}),
        name="none",
        namespace=env.workspace.foreign,
    )
    await start_farlet(env.node, settings=storage.settings)
    space: dict[str, Any] = {"namespace": env.workspace.home}
    await env.home.create("persistentvolumeclaims", claim("data", storage.home_class), **space)
    spec = pod_spec(env.node, {"persistentVolumeClaim": {"claimName": "data"}})
    await env.create({"metadata": {"name": "web"}, "spec": spec})
    assert "exceeded quota" in await warning(env.home, "data", env.workspace.home)

    await env.foreign.delete("resourcequotas", name="none", namespace=env.workspace.foreign)
    await env.seen("web", rest.phase("Running"))


async def test_farlet_does_not_start_without_what_volumes_require(
    env: Environment, storage: Storage, start_farlet: StartFarlet
) -> None:
    other = f"other-{env.workspace.home}"
    await env.home.create("storageclasses", storage_class(other, provisioner="disks.example.com"))
    foreign_class = storage.provisioner.storage_class
    cases: dict[str, dict[str, str | None]] = {
        "whose provisioner is disks.example.com": {"storage-class-map": f"{other}={foreign_class}"},
        "farlet is not allowed to get or list or watch persistentvolumeclaims": {
            "home-storage-kubeconfig": str(env.clusters.home.login("without-permissions"))
        },
    }
    try:
        for text, changed in cases.items():
            failing = await start_farlet(env.node, settings=storage.settings | changed, ready=False)
            assert await failing.ended() == 1
            assert text in failing.log
    finally:
        await env.home.delete("storageclasses", name=other)


async def test_the_shipped_policy_limits_the_identity_to_placeholders(
    env: Environment, storage: Storage
) -> None:
    name = f"theirs-{env.workspace.home}"
    theirs = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/"},
        },
    }
    space: dict[str, Any] = {"namespace": env.workspace.home}
    await env.home.create("persistentvolumeclaims", claim("data", storage.home_class), **space)
    async with env.clusters.home.api(login=storage.login) as identity:
        await until_forbidden(identity, theirs)
        await env.home.create("persistentvolumes", theirs)
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
            await env.home.delete("persistentvolumes", name=name)


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
