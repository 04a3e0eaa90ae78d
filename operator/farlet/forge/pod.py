"""Computes the mirror of a home pod, without I/O.

A mirror consists of farlet's own metadata with the user's labels and annotations, and of the home
pod's spec, cleaned by the table in `fields` and then shaped by the pod's access strategy. `plan`
decides *when* a mirror is created. Nothing here changes the home pod, which other readers of the
store share: values that are not rewritten are shared between pod and mirror.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from farlet import names
from farlet.access import AccessStrategy
from farlet.access.changes import Change, ChangeLog
from farlet.access.identity import LAST_APPLIED, STATIC_POD
from farlet.constants import (
    ACCESS,
    ACCESS_MODE,
    APPLIED,
    FOREIGN_POD_IP,
    HOME_API,
    HOME_NAME,
    HOME_NAMESPACE,
    HOME_NODE,
    HOME_SERVICE_ACCOUNT,
    HOME_UID,
    OBSERVED,
    REMOTE,
    RESERVED,
    RESTARTS,
    TOKENS,
    TOPOLOGY_LABELS,
    VIRTUAL_NODE_ID,
    Reason,
)
from farlet.context import Context
from farlet.errors import Refused
from farlet.forge import (
    applied,
    claims,
    copies,
    fields,
    guards,
    mirror_patch,
    restart_policies,
    scc,
)
from farlet.k8s_types import NewObjectMeta, NewPod, ObjectMeta, OwnerReference, Pod
from farlet.names import mirror_name, secret_name

__all__ = ["Carried", "Forged", "carried", "forge_mirror", "mirror_name", "secret_name"]

NO_CLAIMS: Mapping[str, str] = MappingProxyType({})

_UID_LENGTH = 36
_LONGEST_FILE_NAME = 255


@dataclass(frozen=True, slots=True)
class Forged:
    """A mirror, and its differences from the home pod."""

    pod: NewPod
    changes: tuple[Change, ...] = ()
    unknown_fields: tuple[str, ...] = ()
    """PodSpec fields newer than farlet's table; they were copied."""


def foreign_namespace(namespace: str, ctx: Context) -> str:
    """The foreign namespace of a home namespace. Raises `Refused` if there is none."""
    found = ctx.namespaces.foreign(namespace)
    if found is None:
        raise Refused(
            Reason.NAMESPACE_NOT_OFFLOADED,
            f"namespace {namespace} is not offloaded to the foreign cluster. Keep the pod off this "
            f"node, or add it to spec.namespaces.map of the VirtualNode, or with --namespace-map="
            f"{namespace}=<foreign namespace>",
        )
    return found


