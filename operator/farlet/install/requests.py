"""Requests of an administrator, each of which can be repeated after any interruption."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import JSON
from farlet.install.connection import CONNECT

T = TypeVar("T")

WATCH_SECONDS = 1.0
"""Between the starts of two watches."""
RETRY_SECONDS = 0.5
BACKGROUND: JSON = {"propagationPolicy": "Background"}
FOREGROUND: JSON = {"propagationPolicy": "Foreground"}


async def find(
    cluster: ApiClient, resource: Resource[T], name: str, *, namespace: str = ""
) -> T | None:
    """The object, or `None`, also where the API server does not know the resource."""
    try:
        return await cluster.get(resource, name, namespace=namespace)
    except errors.NotFound:
        return None


async def create_missing(cluster: ApiClient, obj: JSON) -> bool:
    """Create the object unless one of its name exists, which stays as it is.

    Returns whether it was created.
    """
    metadata = obj["metadata"]
    try:
        await cluster.create(kinds.of(obj["kind"]), obj, namespace=metadata.get("namespace", ""))
    except errors.Conflict as err:
        if not err.already_exists:
            raise
        return False
    return True


async def apply(cluster: ApiClient, objects: Iterable[JSON]) -> None:
    """Server-side apply, one by one."""
    for obj in objects:
        metadata = obj["metadata"]
        await cluster.apply(
            kinds.of(obj["kind"]),
            metadata["name"],
            obj,
            namespace=metadata.get("namespace", ""),
            manager=CONNECT,
        )


async def delete(
    cluster: ApiClient,
    resource: Resource[T],
    name: str,
    *,
    namespace: str = "",
    uid: str = "",
    options: JSON = BACKGROUND,
) -> bool:
    """Delete the object of this uid, or of any. Returns whether there was one."""
    body = {**options, "preconditions": {"uid": uid}} if uid else options
    try:
        await cluster.delete(resource, name, body, namespace=namespace)
    except errors.NotFound:
        return False
    except errors.Conflict:
        return False  # another object has this name now
    return True


async def until(
    cluster: ApiClient,
    resource: Resource[JSON],
    name: str,
    holds: Callable[[JSON | None], bool],
    *,
    namespace: str = "",
) -> JSON | None:
    """Wait until the object is as wanted; `holds` is called with each state of it.

    An API server that does not know the resource yet has no such object.
    """
    while True:
        try:
            found = await cluster.list(
                resource, namespace=namespace, field_selector=f"metadata.name={name}"
            )
        except errors.NotFound:
            if holds(None):
                return None
            await asyncio.sleep(RETRY_SECONDS)
            continue
        obj = found.items[0] if found.items else None
        if holds(obj):
            return obj
        try:
            async for event in cluster.watch_object(
                resource, name, version=found.version, namespace=namespace, at_least=WATCH_SECONDS
            ):
                if event.kind == "BOOKMARK":
                    continue
                obj = None if event.kind == "DELETED" else event.object
                if holds(obj):
                    return obj
        except (errors.Gone, errors.Unreachable):
            await asyncio.sleep(RETRY_SECONDS)


async def until_gone(
    cluster: ApiClient, resource: Resource[JSON], name: str, *, namespace: str = ""
) -> None:
    """Wait until there is no such object."""
    await until(cluster, resource, name, lambda obj: obj is None, namespace=namespace)


async def until_none(
    cluster: ApiClient,
    resource: Resource[Any],
    *,
    namespace: str = "",
    label_selector: str = "",
) -> None:
    """Wait until no object is selected."""
    while True:
        found = await cluster.list(
            resource, namespace=namespace, label_selector=label_selector, limit=1
        )
        if not found.items:
            return
        with contextlib.suppress(errors.Gone, errors.Unreachable):
            async for event in cluster.watch(
                resource,
                version=found.version,
                namespace=namespace,
                label_selector=label_selector,
                opened=lambda: None,
            ):
                if event.kind == "DELETED":
                    break
        await asyncio.sleep(RETRY_SECONDS)
