"""From a home pod to its mirror: everything but the I/O.

A mirror is made of three things: metadata of our own with the user's labels and annotations,
the spec cleaned by the table in `fields`, and that spec shaped by the strategy which gives the
pod its API. This room decides nothing about *when* a mirror is made (`plan` does) and asks no
server. It never changes the home pod, which lives in a store that others read: whatever is not
rewritten is shared between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from farlet import names
from farlet.access import AccessStrategy, Change
from farlet.constants import (
    ACCESS,
    FOREIGN_POD_IP,
    HOME_API,
    HOME_NAME,
    HOME_NAMESPACE,
    HOME_NODE,
    HOME_SERVICE_ACCOUNT,
    HOME_UID,
    OBSERVED,
    RESTARTS,
    TOKENS,
    VIRTUAL_NODE_ID,
    Reason,
)
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import fields, guards
from farlet.k8s_types import ObjectMeta, OwnerReference, Pod
from farlet.names import mirror_name, secret_name

__all__ = ["Forged", "forge_mirror", "mirror_name", "secret_name"]

RESERVED = "farlet.io/"
"""Prefix of labels and annotations that mean something to farlet."""

STATIC_POD = "kubernetes.io/config."
"""Prefix of the annotations by which kubelets know static pods and their mirror pods."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Forged:
    """A mirror, and in what it differs from its home pod."""

    pod: Pod
    changes: tuple[Change, ...] = ()
    unknown_fields: tuple[str, ...] = ()
    """PodSpec fields newer than farlet's table; they were copied."""


def forge_mirror(
    pod: Pod,
    *,
    strategy: AccessStrategy,
    ctx: Context,
    anchor: OwnerReference | None,
    token_times: Mapping[str, tuple[float, float]],
    restarts: Mapping[str, int],
) -> Forged:
    """The mirror of a home pod.

    `anchor` is the controller that keeps foreign ReplicaSets from adopting the mirror.
    `token_times` maps `Claim.key` to (issued, expires) in epoch seconds; `restarts` maps
    container names to the restarts of earlier mirrors. Raises `Refused` for a pod that cannot
    go abroad as it is: its namespace, what it asks of the node, or its API access.
    """
    home = pod["metadata"]
    namespace = ctx.namespaces.foreign(home["namespace"])
    if namespace is None:
        raise Refused(
            Reason.NAMESPACE_NOT_OFFLOADED,
            f"namespace {home['namespace']} is not offloaded to the foreign cluster. Keep the pod "
            f"off this node, or have farlet started with --namespace-map="
            f"{home['namespace']}=<foreign namespace>",
        )
    guards.check(pod, ctx)
    spec, changes, unknown = fields.clean(pod, ctx)
    mutation = strategy.mutate(spec, pod, ctx)
    metadata: ObjectMeta = {
        "name": mirror_name(home["name"]),
        "namespace": namespace,
        "labels": _labels(home, ctx, changes),
        "annotations": _annotations(pod, strategy.name, ctx, changes),
    }
    if mutation.home_api:
        metadata["annotations"][HOME_API] = mutation.home_api
    if token_times:
        metadata["annotations"][TOKENS] = _compact({k: list(v) for k, v in token_times.items()})
    if restarts:
        metadata["annotations"][RESTARTS] = _compact(dict(restarts))
    if anchor is not None:
        metadata["ownerReferences"] = [anchor]
    if pod.get("spec", {}).get("restartPolicy", "Always") != "Always":
        metadata["finalizers"] = [OBSERVED]
    return Forged(
        pod={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": mutation.spec},
        changes=(*changes, *mutation.changes),
        unknown_fields=unknown,
    )


def _labels(home: ObjectMeta, ctx: Context, changes: list[Change]) -> dict[str, str]:
    """The user's labels and the one that we select by."""
    wanted = home.get("labels") or {}
    labels = {key: value for key, value in wanted.items() if not key.startswith(RESERVED)}
    if len(labels) != len(wanted):
        _report_reserved("labels", wanted.keys() - labels.keys(), changes)
    labels[VIRTUAL_NODE_ID] = ctx.virtual_node_id
    return labels


def _annotations(pod: Pod, access: str, ctx: Context, changes: list[Change]) -> dict[str, str]:
    """The user's annotations, those of `liqo.io/` included, and where the mirror comes from.

    `last-applied-configuration` stays at home: it describes another object, in another
    namespace, and a `kubectl apply` abroad would act on it. So do the marks of static pods: a
    server refuses them without nodeName, and a kubelet would not run the mirror.
    """
    home = pod["metadata"]
    wanted = home.get("annotations") or {}
    annotations = {}
    for key, value in wanted.items():
        if key.startswith(RESERVED):
            if key != FOREIGN_POD_IP:  # written by us
                _report_reserved("annotations", {key}, changes)
        elif key.startswith(STATIC_POD):
            why = "kubelets would take the mirror for a static pod and not run it"
            changes.append(Change(f"metadata.annotations[{key}]", "dropped", why))
        elif key == LAST_APPLIED:
            why = "it describes the home pod, not the mirror"
            changes.append(Change(f"metadata.annotations[{key}]", "dropped", why, routine=True))
        else:
            annotations[key] = value
    spec = pod.get("spec", {})
    annotations[HOME_NAMESPACE] = home["namespace"]
    annotations[HOME_NAME] = home["name"]
    annotations[HOME_UID] = home["uid"]
    annotations[HOME_NODE] = spec.get("nodeName") or ctx.node
    annotations[HOME_SERVICE_ACCOUNT] = names.service_account(spec)
    annotations[ACCESS] = access
    return annotations


def _report_reserved(where: str, keys: set[str], changes: list[Change]) -> None:
    changes.extend(
        Change(f"metadata.{where}[{key}]", "dropped", f"{RESERVED} is reserved for farlet")
        for key in sorted(keys)
    )


def _compact(value: dict[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
