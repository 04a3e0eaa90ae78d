"""The settings of the farlet of one VirtualNode, as environment variables. Pure.

Variables and not flags: an older farlet logs a variable that it does not know, and starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from farlet.context import Reflection
from farlet.manager.virtual_node import Identity, Spec, VirtualNode

IN_CLUSTER = "in-cluster"
FOREIGN_DIRECTORY = "/etc/farlet/foreign"
HOME_DIRECTORY = "/etc/farlet/home"
GATEWAY_DIRECTORY = "/etc/farlet/gateway"
CERTIFICATES = "/var/lib/farlet"
KUBECONFIG = "kubeconfig"
"""Key of a Secret with credentials."""
GATEWAY_KEYS = ("private-key", "trusted-keys")
"""Keys of a Secret that `farlet gateway-keys` created."""

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "foreign_system_namespace": "spec.foreign.systemNamespace",
        "home_name": "spec.namespaces.homeName",
        "foreign_namespace_template": "spec.namespaces.template",
        "namespace_map": "spec.namespaces.map",
        "create_namespaces": "spec.namespaces.create",
        "api_access_default": "spec.access.default",
        "home_api_server_host": "spec.homeAPIServer.host",
        "home_api_server_port": "spec.homeAPIServer.port",
        "capacity": "spec.capacity",
        "node_labels": "spec.labels",
        "node_taints": "spec.taints",
        "allow_pod_feature": "spec.allowPodFeatures",
        "reflect": "spec.reflection.services",
        "mirror_events": "spec.reflection.events",
        "pod_network": "spec.podNetwork",
    }
)
"""Settings with a field in the spec of a VirtualNode."""


def of_spec(spec: Spec) -> dict[str, str]:
    """Name of a setting to its raw value, for all fields that are set."""
    return dict(_of_spec(spec))


def _of_spec(spec: Spec) -> Iterator[tuple[str, str]]:
    yield "foreign_system_namespace", spec.foreign.system_namespace
    yield "home_name", spec.namespaces.home_name
    yield "foreign_namespace_template", spec.namespaces.template
    if spec.namespaces.map:
        yield "namespace_map", _pairs(spec.namespaces.map)
    if spec.namespaces.create:
        yield "create_namespaces", "true"
    yield "api_access_default", spec.access.default
    if (server := spec.home_api_server) is not None:
        if server.host is not None:
            yield "home_api_server_host", server.host
        if server.port is not None:
            yield "home_api_server_port", str(server.port)
    if spec.capacity:
        yield "capacity", _pairs(spec.capacity)
    if spec.labels:
        yield "node_labels", _pairs(spec.labels)
    if spec.taints is not None:
        taints = [f"{one.key}={one.value}:{one.effect}" for one in spec.taints]
        yield "node_taints", ",".join(taints) or "none"
    if spec.allow_pod_features:
        yield "allow_pod_feature", ",".join(spec.allow_pod_features)
    if spec.reflection.services:
        yield "reflect", Reflection.SERVICES.value
    yield "mirror_events", spec.reflection.events.value
    yield "pod_network", spec.pod_network.value


def of_pod(node: VirtualNode) -> dict[str, str]:
    """Variables for the pod in which the manager runs farlet."""
    in_cluster = node.spec.identity is Identity.SERVICE_ACCOUNT
    own = {
        "nodename": node.name,
        "home_kubeconfig": IN_CLUSTER if in_cluster else f"{HOME_DIRECTORY}/{KUBECONFIG}",
        "foreign_kubeconfig": f"{FOREIGN_DIRECTORY}/{KUBECONFIG}",
        "leader_elect": "true",
        # A restarted container keeps its certificate.
        "cert_dir": CERTIFICATES,
    }
    return own if node.gateway_secret is None else {**own, "gateway_keys": GATEWAY_DIRECTORY}


def _pairs(mapping: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(mapping.items()))
