"""metrics-server in a cluster with a real node: the source of `kubectl top` and HPAs.

It runs as a process beside the control plane, in the cluster's network, with the permissions of
its own manifests. While it is there, `metrics.k8s.io` is served by the cluster's API server. An
aggregated API whose server is gone keeps namespaces from being deleted, so its registration goes
first at the end.
"""

import base64
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from clusters import errors, kubeconfig, kwok, processes
from clusters.cluster import Cluster

RESOLUTION = "10s"
"""Its minimum scrape interval. Figures are available after the second scrape."""

_NAME = "metrics-server"
_NAMESPACE = "kube-system"
_API = "v1beta1.metrics.k8s.io"
_PORT = 4443
_RBAC = "rbac.authorization.k8s.io"
_PATIENCE = 180.0


@dataclasses.dataclass(frozen=True)
class MetricsServer:
    """One that answers."""

    process: processes.Process


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[MetricsServer]:
    """Run it for the duration of the context; at first it has no figures."""
    process = _process(cluster)
    cluster.apply(*_objects(cluster))
    try:
        # It exits at once if its permissions are not effective yet.
        processes.wait_for(f"rights of {_NAME}", lambda: _may_start(cluster), seconds=_PATIENCE)
        process.start()
        processes.wait_for(
            f"{_NAME} of {cluster.name}",
            lambda: '"items"' in _raw(cluster, "/apis/metrics.k8s.io/v1beta1/nodes"),
            seconds=_PATIENCE,
            process=process,
            interval=0.5,
        )
        yield MetricsServer(process)
    finally:
        names = [f"{one['kind'].lower()}/{one['metadata']['name']}" for one in _objects(cluster)]
        cluster.kubectl("delete", "apiservice", _API)
        cluster.kubectl("delete", f"--namespace={_NAMESPACE}", *names[1:])
        process.stop()


def _process(cluster: Cluster) -> processes.Process:
    parts = cluster.parts
    if parts is None or parts.network is None:
        raise errors.HarnessError(
            f"cluster {cluster.name} has no network of its own to run {_NAME} in; use clusters "
            "with real nodes that are started here"
        )
    plane = parts.plane
    login = kubeconfig.write(
        cluster.folder / f"{_NAME}.kubeconfig",
        server=plane.internal,
        authority=plane.authority.files.certificate.read_bytes(),
        user=plane.authority.client(_NAME, user=_NAME),
        cluster=cluster.name,
    )
    serving = plane.authority.server(
        f"{_NAME}-serving", user=_NAME, hosts=[f"{_NAME}.{_NAMESPACE}.svc"]
    )
    return processes.Process(
        _NAME,
        parts.network.inside(
            [
                parts.programs[_NAME],
                f"--kubeconfig={login}",
                f"--authentication-kubeconfig={login}",
                f"--authorization-kubeconfig={login}",
                "--bind-address=127.0.0.1",
                f"--secure-port={_PORT}",
                f"--tls-cert-file={serving.certificate}",
                f"--tls-private-key-file={serving.key}",
                f"--kubelet-certificate-authority={plane.authority.files.certificate}",
                "--kubelet-preferred-address-types=InternalIP",
                "--kubelet-use-node-status-port",
                f"--metric-resolution={RESOLUTION}",
                "--kubelet-request-timeout=8s",
                f"--node-selector={kwok.LABEL}!=fake",  # those have no kubelet
            ]
        ),
        log=cluster.folder / "logs" / f"{_NAME}.log",
        environment=parts.owner.environment,
    )


def _may_start(cluster: Cluster) -> bool:
    asked = ["get", "configmaps/extension-apiserver-authentication", f"--namespace={_NAMESPACE}"]
    try:
        return cluster.kubectl("auth", "can-i", *asked, f"--as={_NAME}").strip() == "yes"
    except errors.HarnessError:  # kubectl exits with 1 for "no"
        return False


def _raw(cluster: Cluster, path: str) -> str:
    try:
        return cluster.kubectl("get", "--raw", path)
    except errors.HarnessError:  # not served yet
        return ""


def _objects(cluster: Cluster) -> list[dict[str, Any]]:
    """The registration first; then what metrics-server's own manifests have."""
    user = {"kind": "User", "name": _NAME, "apiGroup": _RBAC}

    def binding(name: str, kind: str, role: str) -> dict[str, Any]:
        return {
            "apiVersion": f"{_RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": name, "namespace": _NAMESPACE if kind == "Role" else None},
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": role},
            "subjects": [user],
        }

    def rule(resources: list[str], verbs: list[str]) -> Mapping[str, Any]:
        return {"apiGroups": [""], "resources": resources, "verbs": verbs}

    return [
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": _API},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": base64.b64encode(cluster.ca_file.read_bytes()).decode(),
                "service": {"name": _NAME, "namespace": _NAMESPACE, "port": _PORT},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _NAME, "namespace": _NAMESPACE},
            # Where the API server finds a process of its own machine.
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"system:{_NAME}"},
            "rules": [
                rule(["nodes/metrics"], ["get"]),
                rule(["pods", "nodes"], ["get", "list", "watch"]),
            ],
        },
        binding(f"system:{_NAME}", "ClusterRole", f"system:{_NAME}"),
        binding(f"{_NAME}:system:auth-delegator", "ClusterRole", "system:auth-delegator"),
        binding(f"{_NAME}-auth-reader", "Role", "extension-apiserver-authentication-reader"),
    ]
