"""The objects that the manager keeps for one VirtualNode: pure.

They belong to the VirtualNode by owner references, so that its deletion deletes them; no finalizer
delays that. Mirror pods stay, as after every end of farlet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from farlet.constants import JSON
from farlet.forge import quantities
from farlet.manager import pod_template, variables
from farlet.manager.pod_template import KUBELET_PORT, METRICS_PORT, PROBES_PORT
from farlet.manager.virtual_node import (
    FARLET,
    MANAGER,
    NAME_LABEL,
    Foreign,
    Identity,
    OptionalSecretReference,
    Resources,
    Spec,
    VirtualNode,
)

_MARGIN_SECONDS = 25.0
"""For what a process does after its grace period, before its container is killed."""

_HOME, _FOREIGN = "home", "foreign"
"""Volumes with the credentials for each cluster."""

_RESERVED = re.compile(f"{FARLET}-.+-(home|foreign|gateway)")
"""Names of Secrets that belong to one virtual node."""


@dataclass(frozen=True, slots=True)
class PodParameters:
    """What a pod needs beyond the spec of its VirtualNode."""

    image: str
    stop_seconds: float
    """How long farlet takes to stop: its grace period, and a drain if it drains."""
    own_account: bool
    """Whether a setting refers to the ServiceAccount of the pod."""


def desired(node: VirtualNode, parameters: PodParameters) -> tuple[JSON, ...]:
    """All objects, in the order in which they are applied."""
    return (
        _service_account(node),
        _network_policy(node),
        _disruption_budget(node),
        _deployment(node, parameters),
    )


def secret_refusal(node: VirtualNode) -> str | None:
    """Why a Secret that the spec names is not used: the name belongs to other credentials.

    Whether the other virtual node exists does not matter: it can be created later.
    """
    for field, name, own in (
        ("spec.foreign.kubeconfigSecret.name", node.foreign_secret, f"{node.object_name}-foreign"),
        ("spec.gateway.keysSecret.name", node.gateway_secret, f"{node.object_name}-gateway"),
    ):
        if name is not None and name != own and _RESERVED.fullmatch(name):
            return (
                f"{field}: the name {name} is reserved for other credentials. Use {own}, or a name "
                f"that does not begin with {FARLET}-"
            )
    return None


def is_ours(found: JSON, node: VirtualNode) -> bool:
    """Whether an object of this name may be changed: the manager created it for this name.

    The owner or the labels show this: after a restore the VirtualNode has another uid.
    """
    owners = found["metadata"].get("ownerReferences") or ()
    labels = found["metadata"].get("labels") or {}
    is_owned = any(owner.get("uid") == node.uid for owner in owners)
    return is_owned or labels.items() >= node.labels.items()


def mounting(node: VirtualNode, pod_spec: JSON) -> VirtualNode | None:
    """The node with those credentials that a pod of it mounts.

    `None`: it mounts none, or those of another node.
    """
    secrets = {
        volume["name"]: volume["secret"]["secretName"]
        for volume in pod_spec.get("volumes") or ()
        if "secret" in volume
    }
    if _FOREIGN not in secrets:
        return None
    spec = Spec(
        identity=Identity.NODE if _HOME in secrets else Identity.SERVICE_ACCOUNT,
        foreign=Foreign(kubeconfig_secret=OptionalSecretReference(name=secrets[_FOREIGN])),
    )
    found = node.model_copy(update={"spec": spec})
    return None if secret_refusal(found) else found


def contains(found: object, wanted: object) -> bool:
    """Whether an object has all fields of the desired one, beside those that the API server set."""
    match wanted:
        case dict():
            return isinstance(found, dict) and all(
                key in found and contains(found[key], value) for key, value in wanted.items()
            )
        case list():
            return (
                isinstance(found, list)
                and len(found) == len(wanted)
                and all(map(contains, found, wanted))
            )
        case _:
            return found == wanted


def _metadata(node: VirtualNode) -> JSON:
    return {
        "name": node.object_name,
        "namespace": node.namespace,
        "labels": node.labels,
        "ownerReferences": [node.owner],
    }


def _service_account(node: VirtualNode) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(node),
        "automountServiceAccountToken": False,
    }


def _disruption_budget(node: VirtualNode) -> JSON:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(node),
        "spec": {
            "maxUnavailable": 1,
            # A pod that is not ready never blocks the drain of its machine.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": node.selector},
        },
    }


def _network_policy(node: VirtualNode) -> JSON:
    """Who can connect to farlet. Further policies of an administrator can only add to it."""
    monitoring = {"kubernetes.io/metadata.name": "monitoring"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(node),
        "spec": {
            "podSelector": {"matchLabels": node.selector},
            "policyTypes": ["Ingress"],
            "ingress": [
                # A policy cannot select API servers. farlet authenticates each request there.
                {"ports": [{"port": "kubelet", "protocol": "TCP"}]},
                {
                    "ports": [{"port": "metrics", "protocol": "TCP"}],
                    "from": [{"namespaceSelector": {"matchLabels": monitoring}}],
                },
                {
                    "ports": [{"port": "probes", "protocol": "TCP"}],
                    "from": [{"podSelector": {"matchLabels": {NAME_LABEL: MANAGER}}}],
                },
            ],
        },
    }


def _deployment(node: VirtualNode, parameters: PodParameters) -> JSON:
    uses_account = node.spec.identity is Identity.SERVICE_ACCOUNT or parameters.own_account
    volumes, mounts = _volumes(node)
    container = {
        "name": "farlet",
        "image": parameters.image,
        "args": ["run", *map(_literal, node.spec.extra_args)],
        "env": _environment(node),
        "ports": [
            {"name": "kubelet", "containerPort": KUBELET_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
            {"name": "probes", "containerPort": PROBES_PORT, "protocol": "TCP"},
        ],
        **pod_template.probes(),
        "resources": _resources(node.spec.resources),
        # The last lines of its log, which say why it could not start.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(node),
        "spec": {
            "replicas": node.spec.replicas,
            "selector": {"matchLabels": node.selector},
            "template": pod_template.pod_template(
                labels=node.selector,
                container=container,
                volumes=volumes,
                serviceAccountName=node.object_name,
                automountServiceAccountToken=uses_account,
                terminationGracePeriodSeconds=int(parameters.stop_seconds + _MARGIN_SECONDS),
            ),
        },
    }


def _environment(node: VirtualNode) -> list[JSON]:
    values = {**variables.of_pod(node), **variables.of_spec(node.spec)}
    return [
        # The home API server connects to the kubelet API at the address of the pod.
        {"name": "FARLET_NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        *(
            {"name": f"FARLET_{name.upper()}", "value": _literal(value)}
            for name, value in values.items()
        ),
    ]


def _literal(text: str) -> str:
    """A text in which the kubelet replaces no `$(VARIABLE)`."""
    return text.replace("$(", "$$(")


def _resources(given: Resources | None) -> JSON:
    if given is not None:
        kinds = {"requests": given.requests, "limits": given.limits}
        # In the form that the API server stores, so that both can be compared.
        return {
            kind: {name: str(quantities.parse(amount)) for name, amount in amounts.items()}
            for kind, amounts in kinds.items()
            if amounts
        }
    # docs/performance.md. No CPU limit: throttling would delay the heartbeat of the node.
    return {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}


def _volumes(node: VirtualNode) -> tuple[list[JSON], list[JSON]]:
    """Volumes of the pod and their mounts. Those with private keys are in memory.

    Of each Secret only the keys that farlet reads: the manager keeps other things beside them.
    """
    credentials = {_FOREIGN: (node.foreign_secret, variables.FOREIGN_DIRECTORY)}
    if node.spec.identity is Identity.NODE:
        credentials[_HOME] = node.home_secret, variables.HOME_DIRECTORY
    paths = {name: path for name, (_, path) in credentials.items()}
    volumes = [
        pod_template.secret_volume(name, secret, keys=(variables.KUBECONFIG,))
        for name, (secret, _) in credentials.items()
    ]
    if node.gateway_secret is not None:
        volumes.append(
            pod_template.secret_volume("gateway", node.gateway_secret, keys=variables.GATEWAY_KEYS)
        )
        paths["gateway"] = variables.GATEWAY_DIRECTORY
    mounts: list[JSON] = [
        {"name": name, "mountPath": path, "readOnly": True} for name, path in paths.items()
    ]
    for name, size, path in (
        ("certificates", "1Mi", variables.CERTIFICATES),
        ("scratch", "16Mi", "/tmp"),  # noqa: S108
    ):
        volumes.append(pod_template.memory_volume(name, size))
        mounts.append({"name": name, "mountPath": path})
    return volumes, mounts


def is_pod_of(pod: JSON, node: VirtualNode) -> bool:
    """Whether a pod is one of the farlets of this node, by its labels."""
    labels = pod["metadata"].get("labels") or {}
    return labels.items() >= node.selector.items()
