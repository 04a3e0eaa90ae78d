"""A pod's identity at home: its namespace, uid, node and ServiceAccount.

A pod reads these four through the downward API. The foreign kubelet would resolve them to the
mirror's, and the home API has no objects in the mirror's namespace. In the environment the home
values become literals; in files the downward API reads them from annotations that `forge.pod` puts
on the mirror, so no further object is required. The pod's name is the same in both clusters, and
its IPs are really the mirror's.

All strategies use this except `remote`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from farlet import names
from farlet.access.changes import ChangeLog
from farlet.constants import HOME_NAMESPACE, HOME_NODE, HOME_SERVICE_ACCOUNT, HOME_UID, JSON
from farlet.context import Context
from farlet.k8s_types import DownwardAPIItem, EnvVar, Pod, Volume

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


def service_account(pod: Pod) -> str:
    """The pod's ServiceAccount; admission sets `default` where the pod names none."""
    return names.service_account(pod["spec"])


def values(pod: Pod, ctx: Context) -> dict[str, str]:
    """Field path -> home value, also for labels and annotations that the mirror does not have.

    The kubelet expands `$(VAR)` in literals; a doubled `$` is one that it keeps.
    """
    home = pod["metadata"]
    node = pod["spec"].get("nodeName") or ctx.node
    kept = {
        f"metadata.{kind}['{key}']": value.replace("$", "$$")
        for kind, found, prefixes in (
            ("labels", home.get("labels"), ctx.keep_labels),
            ("annotations", home.get("annotations"), ctx.keep_annotations),
        )
        for key, value in (found or {}).items()
        if key.startswith(prefixes)
    }
    return {
        **kept,
        "metadata.namespace": home["namespace"],
        "metadata.uid": home["uid"],
        "spec.nodeName": node,
        "spec.host": node,
        "spec.serviceAccountName": service_account(pod),
    }


def in_env(
    env: list[EnvVar], home_values: Mapping[str, str], path: str, changes: ChangeLog
) -> list[EnvVar]:
    """`env` with literals in place of the fields in `home_values`, in the same order."""
    return [
        _literal(entry, home_values, path, changes) if "valueFrom" in entry else entry
        for entry in env
    ]


def _literal(
    entry: EnvVar, home_values: Mapping[str, str], path: str, changes: ChangeLog
) -> EnvVar:
    field = _field_path(entry["valueFrom"] or {})
    if field not in home_values:
        return entry
    _rewritten(changes, f"{path}.env[{entry['name']}]", field)
    return {"name": entry["name"], "value": home_values[field]}


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
    """The rewritten items, or `None` where none is an identity field."""
    if not any(_field_path(item) in ANNOTATIONS for item in items):
        return None
    rewritten: list[DownwardAPIItem] = []
    for item in items:
        field = _field_path(item)
        if field in ANNOTATIONS:
            _rewritten(changes, f"{path}.items[{item['path']}]", field)
            selector = {
                "apiVersion": "v1",
                "fieldPath": f"metadata.annotations['{ANNOTATIONS[field]}']",
            }
            item = cast("DownwardAPIItem", {**item, "fieldRef": selector})
        rewritten.append(item)
    return rewritten


def _field_path(source: Mapping[str, object]) -> str:
    reference = cast("JSON", source.get("fieldRef") or {})
    return str(reference.get("fieldPath", ""))


def _rewritten(changes: ChangeLog, path: str, field: str) -> None:
    changes.rewritten(path, f"{field}: the pod sees its home identity", routine=True)
