"""A pod's identity at home: its namespace, uid, node and ServiceAccount.

A pod reads these four through the downward API. The foreign kubelet would resolve them to the
mirror's, and the home API has no objects in the mirror's namespace. In the environment the home
values become literals; in files the downward API reads them from annotations that `forge.pod` puts
on the mirror, so no further object is required. The pod's name is the same in both clusters, and
its IPs are really the mirror's. Labels and annotations that the mirror lacks become literals, too;
those in files are the subject of `metadata_files`.

All strategies use this except `remote`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from farlet import names
from farlet.access.changes import ChangeLog
from farlet.constants import (
    FOREIGN_POD_IP,
    HOME_NAMESPACE,
    HOME_NODE,
    HOME_SERVICE_ACCOUNT,
    HOME_UID,
    JSON,
    RESERVED,
    TOPOLOGY_LABELS,
)
from farlet.context import Context
from farlet.k8s_types import DownwardAPIItem, EnvVar, ObjectMeta, Pod, PodSpec, Volume

ANNOTATIONS: Mapping[str, str] = MappingProxyType(
    {
        "metadata.namespace": HOME_NAMESPACE,
        "metadata.uid": HOME_UID,
        "spec.nodeName": HOME_NODE,
        "spec.host": HOME_NODE,  # its former name, still converted (`ConvertDownwardAPIFieldLabel`)
        "spec.serviceAccountName": HOME_SERVICE_ACCOUNT,
    }
)
"""Field path -> annotation of the mirror that holds the home value."""

_OF_THE_MIRROR: Mapping[str, str] = MappingProxyType(
    {
        "status.hostIP": "the address of the foreign node",
        "status.hostIPs": "the addresses of the foreign node",
        "status.podIP": "the address of the mirror in the foreign cluster",
        "status.podIPs": "the addresses of the mirror in the foreign cluster",
    }
)
"""Field path -> what a pod reads there: the addresses that its processes really have."""

STATIC_POD = "kubernetes.io/config."
"""Prefix of the annotations by which kubelets recognize static pods and their mirror pods."""
CONFIG_SEEN = "kubernetes.io/config.seen"
CONFIG_SOURCE = "kubernetes.io/config.source"
"""Annotations that a kubelet adds to every pod in its own memory (pkg/kubelet/config)."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def service_account(pod: Pod) -> str:
    """The pod's ServiceAccount; admission sets `default` if the pod names none."""
    return names.service_account(pod["spec"])


def value(field: str, pod: Pod, ctx: Context) -> str | None:
    """The home value of a field path; `None` if the mirror's own field is right."""
    if key_differs(field, ctx):
        return key_value(field, pod["metadata"])
    match field:
        case "metadata.namespace":
            return pod["metadata"]["namespace"]
        case "metadata.uid":
            return pod["metadata"]["uid"]
        case "spec.nodeName" | "spec.host":
            return pod["spec"].get("nodeName") or ctx.node
        case "spec.serviceAccountName":
            return service_account(pod)
    return None


def key_differs(field: str, ctx: Context) -> bool:
    """Whether `field` is one label or annotation that the mirror lacks, or has with another value.

    `forge.pod` decides which those are; a test compares the two.
    """
    match subscript(field):
        case "metadata.labels", key:
            stays = key.startswith((RESERVED, *ctx.keep_labels)) or key in TOPOLOGY_LABELS
            return stays or key in ctx.mirror_patch.labels
        case "metadata.annotations", key:
            stays = key.startswith((RESERVED, STATIC_POD, *ctx.keep_annotations))
            return (stays or key == LAST_APPLIED) and key not in {CONFIG_SEEN, CONFIG_SOURCE}
    return False


def key_value(field: str, home: ObjectMeta) -> str:
    """The value of one label or annotation of the home pod; empty if it has none, as in a
    kubelet. farlet's own annotation on the home pod is not one of the pod.
    """
    kind, key = subscript(field) or ("", "")
    found = home.get("labels") if kind == "metadata.labels" else home.get("annotations")
    return "" if key == FOREIGN_POD_IP else (found or {}).get(key, "")


def subscript(field: str) -> tuple[str, str] | None:
    """Map and key of a path such as `metadata.labels['app']`, else `None`.

    As `SplitMaybeSubscriptedPath` in pkg/fieldpath reads it.
    """
    if not field.endswith("']"):
        return None
    path, separator, key = field.removesuffix("']").partition("['")
    return (path, key) if path and separator else None


