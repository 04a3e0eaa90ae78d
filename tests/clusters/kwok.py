"""Fake nodes: pods on them become Running, finish and disappear without any container.

For scale and speed. What pods there do is written in
`stages.yaml`. A fake node carries label `farlet.test/node: fake`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clusters import ports, processes
from clusters.controlplane import ControlPlane
from clusters.instance import Instance
from clusters.netns import Network

LABEL = "farlet.test/node"
TAINT = "farlet.test/fake"  # on fake nodes that only get pods with a toleration
STAGES = Path(__file__).parent / "stages.yaml"
_CAPACITY = {"cpu": "100k", "memory": "100Ti", "pods": "100k", "ephemeral-storage": "100Ti"}


def node(name: str, *, taints: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """A fake node, as to be created."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                LABEL: "fake",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
            },
        },
        "spec": {"taints": list(taints)},
        "status": {"capacity": _CAPACITY, "allocatable": _CAPACITY},
    }


def start(
    owner: Instance,
    *,
    folder: Path,
    programs: Mapping[str, Path],
    plane: ControlPlane,
    network: Network | None,
    login: Path,
    stages: Sequence[Path] = (),
) -> processes.Process:
    """The process that simulates all fake nodes of a cluster; their port listens on loopback.

    `stages` are files with Stages beside those of `stages.yaml`.
    """
    address = network.gateway if network else "127.0.0.1"
    port = 10247 if network else ports.free(1)[0]
    serving = plane.authority.server("kwok-serving", user="kwok", hosts=[address])
    command: list[str | Path] = [
        programs["kwok"],
        f"--kubeconfig={login}",
        *(f"--config={file}" for file in (STAGES, *stages)),
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--node-ip={address}",
        f"--node-port={port}",
        f"--server-address={address}:{port}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        "--cidr=10.244.0.0/16",
        "--node-lease-duration-seconds=40",
    ]
    process = processes.Process(
        "kwok",
        network.inside(command) if network else command,
        log=folder / "logs" / "kwok.log",
        environment=owner.environment,
        restarted=True,
    )
    process.start()
    return process
