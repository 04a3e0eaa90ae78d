"""Manifests of home pods: bound to a virtual node, with one container and few other fields."""

from collections.abc import Mapping
from typing import Any

from clusters import images, kwok

HOME, REMOTE, DISABLED = "home", "remote", "disabled"
SUPPORT = "liqo.io/api-server-support"
ACCOUNT = "liqo.io/remote-service-account-name"
FINISH, FINISH_AFTER = "farlet.test/finish", "farlet.test/finish-after"
HOLD, HOLD_DELETION = "farlet.test/hold", "farlet.test/hold-deletion"
OBSERVED = "farlet.io/observed"
OWNER = "farlet.io/virtual-node-id"
HOME_UID = "farlet.io/home-uid"
TOKENS = "farlet.io/tokens"


def pod(
    name: str,
    *,
    node: str,
    restart: str = "Always",
    on: str = "fake",
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    spec: Mapping[str, Any] | None = None,
    container: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod bound to the virtual node `node`, for a foreign node of kind `on` (fake or real)."""
    return {
        "metadata": {
            "name": name,
            "annotations": dict(annotations or {}),
            "labels": dict(labels or {}),
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {kwok.LABEL: on},
            "containers": [
                {
                    "name": "main",
                    "image": images.CLIENTS,
                    "command": ["sleep", "inf"],
                    "resources": {"limits": {"memory": "64Mi"}},
                    **(container or {}),
                }
            ],
            **(spec or {}),
        },
    }


def access(mode: str) -> dict[str, str]:
    """The annotation that selects an access mode; none for the default."""
    return {} if mode == HOME else {SUPPORT: mode}


def finishing(phase: str, *, after: str) -> dict[str, str]:
    """Annotations that end a pod on a fake node in `phase` after a duration (`300ms`)."""
    return {FINISH: phase, FINISH_AFTER: after}


def uid(seen: Mapping[str, Any]) -> str:
    found: str = seen["metadata"]["uid"]
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    return sorted(one["metadata"]["name"] for one in found)


def state(seen: Mapping[str, Any]) -> str:
    """Phase and reason in one string."""
    status = seen.get("status", {})
    return f"{status.get('phase')}/{status.get('reason', '-')}"


def of_node(owned: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with farlet's virtual node label."""
    return [one for one in owned if OWNER in one["metadata"].get("labels", {})]