def in_env(
    env: list[EnvVar], pod: Pod, ctx: Context, path: str, changes: ChangeLog
) -> list[EnvVar]:
    """`env` with literals in place of fields whose home value differs, in the same order."""
    return [
        _literal(entry, pod, ctx, path, changes) if "valueFrom" in entry else entry for entry in env
    ]


def _literal(entry: EnvVar, pod: Pod, ctx: Context, path: str, changes: ChangeLog) -> EnvVar:
    field = field_path(entry["valueFrom"] or {})
    found = value(field, pod, ctx)
    if found is None:
        if field in _OF_THE_MIRROR:
            why = f"{field} is {_OF_THE_MIRROR[field]}"
            changes.unchanged(f"{path}.env[{entry['name']}]", why, routine=True)
        return entry
    _rewritten(changes, f"{path}.env[{entry['name']}]", field)
    # The kubelet expands `$(VAR)` in literals; a doubled `$` is one that it keeps.
    return {"name": entry["name"], "value": found.replace("$", "$$")}


def report_to_drivers(spec: PodSpec, pod: Pod, ctx: Context, changes: ChangeLog) -> None:
    """Reports what the CSI drivers of a pod's volumes can learn of it (`podInfoOnMount`).

    A kubelet gives them the identity of the pod that it runs (`getPodInfoAttrs` in pkg/volume/csi),
    which is the mirror. Only a volume in the pod itself names its driver.
    """
    foreign = ctx.namespaces.foreign(pod["metadata"]["namespace"])
    for volume in spec.get("volumes") or ():
        for kind in ("csi", "persistentVolumeClaim", "ephemeral"):
            if kind in volume:
                changes.unchanged(
                    f"spec.volumes[{volume['name']}].{kind}",
                    "a CSI driver that asks for the identity of the pod (podInfoOnMount) gets "
                    f"namespace {foreign}, the mirror's uid and the ServiceAccount default",
                    routine=kind != "csi",
                )


def in_volume(volume: Volume, changes: ChangeLog) -> Volume:
    """The volume, with identity fields of the downward API read from the mirror's annotations."""
    path = f"spec.volumes[{volume['name']}]"
    if "downwardAPI" in volume:
        source = volume["downwardAPI"]
        items = _items(source.get("items") or [], f"{path}.downwardAPI", changes)
        if items is not None:
            return cast("Volume", {**volume, "downwardAPI": {**source, "items": items}})
    elif "projected" in volume:
        projected = volume["projected"]
        sources = list(projected.get("sources") or ())
        changed = False
        for index, projection in enumerate(sources):
            if "downwardAPI" not in projection:
                continue
            original = projection["downwardAPI"].get("items") or []
            items = _items(original, f"{path}.projected.downwardAPI", changes)
            if items is not None:
                sources[index] = {"downwardAPI": {**projection["downwardAPI"], "items": items}}
                changed = True
        if changed:
            return {**volume, "projected": {**projected, "sources": sources}}
    return volume


def _items(
    items: list[DownwardAPIItem], path: str, changes: ChangeLog
) -> list[DownwardAPIItem] | None:
    """The rewritten items, or `None` if none is an identity field."""
    if not any(field_path(item) in ANNOTATIONS for item in items):
        return None
    rewritten: list[DownwardAPIItem] = []
    for item in items:
        field = field_path(item)
        if field in ANNOTATIONS:
            _rewritten(changes, f"{path}.items[{item['path']}]", field)
            selector = {
                "apiVersion": "v1",
                "fieldPath": f"metadata.annotations['{ANNOTATIONS[field]}']",
            }
            item = cast("DownwardAPIItem", {**item, "fieldRef": selector})
        rewritten.append(item)
    return rewritten


def field_path(source: Mapping[str, object]) -> str:
    """The field path of a `fieldRef`; empty for a source of another kind."""
    reference = cast("JSON", source.get("fieldRef") or {})
    return str(reference.get("fieldPath", ""))


def _rewritten(changes: ChangeLog, path: str, field: str) -> None:
    changes.rewritten(path, f"{field}: the pod sees its home identity", routine=True)
