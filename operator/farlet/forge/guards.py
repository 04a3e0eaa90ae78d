"""Pods that farlet refuses to create mirrors for, unless a setting allows them.

Pods of DaemonSets are refused because of their controller (`--daemonset-pods`). Other pods are
refused for features they use (`--allow-pod-feature`): what reaches beyond the pod, which only the
foreign administrator can grant (`pod_security`); and credentials or devices that exist only in the
home cluster, without which a pod would start and then fail for reasons that its status does not
show. A pod of mode `remote` is one of the foreign cluster, whose own objects such names refer to.

One message names the refused features of a pod, so that its owner can fix them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from farlet import names, redaction
from farlet.constants import (
    API_ACCESS_MOUNT,
    REMOTE,
    VIRTUAL_NODE_LABEL,
    VIRTUAL_NODE_LABEL_VALUE,
    Reason,
)
from farlet.context import Allowance, Context, DaemonSetPods
from farlet.errors import Refused
from farlet.forge import pod_security, references
from farlet.forge.pod_security import Finding
from farlet.k8s_types import Container, Pod, PodSpec, Volume

_OF_THE_HOME_CLUSTER = frozenset(
    {
        Allowance.CLUSTER_TRUST_BUNDLE,
        Allowance.POD_CERTIFICATE,
        Allowance.RESOURCE_CLAIMS,
        Allowance.LEGACY_TOKEN_SECRETS,
    }
)
"""Features that have no counterpart in another cluster; all others reach beyond the pod."""

LONGEST_LIST = 8
"""Findings that one message names."""


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
        f"[{VIRTUAL_NODE_LABEL_VALUE}], or set --daemonset-pods={DaemonSetPods.RUN} "
        "(spec.extraArgs of a VirtualNode)",
    )


def daemonset(pod: Pod) -> str | None:
    """Name of the DaemonSet that controls `pod`."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        group = owner.get("apiVersion", "").partition("/")[0]
        if owner.get("controller") and (group, owner.get("kind")) == ("apps", "DaemonSet"):
            return owner.get("name", "")
    return None


def check(pod: Pod, mode: str, ctx: Context) -> None:
    """Raises `Refused` for a pod with features that `ctx.allow_pod_feature` does not contain.

    `mode` is the pod's access mode.
    """
    found = _refused(_findings(pod, mode, ctx), ctx)
    if not found:
        return
    reaches = any(_reaches(finding) for finding in found)
    fix = "Remove it from the pod, or keep the pod off this node"
    if all(finding.allowances for finding in found):
        fix = f"{fix}. {_permission(found, pod, ctx)}"
    raise Refused(
        Reason.POD_FEATURE_NOT_ALLOWED if reaches else Reason.UNSUPPORTED_POD,
        f"the pod cannot run in the foreign cluster: {_listed(found)}. {fix}",
    )


def refused_ephemeral(pod: Pod, ctx: Context) -> Iterator[tuple[str, str]]:
    """(path, reason) of what a mirror's ephemeral containers must not have."""
    for finding in _refused(_ephemeral_findings(pod), ctx):
        flag = _flags([finding])
        yield finding.path, f"it {finding.problem}" + (f"; allowed with {flag}" if flag else "")


def check_ephemeral(pod: Pod, container: Container, ctx: Context) -> None:
    """Raises `Refused` for an ephemeral container that must not be added to the mirror."""
    # Beside the container, only what decides on it: a large pod can have hundreds of them.
    deciding = {k: v for k, v in pod["spec"].items() if k in {"hostNetwork", "hostUsers"}}
    only = cast("PodSpec", {**deciding, "ephemeralContainers": [container]})
    found = _refused(_ephemeral_findings({**pod, "spec": only}), ctx)
    if not found:
        return
    fix = "Add one without it"
    if _names(found):
        fix = (
            f"Add one without it (kubectl debug --profile=baseline). {_permission(found, pod, ctx)}"
        )
    raise Refused(
        Reason.EPHEMERAL_CONTAINER_REJECTED,
        f"the ephemeral container {container['name']} cannot run in the foreign cluster: "
        f"{_listed(found)}. {fix}",
    )


def _ephemeral_findings(pod: Pod) -> Iterator[Finding]:
    yield from pod_security.ephemeral_findings(pod)
    yield from _secrets_of_mirrors(pod, ephemeral=True)


def _listed(found: list[Finding]) -> str:
    text = "; ".join(map(str, found[:LONGEST_LIST]))
    more = len(found) - LONGEST_LIST
    return f"{text}; and {more} more" if more > 0 else text


