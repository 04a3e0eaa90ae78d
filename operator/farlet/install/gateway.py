"""Objects of the gateway in the foreign cluster: pure.

`manifests/foreign/gateway` has the same objects with comments, which a test compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from farlet.constants import HOME_API_SERVICE, JSON

NAME = "farlet-gateway"
"""Name of all its objects, and value of the label by which farlet finds its pods."""

KEYS_DIGEST = "farlet.io/gateway-keys"
"""Annotation on gateway pods: which keys they have."""
_LABELS = {"app.kubernetes.io/name": NAME}
_PODS, _PROBES = "pods", "probes"
_KEYS = "/etc/farlet/gateway"
_USER = 65532


def objects(system: str, *, image: str) -> tuple[JSON, ...]:
    """Service, Deployment, PodDisruptionBudget and NetworkPolicy in the system namespace."""
    where = {"name": NAME, "namespace": system}
    return (
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": HOME_API_SERVICE, "namespace": system},
            "spec": {
                "ipFamilyPolicy": "PreferDualStack",
                "selector": _LABELS,
                "ports": [{"name": "https", "port": 443, "targetPort": _PODS}],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**where, "labels": _LABELS},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _pod(image)},
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": where,
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": _LABELS},
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": where,
            "spec": {
                "podSelector": {"matchLabels": _LABELS},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"ports": [{"port": _PODS}], "from": [{"namespaceSelector": {}}]}],
                "egress": [],
            },
        },
    )


def _pod(image: str) -> JSON:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": _LABELS}}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "podAffinityTerm": term}
                ]
            }
        },
        "containers": [
            {
                "name": "gateway",
                "image": image,
                "args": ["gateway"],
                "env": [{"name": "FARLET_GATEWAY_KEYS", "value": _KEYS}],
                "ports": [
                    {"name": _PODS, "containerPort": 6443},
                    {"name": _PROBES, "containerPort": 8081},
                ],
                "livenessProbe": {
                    "httpGet": {"path": "/livez", "port": _PROBES},
                    "initialDelaySeconds": 10,
                    "timeoutSeconds": 5,
                    "failureThreshold": 6,
                },
                "readinessProbe": {
                    "httpGet": {"path": "/readyz", "port": _PROBES},
                    "periodSeconds": 1,
                    "timeoutSeconds": 5,
                    "failureThreshold": 2,
                },
                "resources": {
                    "requests": {"cpu": "100m", "memory": "96Mi"},
                    "limits": {"memory": "512Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "keys", "mountPath": _KEYS, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "keys", "secret": {"secretName": NAME, "defaultMode": 0o440}}],
    }


def owns(obj: JSON) -> bool:
    """Whether an object of the system namespace is one of these."""
    return obj["metadata"]["name"] in (NAME, HOME_API_SERVICE)


def digest(items: Mapping[str, str]) -> str:
    """Identifies the keys. No key can be found by it: they are random values of 32 bytes."""
    return hashlib.sha256("".join(map(str, sorted(items.items()))).encode()).hexdigest()[:16]


def with_keys(obj: JSON, digest: str) -> JSON:
    """The Deployment with an annotation on its pods, so that new keys replace the pods.

    They read their keys when they start. Other objects are returned as they are.
    """
    if obj["kind"] != "Deployment":
        return obj
    spec, template = obj["spec"], obj["spec"]["template"]
    metadata = {**template["metadata"], "annotations": {KEYS_DIGEST: digest}}
    return {**obj, "spec": {**spec, "template": {**template, "metadata": metadata}}}
