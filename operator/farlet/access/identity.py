"""Who a pod says that it is: its home namespace, uid, node and account, wherever it runs.

A pod reads these four through the downward API. Abroad the kubelet would resolve them to the
mirror's, and a client that asks the home API about the mirror's namespace finds nothing. In
the environment the home values stand as literals; in files the downward API reads them from
annotations that `forge.pod` puts on the mirror, so that no further object is needed. The pod's
name is equal on both sides, and its IPs are truly the mirror's.

Used by every strategy that sends pods abroad as if at home; never by `remote`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from farlet import names
from farlet.access import Change
from farlet.constants import HOME_NAMESPACE, HOME_NODE, HOME_SERVICE_ACCOUNT, HOME_UID, JSON
from farlet.context import Context
from farlet.k8s_types import DownwardAPIItem, EnvVar, Pod, Volume

ANNOTATIONS: Mapping[str, str] = MappingProxyType(
    {
        "metadata.namespace": HOME_NAMESPACE,
        "metadata.uid": HOME_UID,
        "spec.nodeName": HOME_NODE,
        "spec.host": HOME_NODE,  # old name, still converted (`ConvertDownwardAPIFieldLabel`)
        "spec.serviceAccountName": HOME_SERVICE_ACCOUNT,
    }
)
"""Field path -> annotation of the mirror that holds the home value."""


def service_account(pod: Pod) -> str:
    """The pod's account; ServiceAccount admission writes `default` where none is given."""
    return names.service_account(pod.get("spec", {}))


def values(pod: Pod, ctx: Context) -> dict[str, str]:
    """Field path -> home value."""
    home = pod["metadata"]
    node = pod.get("spec", {}).get("nodeName") or ctx.node
    return {
        "metadata.namespace": home["namespace"],
        "metadata.uid": home["uid"],
        "spec.nodeName": node,
        "spec.host": node,
        "spec.serviceAccountName": service_account(pod),
    }


def in_env(
    env: list[EnvVar], known: Mapping[str, str], path: str, changes: list[Change]
) -> list[EnvVar]:
    """Environment whose identity fields are literals, at their places.

    None of the values can hold a `$`, so the kubelet's `$(VAR)` expansion leaves them alone.
    """
    return [
        _literal(entry, known, path, changes) if "valueFrom" in entry else entry for entry in env
    ]


def _literal(entry: EnvVar, known: Mapping[str, str], path: str, changes: list[Change]) -> EnvVar:
    field = _field_path(entry["valueFrom"] or {})
    if field not in known:
        return entry
    changes.append(_rewritten(f"{path}.env[{entry['name']}]", field))
    return {"name": entry["name"], "value": known[field]}


def in_volume(volume: Volume, changes: list[Change]) -> Volume:
    """Volume whose downward API items read identity fields from the mirror's annotations."""
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
            wanted = projection["downwardAPI"].get("items") or []
            items = _items(wanted, f"{path}.projected.downwardAPI", changes)
            if items is not None:
                sources[index] = {"downwardAPI": {**projection["downwardAPI"], "items": items}}
                changed = True
        if changed:
            return {**volume, "projected": {**projected, "sources": sources}}
    return volume


def _items(
    items: list[DownwardAPIItem], path: str, changes: list[Change]
) -> list[DownwardAPIItem] | None:
    """The items rewritten, or `None` where none is an identity field."""
    if not any(_field_path(item) in ANNOTATIONS for item in items):
        return None
    rewritten: list[DownwardAPIItem] = []
    for item in items:
        field = _field_path(item)
        if field in ANNOTATIONS:
            changes.append(_rewritten(f"{path}.items[{item['path']}]", field))
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


def _rewritten(path: str, field: str) -> Change:
    return Change(path, "rewritten", f"{field}: the pod sees its home identity", routine=True)
