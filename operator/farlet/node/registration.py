"""Registers the Node in the home cluster: creates it, or adopts that of an earlier process.

A kubelet does the same (`tryRegisterWithAPIServer`), with two differences. A Node that is not
virtual is never changed. A setting that the server rejects ends the start instead of being left
out, since the scheduler places pods by these settings.
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
from farlet.planning import api_refusals
from farlet.settings import Settings

log = structlog.get_logger()


def node_config(settings: Settings, ctx: Context) -> forge.NodeConfig:
    """The fields of the Node that settings determine."""
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
    home_node: HomeNode, *, config: forge.NodeConfig, platform: Platform, new: JSON
) -> None:
    """Create the Node, or update labels, annotations, provider ID and taints of an existing one.

    The status of an existing Node is not changed here. `new` is the complete Node to create.
    Raises `StartError` with what to do; if `Forbidden` caused it, the server may just have started.
    Else raises like `Cluster.call`; the caller should retry after a `Conflict`.
    """
    try:
        await home_node.read()
    except errors.NotFound:
        await _create(home_node, config, new)
        return
    except errors.Forbidden as err:
        _raise_forbidden("read", config, err)
    node = home_node.node
    if node is None:
        return  # deleted just now
    check_adoptable(node, config)
    await _adopt(home_node, node, config, platform)
    await _add_taints(home_node, config)
    log.info("node adopted", node=config.name, uid=node["metadata"]["uid"])


async def _create(home_node: HomeNode, config: forge.NodeConfig, new: JSON) -> None:
    try:
        await home_node.create(new)
    except errors.Forbidden as err:
        restricted = node_restriction.restricted_labels(config.labels)
        if restricted and "label" in err.message:
            _raise_labels_not_allowed(config, restricted, exists=False)
        _raise_forbidden("create", config, err)
    except errors.Invalid as err:
        raise errors.StartError(
            f"the home API server rejected the Node {config.name}: {err.message}. Check "
            "--nodename, --node-labels, --node-annotations, --node-taints and --provider-id"
        ) from err
    log.info("node created", node=config.name)


async def _adopt(
    home_node: HomeNode, node: k8s_types.Node, config: forge.NodeConfig, platform: Platform
) -> None:
    body = forge.adoption_patch(node, config, platform)
    if body is None:
        return
    try:
        await home_node.patch(body)
    except errors.Forbidden as err:
        restricted = node_restriction.restricted_labels(body["metadata"].get("labels", ()))
        if restricted and "label" in err.message:
            _raise_labels_not_allowed(config, restricted, exists=True)
        _raise_forbidden("patch", config, err)


async def _add_taints(home_node: HomeNode, config: forge.NodeConfig) -> None:
    node = home_node.node
    missing = forge.missing_taints(node, config) if node is not None else []
    if node is None or not missing:
        return
    try:
        await home_node.patch(forge.taints_patch(node, missing))
    except errors.Forbidden as err:
        if "taints" not in err.message:
            _raise_forbidden("patch", config, err)
        taints = " ".join(map(str, missing))
        raise errors.StartError(
            f"the Node {config.name} lacks the taints {taints}, and a registered node is not "
            "allowed to change its taints. Ask an administrator to run: kubectl taint node "
            f"{config.name} {taints} --overwrite. Or set --node-taints to the Node's taints"
        ) from None


def check_adoptable(node: k8s_types.Node, config: forge.NodeConfig) -> None:
    """Raises `StartError` for a Node that farlet must not or cannot adopt."""
    if not forge.is_virtual(node):
        raise errors.StartError(
            f"the Node {config.name} in the home cluster is a real machine or belongs to another "
            f"program: it lacks the label {VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE}. Set "
            "another --nodename; or, if the Node was created for farlet, run kubectl label node "
            f"{config.name} {VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE}"
        )
    present = node.get("spec", {}).get("providerID", "")
    if config.provider_id is not None and present not in ("", config.provider_id):
        raise errors.StartError(
            f"the Node {config.name} has the provider ID {present!r}, which cannot be changed to "
            f"{config.provider_id!r}. Set --provider-id to this ID; or delete the Node and its "
            f"pods: kubectl delete node {config.name}"
        )


def _raise_labels_not_allowed(
    config: forge.NodeConfig, labels: Sequence[str], *, exists: bool
) -> NoReturn:
    values = " ".join(f"{key}={config.labels.get(key, '')}" for key in labels)
    command = f"kubectl label node {config.name} {values} --overwrite"
    fix = (
        f"Ask an administrator to run: {command}"
        if exists
        else f"Start farlet once without them, ask an administrator to run: {command}, and set "
        "them again"
    )
    raise errors.StartError(
        f"a node is not allowed to set the labels {', '.join(labels)} of --node-labels on its own "
        f"Node. {fix}"
    ) from None


def _raise_forbidden(verb: str, config: forge.NodeConfig, err: errors.Forbidden) -> NoReturn:
    if (other := api_refusals.denied_to_other_node(err, node=config.name)) is not None:
        raise errors.StartError(other) from err
    raise errors.StartError(
        f"farlet is not allowed to {verb} the Node {config.name} in the home cluster: "
        f"{err.message}. A ServiceAccount needs the ClusterRole in manifests/home; farlet connect "
        "--identity service-account creates it"
    ) from err
