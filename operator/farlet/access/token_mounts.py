"""Tokens, CA and namespace as files of the Secret that farlet stores beside a mirror.

A volume keeps its name, its mounts and its paths; only the source of the content changes. Other
items of the same volume stay unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from farlet.access import volumes
from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.k8s_types import Container, EnvVar, KeyToPath, Volume, VolumeProjection

_WHY_CA = "the CA that verifies the home API server"


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """Rewrites volumes and variables with tokens, CA or namespace to use one Secret."""

    secret: str
    mode: int | None

    def volume(self, volume: Volume, changes: ChangeLog) -> Volume:
        """The volume, with the parts that concern API access read from the Secret."""
        path = f"spec.volumes[{volume['name']}]"
        if "projected" in volume:
            sources = volume["projected"].get("sources") or []
            rewritten = self._sources(sources, f"{path}.projected", changes)
            if rewritten is None:
                return volume
            return {**volume, "projected": {**volume["projected"], "sources": rewritten}}
        source = volume.get("configMap")
        if source is None or not volumes.is_root_ca(source):
            return volume
        changes.rewritten(f"{path}.configMap", _WHY_CA, routine=True)
        secret: JSON = {"secretName": self.secret, "items": volumes.ca_items(source)}
        secret |= {k: source[k] for k in ("defaultMode", "defaultUser", "optional") if k in source}
        rest = {key: value for key, value in volume.items() if key != "configMap"}
        return cast("Volume", {**rest, "secret": secret})

    def _sources(
        self, sources: Sequence[VolumeProjection], path: str, changes: ChangeLog
    ) -> list[VolumeProjection] | None:
        """Projected sources, or `None` if none concerns the API access."""
        has_token = any("serviceAccountToken" in source for source in sources)
        if not has_token and not any(volumes.is_root_ca(s.get("configMap")) for s in sources):
            return None
        overwritten = _overwritten(sources)
        rewritten: list[VolumeProjection] = []
        for index, source in enumerate(sources):
            at = f"{path}.sources[{index}]"
            if "serviceAccountToken" in source:
                token = source["serviceAccountToken"]
                if index in overwritten:
                    continue
                item: KeyToPath = {
                    "key": volumes.token_key(volumes.audience(token)),
                    "path": token["path"],
                }
                if self.mode is not None:
                    item["mode"] = self.mode
                if "user" in token:
                    item["user"] = token["user"]
                rewritten.append(self._from_secret([item]))
                why = f"token of the pod's home account, from Secret {self.secret}"
                changes.rewritten(f"{at}.serviceAccountToken", why, routine=True)
            elif volumes.is_root_ca(source.get("configMap")):
                config_map = source["configMap"]
                projection = self._from_secret(volumes.ca_items(config_map))
                if "optional" in config_map:
                    projection["secret"]["optional"] = config_map["optional"]
                rewritten.append(projection)
                changes.rewritten(f"{at}.configMap", _WHY_CA, routine=True)
            elif has_token and "downwardAPI" in source:
                rewritten += self._namespace_items(source, f"{path}.downwardAPI", changes)
            else:
                rewritten.append(source)
        return rewritten

    def _namespace_items(
        self, source: VolumeProjection, path: str, changes: ChangeLog
    ) -> list[VolumeProjection]:
        """The sources for namespace items beside a token, from the Secret; other items stay."""
        ours: list[KeyToPath] = []
        rest = []
        for item in source["downwardAPI"].get("items") or ():
            if (item.get("fieldRef") or {}).get("fieldPath") != volumes.NAMESPACE_FIELD:
                rest.append(item)
                continue
            entry: KeyToPath = {"key": volumes.NAMESPACE_KEY, "path": item["path"]}
            if "mode" in item:
                entry["mode"] = item["mode"]
            if "user" in item:
                entry["user"] = item["user"]
            ours.append(entry)
            changes.rewritten(
                f"{path}.items[{item['path']}]", "the pod's home namespace", routine=True
            )
        if not ours:
            return [source]
        kept: list[VolumeProjection] = [self._from_secret(ours)]
        if rest:
            kept.append({"downwardAPI": {**source["downwardAPI"], "items": rest}})
        return kept

    def _from_secret(self, items: list[KeyToPath]) -> VolumeProjection:
        return {"secret": {"name": self.secret, "items": items}}

    def environment(self, container: Container, path: str, changes: ChangeLog) -> Container:
        """The container, with variables that read the CA from the Secret.

        `envFrom` cannot use the Secret, since it would set the token as a variable, too: the only
        key of `kube-root-ca.crt` becomes a separate variable.
        """
        env: list[EnvVar] = list(container.get("env") or ())
        changed = False
        for index, entry in enumerate(env):
            reference = (entry.get("valueFrom") or {}).get("configMapKeyRef")
            if (
                reference is not None
                and volumes.is_root_ca(reference)
                and reference["key"] == volumes.CA_KEY
            ):
                env[index] = {
                    "name": entry["name"],
                    "valueFrom": {"secretKeyRef": {**reference, "name": self.secret}},
                }
                changes.rewritten(f"{path}.env[{entry['name']}]", _WHY_CA, routine=True)
                changed = True
        env_from = container.get("envFrom") or []
        kept = [source for source in env_from if not volumes.is_root_ca(source.get("configMapRef"))]
        if len(kept) != len(env_from):
            named = {entry["name"] for entry in env}
            prefixes = [
                s.get("prefix", "") for s in env_from if volumes.is_root_ca(s.get("configMapRef"))
            ]
            reference = {"name": self.secret, "key": volumes.CA_KEY}
            env[:0] = [
                {"name": f"{prefix}{volumes.CA_KEY}", "valueFrom": {"secretKeyRef": reference}}
                for prefix in dict.fromkeys(prefixes)
                if f"{prefix}{volumes.CA_KEY}" not in named
            ]
            changes.rewritten(f"{path}.envFrom", _WHY_CA, routine=True)
            changed = True
        if not changed:
            return container
        rest = {k: v for k, v in container.items() if k != "envFrom"}
        return cast("Container", {**rest, "env": env, **({"envFrom": kept} if kept else {})})


def _overwritten(sources: Sequence[VolumeProjection]) -> set[int]:
    """The tokens, by index, whose file a later source writes again.

    In an original pod the last source wins, since validation does not compare a token's path with
    others. It compares the paths of Secret items, so the overwritten one is dropped.
    """
    found: set[int] = set()
    later: set[str] = set()
    for index in range(len(sources) - 1, -1, -1):
        source = sources[index]
        if "serviceAccountToken" in source:
            path = source["serviceAccountToken"]["path"]
            if path in later:
                found.add(index)
            later.add(path)
        for kind in ("configMap", "secret", "downwardAPI"):
            items = cast("JSON", source).get(kind, {}).get("items") or ()
            later.update(item["path"] for item in items)
    return found
