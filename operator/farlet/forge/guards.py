"""Pods that farlet does not send abroad as they are, unless a setting lets them pass.

Pods of DaemonSets are refused for what made them (`--daemonset-pods`). All others are refused for
what they ask (`--allow-pod-feature`), and that is of two kinds: what reaches into the foreign
node (its network, processes, memory, files), which is the foreign administrator's to give; and
credentials or devices that exist only in the home cluster, without which a pod would start and
fail for reasons that its message does not show.

All that a pod asks goes into one message: its owner should not have to cure it piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from farlet import names
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
    """Something that needs an allowance."""

    allowance: Allowance
    path: str
    what: str


_HOST_ACCESS = frozenset(
    {Allowance.HOST_NETWORK, Allowance.HOST_PID, Allowance.HOST_IPC, Allowance.HOST_PATH}
)

_LEGACY_SUFFIX = re.compile(r"-token-[bcdfghjklmnpqrstvwxz2456789]{5}")
"""What the token controller appended to a ServiceAccount's name (`apiserver` `names.go`)."""


def check_controller(pod: Pod, ctx: Context) -> None:
    """Raise `Refused` when `pod` belongs to a DaemonSet and `ctx` lets none of those pass.

    Before anything else is asked about the pod: whatever it lacks, nobody should mend it.
    """
    name = daemonset(pod)
    if name is None or ctx.daemonset_pods is DaemonSetPods.RUN:
        return
    raise Refused(
        Reason.DAEMONSET_NOT_ALLOWED,
        f"the DaemonSet {name} put the pod on a virtual node, which is no machine to run an agent "
        "on. Keep DaemonSets off with manifests/home/daemonset-policy.yaml or with the node "
        f"affinity {VIRTUAL_NODE_LABEL} NotIn [{VIRTUAL_NODE_LABEL_VALUE}] in this one, or have "
        f"farlet started with --daemonset-pods={DaemonSetPods.RUN}",
    )


def daemonset(pod: Pod) -> str | None:
    """Name of the DaemonSet that controls `pod`."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        group = owner.get("apiVersion", "").partition("/")[0]
        if owner.get("controller") and (group, owner.get("kind")) == ("apps", "DaemonSet"):
            return owner.get("name", "")
    return None


def check(pod: Pod, ctx: Context) -> None:
    """Raise `Refused` when `pod` asks for what `ctx.allow_pod_feature` does not hold."""
    found = [f for f in _findings(pod.get("spec", {})) if f.allowance not in ctx.allow_pod_feature]
    if not found:
        return
    host = any(f.allowance in _HOST_ACCESS for f in found)
    text = "; ".join(f"{f.path} {f.what}" for f in found)
    flags = " ".join(
        f"--allow-pod-feature={name}" for name in dict.fromkeys(f.allowance for f in found)
    )
    raise Refused(
        Reason.POD_FEATURE_NOT_ALLOWED if host else Reason.UNSUPPORTED_POD,
        f"the pod cannot run in the foreign cluster: {text}. Remove it from the pod, keep the "
        f"pod off this node, or have farlet started with {flags}",
    )


def _findings(spec: PodSpec) -> Iterator[Finding]:
    raw: JSON = {**spec}
    for field, allowance, what in (
        ("hostNetwork", Allowance.HOST_NETWORK, "uses the network of a foreign node"),
        ("hostPID", Allowance.HOST_PID, "sees the processes of a foreign node"),
        ("hostIPC", Allowance.HOST_IPC, "shares the memory of a foreign node"),
        (
            "resourceClaims",
            Allowance.RESOURCE_CLAIMS,
            "claims devices of the home cluster, which are not abroad",
        ),
    ):
        if raw.get(field):
            yield Finding(allowance, f"spec.{field}", what)
    volumes = spec.get("volumes") or []
    suspects: dict[str, str] = {}
    for volume in volumes:
        yield from _volume_findings(volume)
        for name in _secret_names(volume):
            suspects.setdefault(volume["name"], name)
    yield from _legacy_tokens(spec, suspects)


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
                "names a trust bundle of the home cluster, which is not abroad",
            )
        if "podCertificate" in source:
            yield Finding(
                Allowance.POD_CERTIFICATE,
                f"{path}.projected.sources[{index}].podCertificate",
                "wants a certificate that only a home kubelet can obtain",
            )


def _secret_names(volume: Volume) -> Iterator[str]:
    if "secret" in volume:
        yield volume["secret"].get("secretName", "")
    sources = volume.get("projected", {}).get("sources") or ()
    if not any("serviceAccountToken" in source for source in sources):
        for source in sources:
            if "secret" in source:
                yield source["secret"].get("name", "")


def _legacy_tokens(spec: PodSpec, suspects: dict[str, str]) -> Iterator[Finding]:
    """Secrets that hold a ServiceAccount token of unlimited life.

    The type of a Secret is not in the pod. What can be known from the pod alone: a Secret that
    is mounted where client libraries look for their token holds one, whatever its name; and a
    name that the token controller made (account, `-token-`, five letters) gives itself away.
    A Secret beside a projected token of its own does neither.
    """
    account = names.service_account(spec)
    what = "is a token Secret: its token never expires and belongs to the home cluster"
    for container in containers(spec):
        for mount in container.get("volumeMounts") or ():
            name = suspects.get(mount["name"])
            if name is not None and _at_api_access(mount["mountPath"]):
                yield Finding(
                    Allowance.LEGACY_TOKEN_SECRETS,
                    f"spec.volumes[{mount['name']}] (Secret {name}, mounted at "
                    f"{mount['mountPath']} in {container['name']})",
                    what,
                )
                del suspects[mount["name"]]
        for path, name in _referenced(container):
            if _made_by_token_controller(name, account):
                yield Finding(Allowance.LEGACY_TOKEN_SECRETS, f"{path} (Secret {name})", what)
    for volume, name in suspects.items():
        if _made_by_token_controller(name, account):
            yield Finding(
                Allowance.LEGACY_TOKEN_SECRETS, f"spec.volumes[{volume}] (Secret {name})", what
            )


def containers(spec: PodSpec) -> Iterator[Container]:
    """Init containers, sidecars and containers, in the order in which they start."""
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _referenced(container: Container) -> Iterator[tuple[str, str]]:
    at = container["name"]
    for env in container.get("env") or ():
        reference = (env.get("valueFrom") or {}).get("secretKeyRef")
        if reference is not None:
            yield f"env {env['name']} of container {at}", reference.get("name", "")
    for source in container.get("envFrom") or ():
        if "secretRef" in source:
            yield f"envFrom of container {at}", source["secretRef"].get("name", "")


def _at_api_access(path: str) -> bool:
    return path.rstrip("/") == API_ACCESS_MOUNT or path.startswith(f"{API_ACCESS_MOUNT}/")


def _made_by_token_controller(name: str, account: str) -> bool:
    return name.startswith(account) and bool(_LEGACY_SUFFIX.fullmatch(name[len(account) :]))
