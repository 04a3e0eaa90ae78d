"""A provisioner as small as possible: directories of the real node.

It plays an external provisioner and resizer (`sig-storage-lib-external-provisioner`) for one
StorageClass with `volumeBindingMode: WaitForFirstConsumer`.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

from clusters import rest

NAME = "tests.farlet.io/directory"
SELECTED = "volume.kubernetes.io/selected-node"
PAUSE_SECONDS = 0.2


@dataclasses.dataclass
class Provisioner:
    """Provides volumes for claims of the StorageClass `storage_class`."""

    api: rest.Api
    storage_class: str
    folder: Path
    problem: str = ""
    """While it is set, claims get an Event with this text in place of a volume."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for claim in await self.api.list("persistentvolumeclaims"):
                if claim["spec"].get("storageClassName") == self.storage_class:
                    await self._provide(claim)
            for volume in await volumes(self.api, self.storage_class):
                await self._reclaim(volume)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _provide(self, claim: rest.Object) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        size = spec["resources"]["requests"]["storage"]
        where = {"name": metadata["name"], "namespace": metadata["namespace"]}
        if claim["status"]["phase"] == "Bound":
            if claim["status"]["capacity"]["storage"] != size:
                capacity = {"capacity": {"storage": size}}
                name = spec["volumeName"]
                await self.api.patch("persistentvolumes", {"spec": capacity}, name=name)
                body = {"status": capacity}
                await self.api.patch("persistentvolumeclaims", body, **where, subresource="status")
        elif SELECTED in metadata.get("annotations", {}) and self.problem:
            await self._report(claim)
        elif SELECTED in metadata.get("annotations", {}) and not spec.get("volumeName"):
            name = f"pvc-{metadata['uid']}"
            if await self.api.find("persistentvolumes", name=name) is None:
                await self.api.create("persistentvolumes", self._volume(name, claim))

    def _volume(self, name: str, claim: rest.Object) -> rest.Object:
        spec = claim["spec"]
        return {
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": NAME}},
            "spec": {
                "accessModes": spec["accessModes"],
                "capacity": spec["resources"]["requests"],
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    **{key: claim["metadata"][key] for key in ("namespace", "name", "uid")},
                },
                "hostPath": {"path": str(self.folder / name), "type": "DirectoryOrCreate"},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": self.storage_class,
                "volumeMode": spec["volumeMode"],
            },
        }

    async def _reclaim(self, volume: rest.Object) -> None:
        if volume["status"].get("phase") == "Released":
            await self.api.delete("persistentvolumes", name=volume["metadata"]["name"])

    async def _report(self, claim: rest.Object) -> None:
        metadata = claim["metadata"]
        event = {
            "metadata": {"generateName": "provisioning-"},
            "involvedObject": {
                "kind": "PersistentVolumeClaim",
                **{key: metadata[key] for key in ("namespace", "name", "uid")},
            },
            "reason": "ProvisioningFailed",
            "type": "Warning",
            "message": f"{metadata['name']}: {self.problem}",
        }
        await self.api.create("events", event, namespace=metadata["namespace"])


@contextlib.asynccontextmanager
async def running(api: rest.Api, storage_class: str, folder: Path) -> AsyncIterator[Provisioner]:
    """The StorageClass, and a provisioner that puts its volumes into `folder`."""
    body = {
        "metadata": {"name": storage_class},
        "provisioner": NAME,
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
    await api.create("storageclasses", body)
    provisioner = Provisioner(api, storage_class, folder)
    task = asyncio.create_task(provisioner.run())
    try:
        yield provisioner
    finally:
        task.cancel()
        await asyncio.wait([task])
        await remove(api, storage_class)


async def volumes(api: rest.Api, storage_class: str) -> list[rest.Object]:
    """The PersistentVolumes of a StorageClass."""
    return [
        volume
        for volume in await api.list("persistentvolumes")
        if volume["spec"].get("storageClassName") == storage_class
    ]


async def remove(api: rest.Api, storage_class: str) -> None:
    """Delete a StorageClass and its PersistentVolumes."""
    await api.delete("storageclasses", name=storage_class)
    for volume in await volumes(api, storage_class):
        await api.delete("persistentvolumes", name=volume["metadata"]["name"])
