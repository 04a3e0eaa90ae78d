"""What a namespace contains that belongs to others, before it is deleted.

The rule is that of farlet itself (`docs/namespaces.md`), with Deployments in addition: one with 0
replicas has no pod.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.foreign.created_namespaces import CONTENT
from farlet.install import requests
from farlet.planning import namespaces

SHOWN = 5
"""Names in a report."""

_LISTED: Mapping[str, Resource[Any]] = {
    **CONTENT,
    kinds.DEPLOYMENTS.plural: kinds.DEPLOYMENTS.metadata_only,
}


async def accounts(cluster: ApiClient, namespace: str) -> str:
    """ServiceAccounts that an administrator has created, which do not keep the namespace."""
    found = await cluster.list_all(kinds.SERVICE_ACCOUNTS, namespace=namespace)
    names = [one["metadata"]["name"] for one in found.items]
    return requests.listed(sorted(name for name in names if name != "default"))


async def of_others(
    cluster: ApiClient, namespace: str, *, is_own: Callable[[Mapping[str, str]], bool]
) -> str:
    """Objects that keep the namespace, as `RESOURCE/NAME, ...`; empty: there are none.

    `is_own`: whether an object with these labels ends with what is removed.
    """
    found = {
        plural: [
            one["metadata"]["name"]
            for one in (await cluster.list_all(resource, namespace=namespace)).items
            if not is_own(one["metadata"].get("labels") or {})
        ]
        for plural, resource in _LISTED.items()
    }
    others = namespaces.others_in(found)
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return f"{', '.join(others[:SHOWN])}{more}"
