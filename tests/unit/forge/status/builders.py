"""Pods and statuses for tests, as an API server returns them."""

from typing import Any

from farlet import constants
from farlet.context import Context, NamespaceMap
from farlet.k8s_types import Pod

NOW = 1772366400.0
NOW_TEXT = "2026-03-01T12:00:00Z"
THEN = "2026-03-01T11:00:00Z"
CONTEXT = Context(
    node="virtual",
    home_id="home",
    namespaces=NamespaceMap(home="home", own="farlet"),
    node_ip="10.0.0.9",
)
RUNNING = {"running": {"startedAt": THEN}}
MIRROR_UID = "22222222-2222-4222-8222-222222222222"


def container(name: str = "app", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "example/app:1", **fields}


def waits(reason: str = "ContainerCreating") -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


def ended(code: int, **fields: Any) -> dict[str, Any]:
    return {
        "terminated": {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": THEN,
            "finishedAt": THEN,
            **fields,
        }
    }


def reported(name: str = "app", state: dict[str, Any] | None = None, **fields: Any) -> Any:
    """A container status; running by default."""
    state = RUNNING if state is None else state
    return {
        "name": name,
        "image": "example/app:1",
        "imageID": "example/app@sha256:0a",
        "containerID": f"containerd://{name}-1",
        "ready": "running" in state,
        "started": "running" in state,
        "restartCount": 0,
        "state": state,
        "lastState": {},
        **fields,
    }


def condition(type: str, status: str = "True", **fields: Any) -> dict[str, Any]:  # noqa: A002
    return {
        "type": type,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": THEN,
        **fields,
    }


def home(*, policy: str = "Always", metadata: Any = None, status: Any = None, **spec: Any) -> Pod:
    """A home pod; bound by a scheduler and otherwise untouched by default."""
    found: Any = {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "11111111-1111-4111-8111-111111111111",
            "generation": 1,
            **(metadata or {}),
        },
        "spec": {
            "nodeName": "virtual",
            "restartPolicy": policy,
            "containers": [container()],
            **spec,
        },
        "status": status
        or {
            "phase": "Pending",
            "qosClass": "BestEffort",
            "conditions": [condition("PodScheduled")],
        },
    }
    return found  # type: ignore[no-any-return]


def mirror(
    *, annotations: Any = None, metadata: Any = None, spec: Any = None, **status: Any
) -> Pod:
    """A mirror with one running, ready container by default."""
    ready = [
        condition(t)
        for t in ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    ]
    found: Any = {
        "metadata": {
            "name": "web",
            "namespace": "shop-home",
            "uid": MIRROR_UID,
            "annotations": {constants.ACCESS: "home", **(annotations or {})},
            **(metadata or {}),
        },
        "spec": spec or {"nodeName": "worker-1"},
        "status": {
            "phase": "Running",
            "startTime": THEN,
            "conditions": ready,
            "containerStatuses": [reported()],
            **status,
        },
    }
    return found  # type: ignore[no-any-return]


def condition_of(status: Any, type: str) -> Any:  # noqa: A002
    """The condition of a type in a status; None where there is none."""
    return next((c for c in status.get("conditions", []) if c["type"] == type), None)
