"""The manager in the home cluster: installed with the first virtual node, removed with the last.

A manager that was installed in another way (Helm, kustomize) is used and left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.install import manager, other_objects, requests, steps
from farlet.install.connection import CONNECT, HOME_SYSTEM
from farlet.install.waiting import Waiting
from farlet.manager import rollout
from farlet.manager.virtual_node import MANAGED_BY_LABEL, MANAGER, NAME_LABEL
from farlet.planning.api_refusals import AT_HOME

DEPLOYMENT = f"Deployment {HOME_SYSTEM}/{MANAGER}"
PODS = f"{NAME_LABEL}={MANAGER}"
"""Label selector of its pods."""
DEFINITION_SECONDS = 60.0
"""How long an API server may take to serve a new kind of object."""


async def image(home: ApiClient) -> str:
    """The image of the installed manager. Raises `UsageError` if there is none."""
    found = await _deployment(home)
    if found is None:
        raise errors.UsageError(
            "--image is required: set it to the image of farlet that both clusters can pull"
        )
    return rollout.image_of(found)


async def image_of_nodes(home: ApiClient) -> str | None:
    """The image of farlets without one of their own; `None`: a manager of others decides it."""
    found = await _deployment(home)
    return rollout.image_of(found) if found is not None and _is_ours(found) else None


async def verify(home: ApiClient) -> None:
    """Raises `StartError` for a manager in another namespace, whose permissions `install` would
    take over."""
    binding = await requests.find(home, kinds.CLUSTER_ROLE_BINDINGS, MANAGER)
    subjects = (binding or {}).get("subjects") or ()
    others = {one.get("namespace", "") for one in subjects} - {HOME_SYSTEM}
    if others:
        raise errors.StartError(
            f"the home cluster has a manager in the namespace {', '.join(sorted(others))}, as the "
            f"ClusterRoleBinding {MANAGER} shows. farlet connect works with a manager in the "
            f"namespace {HOME_SYSTEM} only. Install it there, or create VirtualNodes as "
            "docs/virtual-nodes.md describes; if that manager is gone: "
            f"{AT_HOME} delete clusterrolebinding {MANAGER}"
        )


async def install(home: ApiClient, image: str, *, waiting: Waiting, seconds: float) -> str:
    """Install it, or another version of it, unless others have installed it.

    Waits `seconds` until its pod is of this version: VirtualNodes then report what it does.
    Returns what runs now.
    """
    found = await _deployment(home)
    if found is not None and not _is_ours(found):
        return (
            f"left unchanged with the image {rollout.image_of(found)}: farlet connect did not "
            "install it"
        )
    namespace = manager.namespace()
    namespace["metadata"]["labels"][MANAGED_BY_LABEL] = CONNECT
    await requests.create_missing(home, namespace)
    definition = manager.custom_resource_definition()
    await _apply(home, definition)
    name = definition["metadata"]["name"]
    async with requests.limit(DEFINITION_SECONDS, lambda: _not_served(name)):
        await requests.until(home, kinds.DEFINITIONS, name, _is_established)
    for obj in manager.objects(image=image):
        await _apply(home, obj)
    await _until_rolled_out(home, image, waiting, seconds)
    if found is not None and rollout.image_of(found) != image:
        return f"{DEPLOYMENT} runs {image} (previously {rollout.image_of(found)})"
    return f"{DEPLOYMENT} runs {image}"


async def remove(home: ApiClient) -> tuple[str, list[str]]:
    """Remove it, its definition and its namespace. Returns what was done; what is left, and why."""
    found = await _deployment(home)
    definition = manager.custom_resource_definition()["metadata"]["name"]
    if found is not None and not _is_ours(found):
        why = f"the manager in the namespace {HOME_SYSTEM}: farlet connect did not install it"
        return "stays", [why]
    for obj in (*reversed(manager.objects(image="")), manager.custom_resource_definition()):
        resource, metadata = kinds.of(obj["kind"]), obj["metadata"]
        where = metadata.get("namespace", "")
        existing = await requests.find(home, resource, metadata["name"], namespace=where)
        if existing is not None and _is_ours(existing):
            await requests.delete(
                home,
                resource,
                metadata["name"],
                namespace=where,
                uid=existing["metadata"]["uid"],
            )
    left = []
    remaining = await requests.find(home, kinds.DEFINITIONS, definition)
    if remaining is not None and not _is_ours(remaining):
        left.append(f"the definition {definition}: it existed before")
    elif remaining is not None:
        await requests.until_gone(home, kinds.DEFINITIONS, definition)
    left += await _remove_namespace(home)
    return f"deleted{'; see what remains' if left else ', with its namespace and definition'}", left


async def _remove_namespace(home: ApiClient) -> list[str]:
    namespace = await requests.find(home, kinds.NAMESPACES, HOME_SYSTEM)
    if namespace is None:
        return []
    if not _is_ours(namespace):
        return [f"the namespace {HOME_SYSTEM}: it existed before"]
    others = await other_objects.of_others(home, HOME_SYSTEM, is_own=_ends_with_manager)
    if others:
        return [f"the namespace {HOME_SYSTEM}: it contains {others}"]
    await requests.delete(home, kinds.NAMESPACES, HOME_SYSTEM, uid=namespace["metadata"]["uid"])
    await requests.until_gone(home, kinds.NAMESPACES, HOME_SYSTEM)
    return []


async def _deployment(home: ApiClient) -> JSON | None:
    return await requests.find(home, kinds.DEPLOYMENTS, MANAGER, namespace=HOME_SYSTEM)


async def _until_rolled_out(home: ApiClient, image: str, waiting: Waiting, seconds: float) -> None:
    def is_done(found: JSON | None) -> bool:
        why = rollout.unfinished(found, image)
        waiting.because(f"{DEPLOYMENT}: {why}" if why else "")
        return not why

    def failure() -> errors.StartError:
        text = f"it is not rolled out after {seconds:g} s: {waiting}. "
        if waiting.lacks_image:
            return no_image(text, image)
        return errors.StartError(f"{text}See `{AT_HOME} describe pods -n {HOME_SYSTEM} -l {PODS}`")

    async with waiting.watching(home, HOME_SYSTEM, PODS), requests.limit(seconds, failure):
        await requests.until(home, kinds.DEPLOYMENTS, MANAGER, is_done, namespace=HOME_SYSTEM)


def no_image(text: str, image: str) -> steps.Different:
    """The error for pods whose image cannot be pulled, which is stored until another is given."""
    return steps.Different(
        f"{text}The home cluster cannot pull the image {image}: push it to a registry that both "
        "clusters can pull from, and run the same command with --image set to its name there"
    )


def _not_served(name: str) -> str:
    return (
        f"the home API server does not serve the definition {name} after {DEFINITION_SECONDS:g} s. "
        f"See `{AT_HOME} describe crd {name}`"
    )


async def _apply(home: ApiClient, obj: JSON) -> None:
    """Create it with the label that says who installed it; one of others never gets the label."""
    metadata = obj["metadata"]
    existing = await requests.find(
        home, kinds.of(obj["kind"]), metadata["name"], namespace=metadata.get("namespace", "")
    )
    is_ours = existing is None or _is_ours(existing)
    await requests.apply(home, [_marked(obj) if is_ours else obj])


def _ends_with_manager(labels: Mapping[str, str]) -> bool:
    """Whether it is an object of connect, or a pod of the manager that ends."""
    return labels.get(MANAGED_BY_LABEL) == CONNECT or labels.get(NAME_LABEL) == MANAGER


def _marked(obj: JSON) -> JSON:
    """With the label that says who installed it."""
    metadata = obj["metadata"]
    labels = {**metadata.get("labels", {}), MANAGED_BY_LABEL: CONNECT}
    return {**obj, "metadata": {**metadata, "labels": labels}}


def _is_ours(obj: JSON) -> bool:
    return (obj["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == CONNECT


def _is_established(definition: JSON | None) -> bool:
    conditions = ((definition or {}).get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
