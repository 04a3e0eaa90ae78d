"""Pods that farlet refuses to create mirrors for, unless a setting allows them.

Pods of DaemonSets are refused because of their controller (`--daemonset-pods`). Other pods are
refused for features they use (`--allow-pod-feature`): access to the foreign node (its network,
processes, memory, files), which only the foreign administrator can grant; and credentials or
devices that exist only in the home cluster, without which a pod would start and then fail for
reasons that its status does not show.

One message names all refused features of a pod, so that its owner can fix them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from farlet.constants import (
    API_ACCESS_MOUNT,
    JSON,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_LABEL_VALUE,
    Reason,
)
from farlet.context import Allowance, Context, DaemonSetPods
from farlet.errors import Refused
from farlet.k8s_types import Container, Pod, PodSpec, Volume


class Finding(NamedTuple):
    """A feature that needs an allowance."""

    allowance: Allowance
    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path} {self.problem}"


_HOST_ACCESS = frozenset(
    {Allowance.HOST_NETWORK, Allowance.HOST_PID, Allowance.HOST_IPC, Allowance.HOST_PATH}
)


def check_controller(pod: Pod, ctx: Context) -> None:
    """Raises `Refused` for a pod of a DaemonSet, unless `ctx` allows them.

    This is checked first: such a pod has no other problem that its owner should fix.
    """
    name = daemonset(pod)
    if name is None or ctx.daemonset_pods is DaemonSetPods.RUN:
        return
    raise Refused(
        Reason.DAEMONSET_NOT_ALLOWED,
        f"the DaemonSet {name} scheduled this pod to a virtual node, where DaemonSet pods are not "
        "allowed. Keep all DaemonSets off virtual nodes with manifests/home/daemonset-policy.yaml, "
        f"or this one with the node affinity {VIRTUAL_NODE_LABEL} NotIn "
        f"[{VIRTUAL_NODE_LABEL_VALUE}], or start farlet with --daemonset-pods={DaemonSetPods.RUN}",
    )


def daemonset(pod: Pod) -> str | None:
    """Name of the DaemonSet that controls `pod`."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        group = owner.get("apiVersion", "").partition("/")[0]
        if owner.get("controller") and (group, owner.get("kind")) == ("apps", "DaemonSet"):
            return owner.get("name", "")
    return None


def check(pod: Pod, ctx: Context) -> None:
    """Raises `Refused` for a pod with features that `ctx.allow_pod_feature` does not contain."""
    found = [f for f in _findings(pod["spec"]) if f.allowance not in ctx.allow_pod_feature]
    if not found:
        return
    host = any(f.allowance in _HOST_ACCESS for f in found)
    text = "; ".join(map(str, found))
    flags = " ".join(
        f"--allow-pod-feature={name}" for name in dict.fromkeys(f.allowance for f in found)
    )
    raise Refused(
        Reason.POD_FEATURE_NOT_ALLOWED if host else Reason.UNSUPPORTED_POD,
        f"the pod cannot run in the foreign cluster: {text}. Remove it from the pod, keep the "
        f"pod off this node, or start farlet with {flags}",
    )


def _findings(spec: PodSpec) -> Iterator[Finding]:
    raw: JSON = {**spec}
    for field, allowance, problem in (
        ("hostNetwork", Allowance.HOST_NETWORK, "uses the network of a foreign node"),
        ("hostPID", Allowance.HOST_PID, "sees the processes of a foreign node"),
        ("hostIPC", Allowance.HOST_IPC, "shares the memory of a foreign node"),
        (
            "resourceClaims",
            Allowance.RESOURCE_CLAIMS,
            "claims devices of the home cluster, which the foreign cluster does not have",
        ),
    ):
        if raw.get(field):
            yield Finding(allowance, f"spec.{field}", problem)
    volumes = spec.get("volumes") or []
    for volume in volumes:
        yield from _volume_findings(volume)
    secrets = {volume["name"]: name for volume in volumes if (name := _secret_name(volume))}
    yield from _legacy_tokens(spec, secrets)


def _volume_findings(volume: Volume) -> Iterator[Finding]:
    path = f"spec.volumes[{volume['name']}]"
    if "hostPath" in volume:
        yield Finding(
            Allowance.HOST_PATH, f"{path}.hostPath", "mounts a directory of a foreign node"
        )
    for index, source in enumerate(volume.get("projected", {}).get("sources") or ()):
        if "clusterTrustBundle" in source:
            yield Finding(
                Allowance.CLUSTER_TRUST_BUNDLE,
                f"{path}.projected.sources[{index}].clusterTrustBundle",
                "refers to a trust bundle of the home cluster, which the foreign cluster does not "
                "have",
            )
        if "podCertificate" in source:
            yield Finding(
                Allowance.POD_CERTIFICATE,
                f"{path}.projected.sources[{index}].podCertificate",
                "requests a certificate that only a kubelet of the home cluster can obtain",
            )


def _secret_name(volume: Volume) -> str | None:
    """The Secret in a volume; None beside a projected token, which client libraries then use."""
    if "secret" in volume:
        return volume["secret"].get("secretName")
    sources = volume.get("projected", {}).get("sources") or ()
    if any("serviceAccountToken" in source for source in sources):
        return None
    return next((source["secret"].get("name") for source in sources if "secret" in source), None)


def _legacy_tokens(spec: PodSpec, secrets: Mapping[str, str]) -> Iterator[Finding]:
    """Secrets that contain a ServiceAccount token which never expires.

    The pod does not name the type of a Secret. But a Secret that is mounted where client
    libraries look for their token contains one, whatever its name.
    """
    reported: set[str] = set()
    for container in containers(spec):
        for mount in container.get("volumeMounts") or ():
            volume = mount["name"]
            if volume in secrets and volume not in reported and _at_api_access(mount["mountPath"]):
                reported.add(volume)
                yield Finding(
                    Allowance.LEGACY_TOKEN_SECRETS,
                    f"spec.volumes[{volume}] (Secret {secrets[volume]}, mounted at "
                    f"{mount['mountPath']} in {container['name']})",
                    "contains a token of the home cluster that never expires; use a projected "
                    "ServiceAccount token instead",
                )


def containers(spec: PodSpec) -> Iterator[Container]:
    """Init containers, sidecars and containers, in the order in which they start."""
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _at_api_access(path: str) -> bool:
    return path.rstrip("/") == API_ACCESS_MOUNT or path.startswith(f"{API_ACCESS_MOUNT}/")
