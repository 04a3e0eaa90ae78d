"""Resolves the pod and container of a request to the mirror, or to a kubelet's error. Pure.

farlet's own mapping of names leads from the home pod to the mirror, whose uid the home pod must
have recorded: no object in the foreign cluster can direct a caller to another pod. Containers that
only the mirror has, such as injected sidecars, do not appear in the home cluster and cannot be
reached.

The error texts are those of `pkg/kubelet/server/server.go`, `kubelet_pods.go` and
`streaming/errors.go` of Kubernetes 1.36.
"""

from __future__ import annotations

from dataclasses import dataclass

from farlet import errors, names
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.forge import containers, status
from farlet.k8s_types import ContainerStatus, Pod
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint, Route
from farlet.store import Store

_PULLING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


@dataclass(frozen=True, slots=True)
class PodTarget:
    """A container of a mirror; an empty `container` means the whole mirror."""

    namespace: str
    pod: str
    container: str
    node: str
    """The virtual node; like the home namespace for errors."""
    home_namespace: str


def resolve(route: Route, store: Store, ctx: Context, *, previous: bool = False) -> PodTarget:
    """The mirror and container of a route. `previous`: the logs of the container's last run.

    Raises `Refusal` with the error of a kubelet.
    """
    home = store.home.get(ObjectKey(route.namespace, route.pod))
    if route.endpoint is Endpoint.CONTAINER_LOGS:
        return _for_logs(route, home, store, ctx, previous=previous)
    if home is None:
        raise Refusal(404, "pod does not exist")
    if route.endpoint is Endpoint.PORT_FORWARD:
        return _for_ports(route, home, store, ctx)
    same_uid = route.uid is None or route.uid == home["metadata"].get("uid")
    exists = same_uid and has_container(home, route.container)
    mirror = _mirror(home, store, ctx) if exists else None
    if mirror is None:
        raise Refusal(500, f'container not found ("{route.container}")')
    if (rejected := _rejected(home, route.container)) is not None:
        raise Refusal(500, f'container not found ("{route.container}"): {rejected}')
    return _target(home, mirror, route.container)


def has_container(home: Pod, container: str) -> bool:
    """Whether the pod's spec contains this container (app, init or ephemeral)."""
    return any(
        c["name"] == container for group in containers.GROUPS for c in containers.of(home, group)
    )


def _for_ports(route: Route, home: Pod, store: Store, ctx: Context) -> PodTarget:
    if route.uid is not None and route.uid != home["metadata"].get("uid"):
        raise Refusal(404, "pod not found")
    mirror = _mirror(home, store, ctx)
    if mirror is None:
        raise Refusal(500, f'pod not found ("{route.pod}_{route.namespace}")')
    return _target(home, mirror, "")


def _for_logs(
    route: Route, home: Pod | None, store: Store, ctx: Context, *, previous: bool
) -> PodTarget:
    if home is None:
        raise Refusal(404, f'pod "{route.pod}" does not exist')
    if not has_container(home, route.container):
        raise Refusal(404, f'container "{route.container}" not found in pod "{route.pod}"')
    mirror = _mirror(home, store, ctx)
    if mirror is None:
        raise Refusal(400, _no_logs(home, route.container, previous=previous))
    if (rejected := _rejected(home, route.container)) is not None:
        terminated = f'container "{route.container}" in pod "{route.pod}" is terminated'
        raise Refusal(400, f"{terminated}: {rejected}")
    return _target(home, mirror, route.container)


def _target(home: Pod, mirror: ObjectKey, container: str) -> PodTarget:
    node, namespace = home["spec"].get("nodeName", errors.NODE), home["metadata"]["namespace"]
    return PodTarget(mirror.namespace, mirror.name, container, node, namespace)


def _mirror(home: Pod, store: Store, ctx: Context) -> ObjectKey | None:
    """The mirror that the home pod has recorded; `None` if it is absent or has another uid."""
    metadata = home["metadata"]
    namespace = ctx.namespaces.foreign(metadata.get("namespace", ""))
    if namespace is None:
        return None
    key = ObjectKey(namespace, names.mirror_name(metadata["name"]))
    uid = store.mirrors.uid(key)
    return key if uid is not None and uid == status.mirrored_uid(home) else None


def _no_logs(home: Pod, container: str, *, previous: bool) -> str:
    """Why a pod without a mirror has no logs (`validateContainerLogStatus`)."""
    name = home["metadata"]["name"]
    if previous:
        return f'previous terminated container "{container}" in pod "{name}" not found'
    found = _status(home, container)
    state = found.get("state", {}) if found else {}
    last = found.get("lastState", {}) if found else {}
    if "terminated" in state or "terminated" in last:
        return f'container "{container}" in pod "{name}" is terminated'
    if "running" in state:
        return f'container "{container}" in pod "{name}" is not available'
    # The pod's own reason is more specific than that of a waiting container.
    reason = home.get("status", {}).get("reason") or state.get("waiting", {}).get("reason")
    reason = _PULLING.get(reason or "", reason or "ContainerCreating")
    return f'container "{container}" in pod "{name}" is waiting to start: {reason}'


def _rejected(home: Pod, container: str) -> str | None:
    """Why an ephemeral container is not in the mirror; `kubectl debug` shows it."""
    found = containers.statuses(home, containers.EPHEMERAL).get(container)
    ended = (found.get("state") or {}).get("terminated") if found else None
    if not ended or ended.get("reason") != Reason.EPHEMERAL_CONTAINER_REJECTED:
        return None
    return ended.get("message", "")


def _status(home: Pod, container: str) -> ContainerStatus | None:
    for group in containers.GROUPS:
        statuses = containers.statuses(home, group)
        if container in statuses:
            return statuses[container]
    return None
