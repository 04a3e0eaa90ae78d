"""A new Node is complete at once; it takes no pods until the foreign cluster is known."""

from __future__ import annotations

from farlet.forge import capacity
from farlet.forge import node as forge
from farlet.forge.node_health import Foreign
from unit.forge.nodes import CONFIG, NOW, OBSERVED, OURS, RESOURCES, conditions


def test_a_new_node_is_complete_at_once() -> None:
    node = forge.new(CONFIG, OBSERVED, conditions(), NOW)
    assert node["metadata"] == {
        "name": "far",
        "labels": OURS | {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        "annotations": {"note": "mine"},
    }
    assert node["spec"] == {
        "taints": [{"key": "farlet.io/virtual-node", "value": "", "effect": "NoSchedule"}]
    }
    status = node["status"]
    assert status["capacity"] == status["allocatable"] == RESOURCES.capacity
    assert status["addresses"] == [{"type": "InternalIP", "address": "10.0.0.1"}]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert status["nodeInfo"] == {
        "machineID": "0123456789abcdef0123456789abcdef",
        "systemUUID": "01234567-89ab-cdef-0123-456789abcdef",
        "bootID": "",
        "kubeProxyVersion": "",
        "containerRuntimeVersion": "farlet://1",
        "kubeletVersion": "v1.36.3",
        "operatingSystem": "linux",
        "architecture": "amd64",
        "kernelVersion": "6.1",
        "osImage": "Debian",
    }
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "NetworkUnavailable": "False",
        "Ready": "True",
        "farlet.io/ForeignReachable": "True",
    }
    assert {c["lastTransitionTime"] for c in status["conditions"]} == {"2026-05-01T12:00:00Z"}


def test_a_new_node_without_any_observation_takes_no_pods() -> None:
    observed = forge.NodeObservation("", None, None, capacity.Platform())
    status = forge.new(CONFIG, observed, conditions(Foreign.UNKNOWN), NOW)["status"]
    assert status["allocatable"] == {"cpu": "0", "memory": "0", "pods": "0"}
    assert "addresses" not in status
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["message"]) == (
        "False",
        "the foreign API server has not answered yet",
    )
