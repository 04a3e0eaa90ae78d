"""The Secrets with the credentials of virtual nodes, in the home cluster.

Each write names the version of the Secret that it was decided on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.manager.virtual_node import VirtualNode


async def read(home: ApiClient, node: VirtualNode, name: str) -> JSON | None:
    """The Secret; `None`: it does not exist. Raises like `Cluster.call`."""
    try:
        return await home.get(resources.WHOLE_SECRETS, name, namespace=node.namespace)
    except errors.NotFound:
        return None


async def write(
    home: ApiClient,
    node: VirtualNode,
    name: str,
    secret: JSON | None,
    content: Mapping[str, str | None],
) -> JSON:
    """Set keys of a Secret, as it was read, or create it. Raises `Conflict`."""
    data = {
        key: None if value is None else base64.b64encode(value.encode()).decode()
        for key, value in content.items()
    }
    if secret is None:
        body: JSON = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": node.namespace,
                "labels": node.labels,
                "ownerReferences": [node.owner],
            },
            "type": "Opaque",
            "data": data,
        }
        return await home.create(resources.WHOLE_SECRETS, body, namespace=node.namespace)
    version = secret["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version}, "data": data}
    return await home.patch(resources.WHOLE_SECRETS, name, body, namespace=node.namespace)


def data(secret: JSON | None) -> dict[str, bytes]:
    """The content; entries that are not valid are left out."""
    encoded = (secret or {}).get("data")
    found = {}
    for key, value in encoded.items() if isinstance(encoded, dict) else ():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found
