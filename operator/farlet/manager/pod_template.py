"""What all pods of farlet in the home cluster have in common: the rules of `restricted`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from farlet.constants import JSON, VIRTUAL_NODE_LABEL, VIRTUAL_NODE_LABEL_VALUE

USER = 65532
PROBES_PORT = 8081
METRICS_PORT = 8080
KUBELET_PORT = 10250


def pod_template(
    *, labels: Mapping[str, str], container: JSON, volumes: Sequence[JSON], **spec: object
) -> JSON:
    """A pod with one container, never on a virtual node: it would depend on itself.

    `spec` has further fields of the PodSpec.
    """
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [_NOT_VIRTUAL]}]
                    }
                },
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 100,
                            "podAffinityTerm": {
                                "topologyKey": "kubernetes.io/hostname",
                                "labelSelector": {"matchLabels": dict(labels)},
                            },
                        }
                    ]
                },
            },
            **spec,
            "containers": [
                {
                    **container,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            "volumes": list(volumes),
        },
    }


_NOT_VIRTUAL: JSON = {
    "key": VIRTUAL_NODE_LABEL,
    "operator": "NotIn",
    "values": [VIRTUAL_NODE_LABEL_VALUE],
}


def probes() -> JSON:
    """The probes of a container with the port `probes`."""
    return {
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": "probes"},
            "initialDelaySeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "probes"},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        },
    }


def memory_volume(name: str, size: str) -> JSON:
    """A directory in memory, never on a disk."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def secret_volume(name: str, secret: str, *, keys: Sequence[str]) -> JSON:
    """These keys of a Secret as files, for the group of the pod only."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440, "items": items}}
