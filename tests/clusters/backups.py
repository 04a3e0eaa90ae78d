"""Backups of a cluster's etcd, and restores of them, as the administrator of a control plane does.

A backup is what `etcd` would find after a crash at that moment. All components of a restored
cluster are restarted, as Kubernetes requires: their watches would continue from versions that the
API server has not reached.
"""

import re
import secrets
import shutil
from pathlib import Path

from clusters import errors, processes
from clusters.cluster import Cluster, Parts

_POD = re.compile(r"pod([0-9a-f]{8}-[0-9a-f-]{27})")


def take(cluster: Cluster) -> Path:
    """Copy the data of etcd, which is paused meanwhile."""
    etcd = _parts(cluster).plane.others[0]
    backup = cluster.folder / f"backup-{secrets.token_hex(3)}"
    etcd.pause()
    try:
        shutil.copytree(cluster.folder / "etcd", backup)
    finally:
        etcd.resume()
    return backup


def restore(cluster: Cluster, backup: Path) -> None:
    """Kill all components, replace the data of etcd by this backup, and start them again.

    Containers keep running until a kubelet ends them. A backup can be restored once.
    """
    parts = _parts(cluster)
    etcd, *clients = parts.plane.others
    if parts.kwok is not None:
        clients.append(parts.kwok)
    if parts.node is not None:
        clients += [parts.node.kubelet, parts.node.proxy]
    for process in (*clients, parts.plane.apiserver.process, etcd):
        process.kill()
    data = cluster.folder / "etcd"
    shutil.rmtree(data)
    backup.rename(data)
    etcd.start()
    parts.plane.apiserver.start()
    parts.plane.apiserver.wait_ready()
    for process in clients:
        process.start()


def running_pods(cluster: Cluster) -> set[str]:
    """The uids of pods with processes on the real node; empty where there is none."""
    parts = _parts(cluster)
    if parts.node is None:
        return set()
    group = parts.owner.cgroup(parts.node.name)
    return {
        found
        for text in processes.control_groups()
        if group in text
        for found in _POD.findall(text)
    }


def _parts(cluster: Cluster) -> Parts:
    if cluster.parts is None:
        raise errors.HarnessError(
            f"cluster {cluster.name} was started outside; only etcd of clusters that the harness "
            "starts can be restored: unset FARLET_HOME_KUBECONFIG and FARLET_FOREIGN_KUBECONFIG"
        )
    return cluster.parts
