"""Removes API access from the volumes and mounts of a pod with access mode `disabled`."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farlet import redaction
from farlet.access.changes import ChangeLog
from farlet.access.volumes import NAMESPACE_FIELD, audience, ca_items, is_root_ca, sub_path
from farlet.constants import KUBE_ROOT_CA
from farlet.k8s_types import ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection


@dataclass(frozen=True, slots=True)
class Removal:
    """Volumes without API access, and what was removed from them."""

    volumes: list[Volume]
    removed: frozenset[str]
    """Names of volumes that were removed as a whole."""
    files: Mapping[str, frozenset[str]]
    """Volume name -> normal paths of files that were removed from it."""

    def remaining_mounts(
        self, mounts: Sequence[VolumeMount], path: str, changes: ChangeLog
    ) -> list[VolumeMount]:
        """The mounts whose volume or file still exists."""
        kept = []
        for mount in mounts:
            name = mount["name"]
            file = sub_path(mount)
            if name in self.removed or file in self.files.get(name, ()):
                changes.dropped(
                    f"{path}.volumeMounts[{mount['mountPath']}]",
                    "the pod's access mode is disabled; what it mounted was removed",
                    routine=True,
                )
            else:
                kept.append(mount)
        return kept


def without_access(volumes: Sequence[Volume], changes: ChangeLog) -> Removal:
    """Volumes without token sources, and without the CA and namespace beside them.

    A volume with nothing else is removed as a whole: an empty directory where client libraries
    look for their token would confuse them. `kube-root-ca.crt` without a token is public and stays.
    """
    kept: list[Volume] = []
    removed: set[str] = set()
    files: dict[str, frozenset[str]] = {}
    for volume in volumes:
        sources = volume.get("projected", {}).get("sources") or []
        tokens = [s["serviceAccountToken"] for s in sources if "serviceAccountToken" in s]
        path = f"spec.volumes[{volume['name']}]"
        if not tokens:
            if is_root_ca(volume.get("configMap")) or any(
                is_root_ca(s.get("configMap")) for s in sources
            ):
                why = f"{KUBE_ROOT_CA} is the foreign cluster's in access mode disabled"
                changes.unchanged(path, why)
            kept.append(volume)
            continue
        rest = [
            source
            for source in sources
            if "serviceAccountToken" not in source and not is_root_ca(source.get("configMap"))
        ]
        why, usual = _why(tokens)
        if all(_only_namespace(source) for source in rest):
            removed.add(volume["name"])
            changes.dropped(path, why, routine=usual)
            continue
        certificates = (
            item["path"]
            for source in sources
            if is_root_ca(source.get("configMap"))
            for item in ca_items(source["configMap"])
        )
        paths = [*certificates, *(token["path"] for token in tokens)]
        files[volume["name"]] = frozenset(map(posixpath.normpath, paths))
        changes.dropped(f"{path}.projected.sources", why, routine=usual)
        kept.append({**volume, "projected": {**volume["projected"], "sources": rest}})
    return Removal(volumes=kept, removed=frozenset(removed), files=files)


def _why(tokens: Sequence[ServiceAccountTokenProjection]) -> tuple[str, bool]:
    """Why tokens are removed, and whether that is routine.

    A token for another audience, such as a cloud's, is one that the pod's other variables name.
    """
    why = "the pod's access mode is disabled"
    audiences = [found for token in tokens if (found := audience(token)) is not None]
    if not audiences:
        return why, True
    shown = redaction.some([redaction.value(one) for one in audiences])
    return f"{why}; it gets no token for {shown} either", False


def _only_namespace(source: VolumeProjection) -> bool:
    return "downwardAPI" in source and all(
        (item.get("fieldRef") or {}).get("fieldPath") == NAMESPACE_FIELD
        for item in source["downwardAPI"].get("items") or ()
    )