def forge_mirror(
    pod: Pod,
    *,
    strategy: AccessStrategy,
    ctx: Context,
    anchor: OwnerReference | None,
    token_times: Mapping[str, tuple[float, float]],
    restarts: Mapping[str, int],
    foreign_claims: Mapping[str, str] = NO_CLAIMS,
) -> Forged:
    """The mirror of a home pod.

    `anchor` is the controller that keeps foreign ReplicaSets from adopting the mirror.
    `token_times` maps `TokenSpec.key` to (issued, expires) in epoch seconds; `restarts` maps
    container names to the restarts of earlier mirrors, `foreign_claims` claims of the pod to those
    in the foreign cluster (empty without `--storage-class-map`). Raises `Refused` for a pod that
    cannot have a mirror: for its namespace, a guarded feature, or its API access.
    """
    home = pod["metadata"]
    namespace = foreign_namespace(home["namespace"], ctx)
    _check_log_directory(namespace, home["name"])
    guards.check(pod, strategy.name, ctx)
    spec, changes, unknown = fields.clean(pod, ctx)
    for path, why in guards.refused_ephemeral(pod, ctx):
        changes.dropped(path, why)
    spec = scc.without_ranges(spec, pod, ctx, changes)
    spec = copies.rewritten(spec, home["namespace"], ctx, changes)
    spec = claims.rewritten(spec, home["name"], foreign_claims, changes)
    mutation = strategy.mutate(spec, pod, ctx)
    labels = _labels(home, strategy.name, ctx, changes)
    spec, labels = mirror_patch.apply(mutation.spec, labels, ctx.mirror_patch, changes)
    metadata: NewObjectMeta = {
        "name": mirror_name(home["name"]),
        "namespace": namespace,
        "labels": labels,
        "annotations": _annotations(pod, strategy.name, ctx, changes),
    }
    if mutation.home_api:
        metadata["annotations"][HOME_API] = mutation.home_api
    if token_times:
        metadata["annotations"][TOKENS] = _compact({k: list(v) for k, v in token_times.items()})
    if restarts:
        metadata["annotations"][RESTARTS] = _compact(dict(restarts))
    record = applied.record(
        pod,
        mirror=1,
        labels=_own_keys(labels, ctx.mirror_patch.labels),
        annotations=_own_keys(metadata["annotations"]),
    )
    encoded = applied.encoded(record)
    if encoded is not None:
        metadata["annotations"][APPLIED] = encoded
    if anchor is not None:
        metadata["ownerReferences"] = [anchor]
    if restart_policies.can_end(pod["spec"]):
        metadata["finalizers"] = [OBSERVED]
    return Forged(
        pod={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        changes=(*changes, *mutation.changes),
        unknown_fields=unknown,
    )


class Carried(NamedTuple):
    """Labels and annotations that a mirror has from its home pod, without farlet's own."""

    labels: dict[str, str]
    annotations: dict[str, str]


def carried(pod: Pod, *, access: str, ctx: Context) -> Carried:
    """What the mirror should have of the home pod as it is now.

    `--mirror-patch` keeps the labels that it sets.
    """
    unreported = ChangeLog()
    labels = _labels(pod["metadata"], access, ctx, unreported)
    annotations = _annotations(pod, access, ctx, unreported)
    return Carried(
        {key: labels[key] for key in _own_keys(labels, ctx.mirror_patch.labels)},
        {key: annotations[key] for key in _own_keys(annotations)},
    )


def _own_keys(found: Mapping[str, str], patched: Collection[str] = ()) -> list[str]:
    return [key for key in found if not (key.startswith(RESERVED) or key in patched)]


def _check_log_directory(namespace: str, name: str) -> None:
    """A kubelet names a directory NAMESPACE_NAME_UID, and file systems allow 255 bytes
    (`BuildPodLogsDirectory` in `pkg/kubelet/kuberuntime/helpers.go`). A foreign namespace usually
    has a longer name than the home namespace.
    """
    over = len(namespace) + len(name) + _UID_LENGTH + 2 - _LONGEST_FILE_NAME
    if over > 0:
        raise Refused(
            Reason.UNSUPPORTED_POD,
            f"the names of the pod and of the foreign namespace {namespace} are together {over} "
            "characters too long for the log directory of a kubelet, so no container would start. "
            "Give the pod or its controller a shorter name, or the foreign namespace with "
            "--namespace-map",
        )


def _labels(home: ObjectMeta, access: str, ctx: Context, changes: ChangeLog) -> dict[str, str]:
    """The user's labels, and those by which farlet and foreign NetworkPolicies select mirrors."""
    original = home.get("labels") or {}
    labels = {key: value for key, value in original.items() if not key.startswith(RESERVED)}
    if len(labels) != len(original):
        _report_reserved("labels", original.keys() - labels.keys(), changes)
    if access != REMOTE:
        labels = _without_kept(labels, ctx.keep_labels, "labels", changes)
    for key in sorted(TOPOLOGY_LABELS & labels.keys()):
        del labels[key]
        why = "the foreign API server sets it to that of the foreign node"
        changes.dropped(f"metadata.labels[{key}]", why, routine=True)
    labels[VIRTUAL_NODE_ID] = ctx.virtual_node_id
    labels[ACCESS_MODE] = access
    return labels


def _annotations(pod: Pod, access: str, ctx: Context, changes: ChangeLog) -> dict[str, str]:
    """The user's annotations, including those of `liqo.io/`, and farlet's own about the home pod.

    `last-applied-configuration` is dropped: it describes another object in another namespace, and
    `kubectl apply` in the foreign cluster would act on it. So are the annotations of static pods:
    a server refuses them without nodeName, and a kubelet would not run the mirror.
    """
    home = pod["metadata"]
    original = home.get("annotations") or {}
    annotations = {}
    for key, value in original.items():
        if key.startswith(RESERVED):
            if key != FOREIGN_POD_IP:  # farlet's own
                _report_reserved("annotations", {key}, changes)
        elif key.startswith(STATIC_POD):
            why = "kubelets would take the mirror for a static pod and not run it"
            changes.dropped(f"metadata.annotations[{key}]", why)
        elif key == LAST_APPLIED:
            why = "it describes the home pod, not the mirror"
            changes.dropped(f"metadata.annotations[{key}]", why, routine=True)
        else:
            annotations[key] = value
    if access != REMOTE:
        annotations = _without_kept(annotations, ctx.keep_annotations, "annotations", changes)
    spec = pod["spec"]
    annotations[HOME_NAMESPACE] = home["namespace"]
    annotations[HOME_NAME] = home["name"]
    annotations[HOME_UID] = home["uid"]
    annotations[HOME_NODE] = spec.get("nodeName") or ctx.node
    annotations[HOME_SERVICE_ACCOUNT] = names.service_account(spec)
    annotations[ACCESS] = access
    return annotations


def _without_kept(
    original: dict[str, str], prefixes: tuple[str, ...], where: str, changes: ChangeLog
) -> dict[str, str]:
    """What controllers of the foreign cluster do not see, unless the pod is one of theirs."""
    why = f"controllers of the foreign cluster could act on it (--keep-{where})"
    rest = {}
    for key, value in original.items():
        if key.startswith(prefixes):
            changes.dropped(f"metadata.{where}[{key}]", why)
        else:
            rest[key] = value
    return rest


def _report_reserved(where: str, keys: set[str], changes: ChangeLog) -> None:
    for key in sorted(keys):
        changes.dropped(f"metadata.{where}[{key}]", f"{RESERVED} is reserved for farlet")


def _compact(value: dict[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
