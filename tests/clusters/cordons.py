"""Nodes that get no new pods, and a scheduler that knows it.

A scheduler learns of a cordon by a watch, and of new pods by another: a pod that is created right
after a cordon may still land on that node. So probes are created that fit on no node, until the
scheduler names the cordon as the cause: it checks cordons before resources.
"""

import asyncio
import secrets

from clusters import rest

_NAMESPACE = "default"  # tests have namespaces of their own


async def close(api: rest.Api, *nodes: str) -> None:
    """Cordon nodes, and return once the scheduler knows."""
    await asyncio.gather(*(_mark(api, node, closed=True) for node in nodes))
    await asyncio.gather(*(_known(api, node) for node in nodes))


async def reopen(api: rest.Api, *nodes: str) -> None:
    """Let nodes get new pods again."""
    await asyncio.gather(*(_mark(api, node, closed=False) for node in nodes))


async def _known(api: rest.Api, node: str) -> None:
    message = ""
    while "unschedulable" not in message:
        name = f"probe-{secrets.token_hex(4)}"
        await api.create("pods", _probe(name, node), namespace=_NAMESPACE)
        try:
            seen = await api.until("pods", _judged, name=name, namespace=_NAMESPACE)
        finally:
            await api.delete("pods", name=name, namespace=_NAMESPACE, gracePeriodSeconds="0")
        message = _scheduling_message(seen)


async def _mark(api: rest.Api, node: str, *, closed: bool) -> None:
    await api.patch("nodes", {"spec": {"unschedulable": closed or None}}, name=node)


def _probe(name: str, node: str) -> rest.Object:
    """A pod for this node alone, and too large for it."""
    only = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [only]}]}
    size = {"requests": {"cpu": "1G"}}
    return {
        "metadata": {"name": name},
        "spec": {
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
            },
            "containers": [{"name": "main", "image": "none", "resources": size}],
        },
    }


def _judged(seen: rest.Object | None) -> bool:
    """Whether the scheduler has reported why it does not bind it."""
    return seen is not None and _scheduling_message(seen) != ""


def _scheduling_message(seen: rest.Object) -> str:
    found = seen.get("status", {}).get("conditions", [])
    return next((str(one["message"]) for one in found if one.get("reason") == "Unschedulable"), "")
