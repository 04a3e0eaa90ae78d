"""A virtual Node like farlet's, for tests without farlet."""

import platform
from typing import Any

TAINT = "farlet.io/virtual-node"


def manifest(name: str) -> dict[str, Any]:
    """A Node as the home cluster sees a foreign cluster."""
    capacity = {"cpu": "100k", "memory": "100Ti", "pods": "100k", "ephemeral-storage": "100Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "type": "virtual-kubelet",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": {"aarch64": "arm64"}.get(platform.machine(), "amd64"),
            },
        },
        "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [{"type": "Ready", "status": "True", "reason": "TestHarness"}],
            "nodeInfo": dict.fromkeys(
                (
                    *("machineID", "systemUUID", "bootID", "kernelVersion", "osImage"),
                    *("containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion"),
                ),
                "",
            )
            | {"operatingSystem": "linux", "architecture": "amd64"},
        },
    }
