"""Volumes of a pod that asked for no API: what is taken away, and what that leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farlet.access.changes import ChangeLog
from farlet.access.volumes import NAMESPACE_FIELD, is_root_ca
from farlet.constants import KUBE_ROOT_CA
from farlet.k8s_types import Volume, VolumeMount, VolumeProjection


@dataclass(frozen=True, slots=True)
class Removal:
    """Volumes without API access, and which mounts lost their ground."""

    volumes: list[Volume]
    gone: frozenset[str]
    """Volumes of which nothing was left."""
    files: Mapping[str, frozenset[str]]
    """Volume -> paths of removed files in it."""

    def mounts(
        self, mounts: Sequence[VolumeMount], path: str, changes: ChangeLog
    ) -> list[VolumeMount]:
        """The mounts that still have something to mount."""
        kept = []
        for mount in mounts:
            name = mount["name"]
            if name in self.gone or mount.get("subPath", "") in self.files.get(name, ()):
                changes.dropped(
                    f"{path}.volumeMounts[{mount['mountPath']}]",
                    "the pod asked for no API access; nothing is left to mount",
                    routine=True,
                )
            else:
                kept.append(mount)
        return kept


def without_access(volumes: Sequence[Volume], changes: ChangeLog) -> Removal:
    """Volumes without token sources, and without the CA and the namespace that came with them.

    A volume that held nothing else goes away whole: an empty directory where libraries look
    for their token would only puzzle them. `kube-root-ca.crt` by itself is public and stays.
    """
    kept: list[Volume] = []
    gone: set[str] = set()
    files: dict[str, frozenset[str]] = {}
    for volume in volumes:
        sources = volume.get("projected", {}).get("sources") or []
        tokens = [s["serviceAccountToken"] for s in sources if "serviceAccountToken" in s]
        path = f"spec.volumes[{volume['name']}]"
        if not tokens:
            if is_root_ca(volume.get("configMap")) or any(
                is_root_ca(s.get("configMap")) for s in sources
            ):
                why = f"{KUBE_ROOT_CA} is the foreign cluster's where no API access is given"
                changes.unchanged(path, why)
            kept.append(volume)
            continue
        rest = [
            source
            for source in sources
            if "serviceAccountToken" not in source and not is_root_ca(source.get("configMap"))
        ]
        why = "the pod asked for no API access"
        if all(_only_namespace(source) for source in rest):
            gone.add(volume["name"])
            changes.dropped(path, why, routine=True)
            continue
        files[volume["name"]] = frozenset(token["path"] for token in tokens)
        changes.dropped(f"{path}.projected.sources", why, routine=True)
        kept.append({**volume, "projected": {**volume["projected"], "sources": rest}})
    return Removal(volumes=kept, gone=frozenset(gone), files=files)


def _only_namespace(source: VolumeProjection) -> bool:
    return "downwardAPI" in source and all(
        (item.get("fieldRef") or {}).get("fieldPath") == NAMESPACE_FIELD
        for item in source["downwardAPI"].get("items") or ()
    )
