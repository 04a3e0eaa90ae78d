"""VirtualNodes for tests."""

from __future__ import annotations

from typing import Any

from farlet.constants import JSON
from farlet.manager.virtual_node import VirtualNode


def found(name: str = "far", *, generation: int = 3, **spec: Any) -> JSON:
    """The object as the API server has it."""
    return {
        "apiVersion": "farlet.io/v1alpha1",
        "kind": "VirtualNode",
        "metadata": {
            "name": name,
            "namespace": "farlet",
            "uid": f"uid-of-{name}",
            "generation": generation,
            "resourceVersion": "1",
        },
        "spec": spec,
    }


def node(name: str = "far", **spec: Any) -> VirtualNode:
    return VirtualNode.parse(found(name, **spec))


EVERYTHING: JSON = {
    "image": "registry.example/farlet:0.2.1",
    "replicas": 3,
    "resources": {"requests": {"memory": "1024Mi"}, "limits": {"memory": "2Gi"}},
    "identity": "ServiceAccount",
    "foreign": {"kubeconfigSecret": {"name": "mine"}, "systemNamespace": "farlet-far"},
    "gateway": {"keysSecret": {"name": "keys"}},
    "capacity": {"cpu": 8, "memory": "32Gi", "pods": "110"},
    "labels": {"example.com/zone": "b", "example.com/area": "a"},
    "taints": [{"key": "example.com/far", "effect": "NoExecute"}],
    "namespaces": {
        "homeName": "berlin",
        "template": "none",
        "map": {"shop": "shop-berlin", "blog": "blog-berlin"},
        "create": True,
    },
    "access": {"default": "disabled"},
    "allowPodFeatures": ["host-ports", "privileged"],
    "reflection": {"services": True, "events": "warnings"},
    "podNetwork": "connected",
    "extraArgs": ["--drain-on-exit=true", "--priority-class-map=*=drop"],
}
