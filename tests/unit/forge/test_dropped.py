"""Fields of a spec that an API server did not keep are named, and nothing else is."""

import time
from typing import Any

import pytest

from farlet.forge import dropped

MAIN = {"name": "main", "image": "a"}
PROBE = {"httpGet": {"port": 80, "protocol": "HTTP2"}}
TOLERATION = {"key": "a", "operator": "Exists"}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "the same": ({"a": [{"name": "x"}]}, {"a": [{"name": "x"}]}, []),
    "defaults are added": ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": {}}, []),
    "a field": ({"evictionResponders": [{"name": "x"}]}, {}, ["spec.evictionResponders"]),
    "an explicit false": ({"hostUsers": False}, {}, ["spec.hostUsers"]),
    "an explicit zero": ({"defaultUser": 0}, {}, ["spec.defaultUser"]),
    "an explicit false that is kept": ({"hostUsers": False}, {"hostUsers": False}, []),
    "an empty object": ({"affinity": {}}, {}, ["spec.affinity"]),
    "null": ({"affinity": None}, {}, []),
    "an empty string": ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}, []),
    "an empty list": ({"readinessGates": []}, {}, []),
    "a value that admission changed": ({"priority": 1, "b": "x"}, {"priority": 5, "b": "y"}, []),
    "another type": ({"a": {"b": 1}}, {"a": "b"}, ["spec.a"]),
    "a list that is none any more": ({"a": [1]}, {"a": {"b": 1}}, ["spec.a"]),
    "in a container, after one that admission injected": (
        {"containers": [{**MAIN, "livenessProbe": PROBE}]},
        {"containers": [{"name": "mesh"}, {**MAIN, "livenessProbe": {"httpGet": {"port": 80}}}]},
        ["spec.containers[main].livenessProbe.httpGet.protocol"],
    ),
    "a whole container": ({"containers": [MAIN]}, {"containers": []}, ["spec.containers[main]"]),
    "mounts by their path": (
        {"volumeMounts": [{"name": "v", "mountPath": "/v", "bindMountOptions": ["noexec"]}]},
        {"volumeMounts": [{"name": "t", "mountPath": "/t"}, {"name": "v", "mountPath": "/v"}]},
        ["spec.volumeMounts[/v].bindMountOptions"],
    ),
    "two mounts of one volume": (
        {"m": [{"name": "v", "mountPath": "/a", "x": 1}, {"name": "v", "mountPath": "/b"}]},
        {"m": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]},
        ["spec.m[/a].x"],
    ),
    "ports of two protocols": (
        {"ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "x": 1}]},
        {"ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1}]},
        ["spec.ports[1].x"],
    ),
    "items without identity, others before and after": (
        {"tolerations": [TOLERATION]},
        {"tolerations": [{"key": "b"}, TOLERATION, {"key": "c"}]},
        [],
    ),
    "in an item without identity": (
        {"tolerations": [{"key": "z"}, {**TOLERATION, "new": 1}]},
        {"tolerations": [{"key": "z"}, TOLERATION]},
        ["spec.tolerations[1].new"],
    ),
    "an item without identity": (
        {"tolerations": [TOLERATION, {"key": "z"}]},
        {"tolerations": [TOLERATION]},
        ["spec.tolerations[1]"],
    ),
    "a string in a list": ({"command": ["a", "b"]}, {"command": ["a"]}, ["spec.command[1]"]),
    "strings that admission changed": ({"args": ["a"]}, {"args": ["b", "c"]}, []),
}


@pytest.mark.parametrize(("sent", "kept", "paths"), CASES.values(), ids=CASES)
def test_what_is_missing_is_named_by_its_path(
    sent: dict[str, Any], kept: dict[str, Any], paths: list[str]
) -> None:
    assert list(dropped.dropped(sent, kept, "spec")) == paths
    assert (dropped.message(sent, kept) is None) is (not paths)


def test_a_message_names_eight_fields_at_most_and_counts_the_others() -> None:
    text = dropped.message({f"field{n}": 1 for n in range(30)}, {})
    assert text is not None
    assert text.startswith("the foreign API server dropped spec.field0, spec.field1, ")
    assert "spec.field4 and 25 more" in text
    assert len(text) < 1024


def test_a_message_cuts_long_paths() -> None:
    text = dropped.message({"a" * 10_000 + str(n): 1 for n in range(30)}, {})
    assert text is not None
    assert len(text) < 1024


def test_the_time_grows_with_the_size_only() -> None:
    sent = {"a": [{"name": f"n{n}", "x": [{"k": i} for i in range(20)]} for n in range(2000)]}
    kept = {
        "a": [{"name": f"n{n}", "x": [{"k": -i} for i in range(20)]} for n in range(2000)][::-1]
    }
    began = time.process_time()
    assert list(dropped.dropped(sent, kept, "spec")) == []
    assert time.process_time() - began < 5
