"""The pairs of versions, and the fields of pods in which they differ."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Skew:
    """The minor versions of a pair."""

    home: str
    foreign: str

    def __str__(self) -> str:
        return f"home-{self.home}-foreign-{self.foreign}"


PAIRS = (Skew("1.36", "1.37"), Skew("1.37", "1.34"), Skew("1.34", "1.37"), Skew("1.35", "1.37"))

FEATURES = {
    "1.35": (
        "GenericWorkload",
        "InPlacePodLevelResourcesVerticalScaling",
        "NodeDeclaredFeatures",
    ),
    "1.37": (
        "AtomicWriteVolumeUserFields",
        "EmptyDirVolumeMode",
        "EvictionRequestAPI",
        "H2CContainerProbe",
    ),
}
"""Feature gates of a home API server, by its version, for fields that only this version knows."""

_OVERRIDE = {"hostnameOverride": "elsewhere"}
_PROBE = {"httpGet": {"port": 80, "protocol": "HTTP2"}, "periodSeconds": 3600}
SPEC: dict[str, dict[str, Any]] = {
    "1.34": {},
    "1.35": {**_OVERRIDE, "workloadRef": {"name": "training", "podGroup": "workers"}},
    "1.36": _OVERRIDE,
    "1.37": {
        **_OVERRIDE,
        "evictionResponders": [{"name": "example.com/drainer", "priority": 2000}],
        "volumes": [
            {"name": "scratch", "emptyDir": {"mode": 0o700}},
            {"name": "settings", "configMap": {"name": "settings", "defaultUser": 1000}},
        ],
    },
}
"""Fields that a home API server of this version knows and that of some other version does not."""

CONTAINER: dict[str, dict[str, Any]] = {"1.37": {"livenessProbe": _PROBE}}
"""The same in a container."""

BY_FARLET = {"1.35": {"spec.workloadRef"}, "1.37": {"spec.evictionResponders"}}
"""Those that farlet does not copy, by the version of the home cluster."""

BY_SERVER = {
    Skew("1.37", "1.34"): {
        "spec.hostnameOverride",
        "spec.volumes[scratch].emptyDir.mode",
        "spec.volumes[settings].configMap.defaultUser",
        "spec.containers[main].livenessProbe.httpGet.protocol",
    },
}
"""Those that the foreign API server drops."""