def _refused(found: Iterable[Finding], ctx: Context) -> list[Finding]:
    return [f for f in found if ctx.allow_pod_feature.isdisjoint(f.allowances)]


def _names(found: Iterable[Finding]) -> list[Allowance]:
    return [*dict.fromkeys(f.allowances[0] for f in found if f.allowances)]


def _flags(found: Iterable[Finding]) -> str:
    return " ".join(f"--allow-pod-feature={name}" for name in _names(found))


def _permission(found: list[Finding], pod: Pod, ctx: Context) -> str:
    """How administrators allow it: in farlet, and where Pod Security of the foreign namespace
    forbids it, there.
    """
    text = (
        "An administrator of farlet can allow it, with spec.allowPodFeatures of the VirtualNode "
        f"({', '.join(_names(found))}) or with {_flags(found)}"
    )
    if pod_security.BASELINE.isdisjoint(_names(found)):
        return text
    home = pod["metadata"].get("namespace")
    foreign = (home and ctx.namespaces.foreign(home)) or "NAMESPACE"
    return (
        f"{text}. The foreign cluster must then allow it, too: kubectl label namespace {foreign} "
        "pod-security.kubernetes.io/enforce=privileged --overwrite"
    )


def _findings(pod: Pod, mode: str, ctx: Context) -> Iterator[Finding]:
    name = cast("str", pod["spec"].get("priorityClassName") or "")
    mapped = ctx.foreign_priority_class(name) is not None
    for finding in pod_security.findings(pod):
        if not (mapped and Allowance.CRITICAL_PRIORITY in finding.allowances):
            yield finding
    yield from _secrets_of_mirrors(pod, ephemeral=False)
    if mode != REMOTE:
        yield from _home_objects(pod["spec"])


def _reaches(finding: Finding) -> bool:
    return bool(finding.allowances) and _OF_THE_HOME_CLUSTER.isdisjoint(finding.allowances)


def _secrets_of_mirrors(pod: Pod, *, ephemeral: bool) -> Iterator[Finding]:
    """Names of Secrets with tokens of other pods: the uid in such a name is not confidential."""
    for reference in references.references(pod["spec"]):
        if (
            reference.kind is references.Kind.SECRET
            and names.is_secret_name(reference.name)
            and reference.path.startswith("spec.ephemeralContainers[") is ephemeral
        ):
            yield Finding(
                reference.path,
                "names a Secret that contains the tokens of one home pod",
                (),
                reference.name,
            )


def _home_objects(spec: PodSpec) -> Iterator[Finding]:
    """References to objects of the home cluster that have no copy in the foreign one."""
    if spec.get("resourceClaims"):
        yield Finding(
            "spec.resourceClaims",
            "claims devices of the home cluster, which the foreign cluster does not have",
            (Allowance.RESOURCE_CLAIMS,),
        )
    volumes = spec.get("volumes") or []
    for volume in volumes:
        yield from _projections(volume)
    secrets = {volume["name"]: name for volume in volumes if (name := _secret_name(volume))}
    yield from _legacy_tokens(spec, secrets)


def _projections(volume: Volume) -> Iterator[Finding]:
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        path = f"spec.volumes[{volume['name']}].projected.sources[{index}]"
        if "clusterTrustBundle" in source:
            yield Finding(
                f"{path}.clusterTrustBundle",
                "refers to a trust bundle of the home cluster, which the foreign cluster does not "
                "have",
                (Allowance.CLUSTER_TRUST_BUNDLE,),
            )
        if "podCertificate" in source:
            yield Finding(
                f"{path}.podCertificate",
                "requests a certificate that only a kubelet of the home cluster can obtain",
                (Allowance.POD_CERTIFICATE,),
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
                    f"spec.volumes[{volume}] (Secret {secrets[volume]}, mounted at "
                    f"{redaction.value(mount['mountPath'])} in {container['name']})",
                    "contains a token of the home cluster that never expires; use a projected "
                    "ServiceAccount token instead",
                    (Allowance.LEGACY_TOKEN_SECRETS,),
                )


def containers(spec: PodSpec) -> Iterator[Container]:
    """Init containers, sidecars and containers, in the order in which they start."""
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _at_api_access(path: str) -> bool:
    return path.rstrip("/") == API_ACCESS_MOUNT or path.startswith(f"{API_ACCESS_MOUNT}/")
