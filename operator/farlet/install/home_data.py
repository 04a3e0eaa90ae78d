"""What becomes of data: foreign claims of home pods, and their placeholders in the home cluster."""

from __future__ import annotations

from enum import StrEnum

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, VIRTUAL_NODE_ID, ObjectKey
from farlet.install import requests
from farlet.planning.api_refusals import AT_HOME


class Volumes(StrEnum):
    """What becomes of foreign claims with data of home pods."""

    REFUSE = "refuse"
    KEEP = "keep"
    DELETE = "delete"


async def leave(home: ApiClient, virtual_node_id: str, wanted: Volumes) -> tuple[int, list[str]]:
    """Delete the PersistentVolumes of the virtual node, or keep them with the foreign data.

    Returns how many were deleted, and what remains.
    """
    label = f"{VIRTUAL_NODE_ID}={virtual_node_id}"
    found = (await home.list_all(kinds.VOLUMES, label_selector=label)).items
    if wanted is not Volumes.DELETE:
        return 0, [f"the home PersistentVolume {one['metadata']['name']}" for one in found]
    left = []
    for one in found:
        metadata = one["metadata"]
        name = metadata["name"]
        await requests.delete(home, kinds.VOLUMES, name, uid=metadata["uid"])
        claim = await _bound(home, one)
        if claim is None:
            await requests.until_gone(home, kinds.VOLUMES, name)
            continue
        # It ends after its claim, which is a user's object.
        left.append(
            f"the home claim {claim}, whose data is deleted, and its PersistentVolume {name}: "
            f"{AT_HOME} delete pvc {claim.name} -n {claim.namespace}"
        )
    return len(found) - len(left), left


async def _bound(home: ApiClient, volume: JSON) -> ObjectKey | None:
    """The claim that holds a volume."""
    wanted = (volume.get("spec") or {}).get("claimRef")
    if wanted is None:
        return None
    key = ObjectKey(wanted["namespace"], wanted["name"])
    claim = await requests.find(home, kinds.CLAIMS, key.name, namespace=key.namespace)
    if claim is None or claim["metadata"]["uid"] != wanted.get("uid"):
        return None
    return key


def hold_data(claims: tuple[ObjectKey, ...]) -> errors.StartError:
    """Why nothing was removed."""
    return errors.StartError(
        f"{len(claims)} foreign claims hold data of home pods: {', '.join(map(str, claims[:20]))}. "
        "Nothing was removed. Add --keep-volumes to keep them and their namespaces, or "
        "--delete-volumes to delete them with their data"
    )
