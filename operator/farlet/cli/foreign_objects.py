"""The foreign objects that a mirror needs, and those that come with it, for `render --explain`.

A pod whose class or claim does not exist in the foreign cluster waits there, and its owner sees
only the words of a foreign scheduler or API server. This lists the names beforehand. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from farlet.access import ServiceAccountRequirement
from farlet.constants import JSON
from farlet.forge import scheduling
from farlet.k8s_types import NewPod, PodSpec, Secret, Volume

_SYSTEM_CLASSES = "system-"
"""Prefix of PriorityClasses that every cluster has."""

_LABELS_OF_ALL_NODES = frozenset({"kubernetes.io/os", "kubernetes.io/arch"})
_LOCAL = "localhostProfile"
_SECRET_STORE = "secrets-store.csi.k8s.io"  # noqa: S105


def required(
    mirror: NewPod,
    accounts: Sequence[ServiceAccountRequirement],
    foreign_claims: Mapping[str, str],
) -> Iterator[str]:
    """One line for each object that must exist before the mirror can run.

    `foreign_claims`: by claim of the pod, the one that farlet creates (`--storage-class-map`).
    """
    namespace, spec = mirror["metadata"]["namespace"], mirror["spec"]
    yield (
        f"Namespace {namespace} required in the foreign cluster, unless farlet creates it "
        "(--create-namespaces)"
    )
    for account in accounts:
        label = f", labelled {account.label}=true" if account.label else ""
        yield f"ServiceAccount {account.name} required in foreign namespace {namespace}{label}"
    runtime, priority = spec.get("runtimeClassName"), spec.get("priorityClassName")
    if runtime:
        yield f"RuntimeClass {runtime} required in the foreign cluster"
    if priority and not str(priority).startswith(_SYSTEM_CLASSES):
        yield f"PriorityClass {priority} required in the foreign cluster"
    yield from _of_nodes(spec)
    yield from _of_profiles(spec)
    for claim in spec.get("resourceClaims") or ():  # type: ignore[attr-defined]
        for field, kind in (
            ("resourceClaimName", "ResourceClaim"),
            ("resourceClaimTemplateName", "ResourceClaimTemplate"),
        ):
            if claim.get(field):
                yield f"{kind} {claim[field]} required in foreign namespace {namespace}"
    for volume in spec.get("volumes") or ():
        yield from _of_volume(volume, namespace, foreign_claims)


def _of_nodes(spec: PodSpec) -> Iterator[str]:
    labels = {
        key: value
        for key, value in (spec.get("nodeSelector") or {}).items()
        if key not in _LABELS_OF_ALL_NODES
    }
    if labels:
        shown = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        yield f"Node with the labels {shown} required in the foreign cluster"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get(scheduling.REQUIRED) or {}).get("nodeSelectorTerms") or ()
    alternatives = [
        [
            _selector(expression)
            for expression in term.get("matchExpressions") or ()
            if expression.get("key") not in _LABELS_OF_ALL_NODES
        ]
        for term in terms
    ]
    if alternatives and all(alternatives):
        shown = "; or with ".join(map(", ".join, alternatives))
        yield f"Node with {shown} required in the foreign cluster"


def _selector(expression: JSON) -> str:
    """One requirement as in `kubectl get --selector`."""
    key, values = expression.get("key"), ", ".join(expression.get("values") or ())
    match expression.get("operator"):
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "DoesNotExist":
            return f"!{key}"
        case "Gt":
            return f"{key} > {values}"
        case "Lt":
            return f"{key} < {values}"
    return str(key)


def _of_profiles(spec: PodSpec) -> Iterator[str]:
    """Files that a kubelet or a container runtime loads, such as an operator of the home cluster
    distributes to home nodes."""
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    contexts: list[JSON] = [holder.get("securityContext") or {} for holder in (spec, *containers)]
    for field, kind in (("seccompProfile", "Seccomp"), ("appArmorProfile", "AppArmor")):
        profiles = [context.get(field) or {} for context in contexts]
        for name in dict.fromkeys(p[_LOCAL] for p in profiles if _LOCAL in p):
            yield f"{kind} profile {name} required on foreign nodes"


def _of_volume(volume: Volume, namespace: str, foreign_claims: Mapping[str, str]) -> Iterator[str]:
    found = {key: value for key, value in volume.items() if isinstance(value, dict)}
    if "persistentVolumeClaim" in found:
        name = found["persistentVolumeClaim"].get("claimName")
        homes = [home for home, foreign in foreign_claims.items() if foreign == name]
        for home in homes:
            yield (
                f"PersistentVolumeClaim {home} of a class in --storage-class-map required in the "
                f"home cluster; {name} in foreign namespace {namespace} provides its volume"
            )
        if not homes:
            yield f"PersistentVolumeClaim {name} required in foreign namespace {namespace}"
    if "ephemeral" in found:
        template = found["ephemeral"].get("volumeClaimTemplate") or {}
        name = (template.get("spec") or {}).get("storageClassName")
        shown = f"StorageClass {name}" if name else "A default StorageClass"
        yield f"{shown} required in the foreign cluster, for the volume {volume['name']}"
        yield from _of_claim(template.get("spec") or {}, volume["name"], namespace)
    if "csi" in found:
        driver, attributes = found["csi"].get("driver"), found["csi"].get("volumeAttributes") or {}
        yield f"CSI driver {driver} required on foreign nodes"
        if driver == _SECRET_STORE and attributes.get("secretProviderClass"):
            yield (
                f"SecretProviderClass {attributes['secretProviderClass']} required in foreign "
                f"namespace {namespace}, for the volume {volume['name']}"
            )
    for source in (found.get("projected") or {}).get("sources") or ():
        bundle = source.get("clusterTrustBundle") or {}
        if bundle:
            name = bundle.get("name") or f"of signer {bundle.get('signerName')}"
            yield f"ClusterTrustBundle {name} required in the foreign cluster"


def _of_claim(spec: JSON, volume: str, namespace: str) -> Iterator[str]:
    if attributes := spec.get("volumeAttributesClassName"):
        yield (
            f"VolumeAttributesClass {attributes} required in the foreign cluster, for the volume "
            f"{volume}"
        )
    source = spec.get("dataSourceRef") or spec.get("dataSource") or {}
    if source:
        where = source.get("namespace") or namespace
        yield (
            f"{source.get('kind')} {source.get('name')} required in foreign namespace {where}, "
            f"for the volume {volume}"
        )


def created(mirror: NewPod, secrets: Sequence[Secret]) -> Iterator[str]:
    """One line for each object that comes with the mirror, except copies."""
    name, namespace = mirror["metadata"]["name"], mirror["metadata"]["namespace"]
    yield f"Pod {name} created in foreign namespace {namespace}"
    for secret in secrets:
        yield (
            f"Secret {secret['metadata']['name']} created in foreign namespace {namespace}, with "
            f"{', '.join(sorted(secret['data']))}"
        )
    for volume in mirror["spec"].get("volumes") or ():
        if "ephemeral" in volume:
            yield (
                f"PersistentVolumeClaim {name}-{volume['name']} created in foreign namespace "
                f"{namespace}, by its cluster"
            )
