"""Every object of a cluster, to compare two moments: what a command leaves behind, or changed.

All resources of discovery that can be listed are read. Of each object the spec, the data and the
metadata that others rely on are kept, and of a Node its conditions.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from clusters import rest

_IGNORED = frozenset({"events", "componentstatuses"})
"""Events pass, and component statuses are computed by each request."""
_CHANGING = frozenset({"leases"})
"""Their content changes all the time."""
_PASSING = "/certificatesigningrequests"
"""Home's controller deletes them an hour after they were approved."""
_METADATA = ("labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp")
_CONTENT = ("spec", "data", "rules", "subjects", "roleRef", "webhooks", "subsets", "endpoints")

Everything = Mapping[tuple[str, str, str], str]
"""Resource, namespace and name, to what is compared, as JSON."""


async def listed(api: rest.Api) -> Everything:
    """All objects now."""
    roots = ["/api/v1"]
    groups = await api.request("GET", "/apis")
    roots += [f"/apis/{one['preferredVersion']['groupVersion']}" for one in groups["groups"]]
    found: dict[tuple[str, str, str], str] = {}
    for items in await asyncio.gather(*(_of_root(api, root) for root in roots)):
        found |= items
    return found


async def _of_root(api: rest.Api, root: str) -> dict[tuple[str, str, str], str]:
    answer = await api.request("GET", root)
    found: dict[tuple[str, str, str], str] = {}
    for resource in answer["resources"]:
        plural = resource["name"]
        if "list" not in resource["verbs"] or plural in _IGNORED:
            continue
        listing = await api.request("GET", f"{root}/{plural}")
        for one in listing["items"]:
            metadata = one["metadata"]
            key = (f"{root}/{plural}", metadata.get("namespace", ""), metadata["name"])
            found[key] = json.dumps(_compared(plural, one), sort_keys=True)
    return found


def _compared(plural: str, one: rest.Object) -> Any:
    if plural in _CHANGING:
        return None
    metadata = {name: one["metadata"].get(name) for name in _METADATA}
    content = {name: one.get(name) for name in _CONTENT}
    if plural == "nodes":
        conditions = (one.get("status") or {}).get("conditions") or ()
        content["conditions"] = sorted([each["type"], each["status"]] for each in conditions)
    return [metadata, content]


async def until_as(api: rest.Api, before: Everything, *, seconds: float = 60) -> None:
    """Wait until all is as before: what controllers derive goes a moment later."""
    deadline = time.monotonic() + seconds
    while difference := differences(before, await listed(api)):
        if time.monotonic() > deadline:
            raise AssertionError("not as before:\n" + "\n".join(difference))
        await asyncio.sleep(1)


def differences(before: Everything, after: Everything) -> list[str]:
    """One line for each object that is new, gone or changed."""
    gone = {key for key in before.keys() - after.keys() if not key[0].endswith(_PASSING)}
    return [
        *(f"new: {key}" for key in sorted(after.keys() - before.keys())),
        *(f"gone: {key}" for key in sorted(gone)),
        *(
            f"changed: {key}\n  {before[key]}\n  {after[key]}"
            for key in sorted(before.keys() & after.keys())
            if before[key] != after[key]
        ),
    ]
