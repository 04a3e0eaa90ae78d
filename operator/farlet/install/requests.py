"""Requests of an administrator, each of which can be repeated after any interruption."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import JSON
from farlet.install.connection import CONNECT
from farlet.planning.api_refusals import AT_HOME, THERE

T = TypeVar("T")

END_SECONDS = 300.0
"""How long objects that were deleted may take to end."""
SHOWN = 10
"""Objects in a message."""
WATCH_SECONDS = 1.0
"""Between the starts of two watches."""
RETRY_SECONDS = 0.5
BACKGROUND: JSON = {"propagationPolicy": "Background"}
FOREGROUND: JSON = {"propagationPolicy": "Foreground"}


def counted(count: int, what: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def listed(names: Iterable[object]) -> str:
    """The first of them, and the number of the others."""
    all_names = [str(one) for one in names]
    more = f" and {len(all_names) - SHOWN} more" if len(all_names) > SHOWN else ""
    return f"{', '.join(all_names[:SHOWN])}{more}"


async def find(
    cluster: ApiClient, resource: Resource[T], name: str, *, namespace: str = ""
) -> T | None:
    """The object, or `None`, also if the API server does not know the resource."""
    try:
        return await cluster.get(resource, name, namespace=namespace)
    except (errors.NotFound, errors.UnknownPath):
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
    except (errors.NotFound, errors.UnknownPath):
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
        except (errors.NotFound, errors.UnknownPath):
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


async def states(
    cluster: ApiClient, resource: Resource[JSON], *, namespace: str = "", label_selector: str = ""
) -> AsyncIterator[list[JSON]]:
    """The selected objects now and after each change, without an end."""
    while True:
        with contextlib.suppress(errors.Gone, errors.Unreachable, errors.Throttled):
            found = await cluster.list(resource, namespace=namespace, label_selector=label_selector)
            objects = {one["metadata"]["name"]: one for one in found.items}
            yield list(objects.values())
            async for event in cluster.watch(
                resource,
                version=found.version,
                namespace=namespace,
                label_selector=label_selector,
            ):
                if event.kind == "BOOKMARK":
                    continue
                name = event.object["metadata"]["name"]
                objects.pop(name, None)
                if event.kind != "DELETED":
                    objects[name] = event.object
                yield list(objects.values())
        await asyncio.sleep(WATCH_SECONDS)


@contextlib.asynccontextmanager
async def limit(
    seconds: float, failure: Callable[[], str | errors.StartError]
) -> AsyncIterator[None]:
    """Raise this error, or a `StartError` with this text, unless the block ends in time."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        failed = failure()
        raise errors.StartError(failed) if isinstance(failed, str) else failed from None


async def until_gone(
    cluster: ApiClient, resource: Resource[JSON], name: str, *, namespace: str = ""
) -> None:
    """Wait until the object does not exist. Raises `StartError` with its finalizers if it stays."""
    last: JSON | None = None

    def is_gone(obj: JSON | None) -> bool:
        nonlocal last
        last = obj
        return obj is None

    def message() -> str:
        return stuck(cluster, resource, [last] if last is not None else [])

    async with limit(END_SECONDS, message):
        await until(cluster, resource, name, is_gone, namespace=namespace)


async def until_none(
    cluster: ApiClient,
    resource: Resource[Any],
    *,
    namespace: str = "",
    label_selector: str = "",
) -> None:
    """Wait until no object is selected. Raises `StartError` with those that stay."""
    last: list[JSON] = []
    async with limit(END_SECONDS, lambda: stuck(cluster, resource, last)):
        while True:
            found = await cluster.list(
                resource, namespace=namespace, label_selector=label_selector, limit=SHOWN
            )
            last = list(found.items)
            if not last:
                return
            with contextlib.suppress(errors.Gone, errors.Unreachable):
                async for event in cluster.watch(
                    resource,
                    version=found.version,
                    namespace=namespace,
                    label_selector=label_selector,
                ):
                    if event.kind == "DELETED":
                        break
            await asyncio.sleep(RETRY_SECONDS)


def stuck(cluster: ApiClient, resource: Resource[Any], objects: Sequence[JSON]) -> str:
    """What did not end in time, why as far as the objects show it, and what to do."""
    kubectl = AT_HOME if cluster.name == "home" else THERE
    lines, commands = [], []
    for one in objects:
        metadata = one["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace", "")
        finalizers = metadata.get("finalizers") or ()
        why = [f"finalizers {', '.join(finalizers)}"] if finalizers else []
        conditions = (one.get("status") or {}).get("conditions") or ()
        if resource.plural == kinds.NAMESPACES.plural:
            why += [
                c["message"] for c in conditions if c.get("status") == "True" and "message" in c
            ]
        shown = f"{namespace}/{name}" if namespace else name
        lines.append(f"{shown} ({'; '.join(why)})" if why else shown)
        where = f" -n {namespace}" if namespace else ""
        commands.append(f"{kubectl} get {resource.plural} {name}{where} -o yaml")
    if not lines:
        return f"the {cluster.name} API server did not answer in {END_SECONDS:g} s"
    return (
        f"in the {cluster.name} cluster, {resource.plural} did not end in {END_SECONDS:g} s: "
        f"{', '.join(lines)}. Find out what holds them: {commands[0]}; what has a finalizer ends "
        "when the controller that set it has removed it"
    )
