"""How the Node comes into being at home: made, or taken over from an earlier process.

A kubelet does the same (`tryRegisterWithAPIServer`), with two differences: a Node that is no
virtual one is never touched, and what the settings ask for and the server refuses ends the start
instead of being left out, since pods would be placed by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import structlog

from farlet import __version__, errors, k8s_types
from farlet.constants import JSON, VIRTUAL_NODE_LABEL, VIRTUAL_NODE_LABEL_VALUE
from farlet.context import Context
from farlet.forge import node as forge
from farlet.forge import node_restriction
from farlet.forge.capacity import Platform
from farlet.node.home_node import HomeNode
from farlet.settings import Settings

log = structlog.get_logger()


def look(settings: Settings, ctx: Context) -> forge.NodeConfig:
    """What the settings say of the Node."""
    return forge.NodeConfig(
        name=settings.nodename,
        labels=dict(settings.node_labels),
        annotations=dict(settings.node_annotations),
        taints=settings.node_taints,
        provider_id=settings.provider_id,
        machine_id=ctx.virtual_node_id,
        runtime=f"farlet://{__version__}",
        port=None if settings.kubelet_bind_address is None else settings.kubelet_port,
    )


async def register(
    home_node: HomeNode, *, look: forge.NodeConfig, kind: Platform, new: JSON
) -> None:
    """Make the Node, or bring labels, annotations, provider id and taints of the one that exists
    up to date; its status is left to the one who keeps it.

    `new` is the whole of the one to make. Raises `StartError` with what to do; caused by
    `Forbidden`, it may be what a server says that has only just started. Else as `Cluster.call`, of
    which a `Conflict` is worth another try.
    """
    try:
        await home_node.read()
    except errors.NotFound:
        await _create(home_node, look, new)
        return
    except errors.Forbidden as err:
        _forbidden("read", look, err)
    node = home_node.node
    if node is None:
        return  # it went just now
    if not forge.is_virtual(node):
        raise errors.StartError(
            f"the Node {look.name} at home is a real machine, or another program's: it lacks the "
            f"label {VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE}. Give another --nodename; or, "
            "if it was made for farlet, kubectl label node "
            f"{look.name} {VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE}"
        )
    _check_provider(node, look)
    await _adopt(home_node, node, look, kind)
    await _taint(home_node, look)
    log.info("node was taken over", node=look.name, uid=node["metadata"]["uid"])


async def _create(home_node: HomeNode, look: forge.NodeConfig, new: JSON) -> None:
    try:
        await home_node.create(new)
    except errors.Forbidden as err:
        refused = node_restriction.restricted_labels(look.labels)
        if refused and "label" in err.message:
            _labels_refused(look, refused, made=False)
        _forbidden("create", look, err)
    except errors.Invalid as err:
        raise errors.StartError(
            f"the home API server takes no such Node {look.name}: {err.message}. Look at "
            "--nodename, --node-labels, --node-annotations, --node-taints and --provider-id"
        ) from err
    log.info("node was made", node=look.name)


async def _adopt(
    home_node: HomeNode, node: k8s_types.Node, look: forge.NodeConfig, kind: Platform
) -> None:
    body = forge.adoption_patch(node, look, kind)
    if body is None:
        return
    try:
        await home_node.patch(body)
    except errors.Forbidden as err:
        refused = node_restriction.restricted_labels(body["metadata"].get("labels", ()))
        if refused and "label" in err.message:
            _labels_refused(look, refused, made=True)
        _forbidden("patch", look, err)


async def _taint(home_node: HomeNode, look: forge.NodeConfig) -> None:
    node = home_node.node
    missing = forge.missing_taints(node, look) if node is not None else []
    if node is None or not missing:
        return
    try:
        await home_node.patch(forge.taints_patch(node, missing))
    except errors.Forbidden as err:
        if "taints" not in err.message:
            _forbidden("patch", look, err)
        wanted = " ".join(map(str, missing))
        raise errors.StartError(
            f"the Node {look.name} lacks the taints {wanted}, and a node may not change its own "
            f"once it is registered. An administrator can: kubectl taint node {look.name} "
            f"{wanted} --overwrite. Or give --node-taints as the Node has them"
        ) from None


def _check_provider(node: k8s_types.Node, look: forge.NodeConfig) -> None:
    present = node.get("spec", {}).get("providerID", "")
    if look.provider_id is not None and present not in ("", look.provider_id):
        raise errors.StartError(
            f"the Node {look.name} has the provider id {present!r}, which nobody can change to "
            f"{look.provider_id!r}. Give --provider-id as it is; or delete the Node, and with it "
            f"its pods: kubectl delete node {look.name}"
        )


def _labels_refused(look: forge.NodeConfig, refused: Sequence[str], *, made: bool) -> NoReturn:
    labels = " ".join(f"{key}={look.labels.get(key, '')}" for key in refused)
    command = f"kubectl label node {look.name} {labels} --overwrite"
    cure = (
        f"An administrator can: {command}"
        if made
        else f"Start farlet once without them, let an administrator run: {command}, and give them "
        "again"
    )
    raise errors.StartError(
        f"a node may not give itself the labels {', '.join(refused)} of --node-labels. {cure}"
    ) from None


def _forbidden(verb: str, look: forge.NodeConfig, err: errors.Forbidden) -> NoReturn:
    raise errors.StartError(
        f"farlet may not {verb} the Node {look.name} at home: {err.message}. As a node, farlet "
        "may do so for its own only: --nodename must be that of its certificate, "
        "system:node:<nodename>. A ServiceAccount needs the ClusterRole in manifests/home"
    ) from err
