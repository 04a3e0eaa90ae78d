"""Finds the parts of a pod's volumes and variables that concern API access.

Those are tokens, the CA and the namespace. Nothing here changes a pod: `token_mounts` rewrites
these parts to use a Secret (access mode `home`), `removal` removes them (`disabled`).
"""

from __future__ import annotations

import bisect
import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from itertools import chain

from farlet.access.changes import ChangeLog
from farlet.constants import JSON, KUBE_ROOT_CA
from farlet.k8s_types import (
    Container,
    KeyToPath,
    PodSpec,
    ServiceAccountTokenProjection,
    VolumeMount,
)

CA_KEY = "ca.crt"
NAMESPACE_KEY = "namespace"
_TOKEN = "token"  # noqa: S105

NAMESPACE_FIELD = "metadata.namespace"


def token_key(audience: str | None) -> str:
    """Key in the Secret: `token` for the API server's own audience, else `token-<hash>`."""
    if audience is None:
        return _TOKEN
    return f"{_TOKEN}-{hashlib.sha256(audience.encode()).hexdigest()[:32]}"


def audience(source: ServiceAccountTokenProjection) -> str | None:
    """The audience that the volume names; an empty one is the same as none."""
    return source.get("audience") or None


def token_sources(spec: PodSpec) -> Iterator[ServiceAccountTokenProjection]:
    """All projected tokens of a pod, in the order of its volumes."""
    for volume in spec.get("volumes") or ():
        for source in volume.get("projected", {}).get("sources") or ():
            if "serviceAccountToken" in source:
                yield source["serviceAccountToken"]


def reads_root_ca(spec: PodSpec) -> bool:
    """Whether the pod reads `kube-root-ca.crt`, as a file or as a variable."""
    for volume in spec.get("volumes") or ():
        if is_root_ca(volume.get("configMap")):
            return True
        if any(
            is_root_ca(s.get("configMap")) for s in volume.get("projected", {}).get("sources") or ()
        ):
            return True
    ephemeral = spec.get("ephemeralContainers") or ()
    for container in chain((one for _, one in containers(spec)), ephemeral):
        if any(
            is_root_ca((e.get("valueFrom") or {}).get("configMapKeyRef"))
            for e in container.get("env") or ()
        ):
            return True
        if any(is_root_ca(e.get("configMapRef")) for e in container.get("envFrom") or ()):
            return True
    return False


def token_mode(spec: PodSpec) -> int | None:
    """File mode for tokens from the Secret: the processes that can read a native token can read it.

    A native token file is 0600 and owned by the `runAsUser` that all containers share, or 0600
    with `fsGroup` (the volume then adds group read), else it has the volume's default mode and
    belongs to root (`pkg/volume/projected/projected.go`, `FsUserFrom` in
    `pkg/volume/util/util.go`). A Secret's file always belongs to root: `fsGroup` is applied to
    it likewise, but a user other than root needs a file that all can read. `None`: the volume's
    default mode, as for a native token.
    """
    if (spec.get("securityContext") or {}).get("fsGroup") is not None:
        return 0o600
    user = _shared_user(spec)
    if user is None:
        return None
    return 0o600 if user == 0 else 0o444


def _shared_user(spec: PodSpec) -> int | None:
    """`runAsUser` when all containers have the same, else `None` (`FsUserFrom`)."""
    default = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", default)
        for _, container in containers(spec)
    }
    return users.pop() if len(users) == 1 else None


def report_stale_mounts(spec: PodSpec, changes: ChangeLog) -> None:
    """Reports mounts of a token by `subPath`: no kubelet refreshes those, not even at home."""
    tokens = {
        volume["name"]: sorted(
            f"{posixpath.normpath(source['serviceAccountToken']['path'])}/"
            for source in volume.get("projected", {}).get("sources") or ()
            if "serviceAccountToken" in source
        )
        for volume in spec.get("volumes") or ()
    }
    why = "a token mounted by subPath is never refreshed and expires; mount the whole volume"
    for path, container in containers(spec):
        for mount in container.get("volumeMounts") or ():
            if _reaches(mount, tokens.get(mount["name"], ())):
                changes.unchanged(f"{path}.volumeMounts[{mount['mountPath']}]", why)


def containers(spec: PodSpec) -> Iterator[tuple[str, Container]]:
    """Init containers, sidecars and containers with their paths, in their order of start."""
    for container in spec.get("initContainers") or ():
        yield f"spec.initContainers[{container['name']}]", container
    for container in spec.get("containers") or ():
        yield f"spec.containers[{container['name']}]", container


def _reaches(mount: VolumeMount, files: Sequence[str]) -> bool:
    """Whether a mount by sub-path contains one of the files, or may contain one.

    The files are sorted and end in a slash, so that the first one that is not below the sub-path
    decides.
    """
    part = sub_path(mount)
    if part is None:
        return bool(files)
    if part == ".":
        return False
    at = bisect.bisect_left(files, f"{part}/")
    return at < len(files) and files[at].startswith(f"{part}/")


def sub_path(mount: VolumeMount) -> str | None:
    """The normal path in the volume, `.` for the whole volume; `None` if it contains variables."""
    expression = mount.get("subPathExpr", "")
    if "$" in expression:
        return None
    return posixpath.normpath(mount.get("subPath") or expression)


def is_root_ca(reference: JSON | None) -> bool:
    """Whether a reference to a ConfigMap (volume, variable, `envFrom`) is one to the CA bundle.

    The bundle has one key; a reference to other keys stays unchanged.
    """
    if reference is None or reference.get("name") != KUBE_ROOT_CA:
        return False
    keys = {item.get("key") for item in reference.get("items") or ()}
    return (keys | {reference.get("key", CA_KEY)}) == {CA_KEY}


def ca_items(reference: JSON) -> list[KeyToPath]:
    """The files that a volume makes of the CA bundle, to which `reference` leads."""
    return list(reference.get("items") or [{"key": CA_KEY, "path": CA_KEY}])
