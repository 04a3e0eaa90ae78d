"""Small home pods and contexts for tests."""

from __future__ import annotations

from typing import Any, cast

from farlet.context import Context, Endpoint, NamespaceMap, Verified
from farlet.k8s_types import Pod

UID = "0b0f6e6c-6f31-4bb3-9d6c-0f5e7f2f7a11"
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def context(**fields: Any) -> Context:
    """A farlet that reaches home at 192.0.2.10:443."""
    usual = {
        "node": "far",
        "home_id": "home-1",
        "namespaces": NamespaceMap(home="home", own="farlet"),
        "home_api": Verified(Endpoint("192.0.2.10", 443)),
        "home_ca": "PEM",
        "node_labels": frozenset({"type"}),
        "taints": frozenset({"farlet.io/virtual-node"}),
    }
    return Context(**{**usual, **fields})


def pod(*, annotations: dict[str, str] | None = None, **spec: Any) -> Pod:
    """Pod shop/web with one container, and `spec`."""
    return cast(
        "Pod",
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "web",
                "namespace": "shop",
                "uid": UID,
                "labels": {"app": "web"},
                **({} if annotations is None else {"annotations": annotations}),
            },
            "spec": {
                "containers": [container()],
                "nodeName": "far",
                "serviceAccountName": "default",
                **spec,
            },
        },
    )


def container(name: str = "app", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "farlet.test/clients:1", **fields}


def projected(*sources: dict[str, Any], name: str = "access", **fields: Any) -> dict[str, Any]:
    """A projected volume."""
    return {"name": name, "projected": {"sources": list(sources), **fields}}


def token(path: str = "token", **fields: Any) -> dict[str, Any]:
    """A projected token."""
    return {"serviceAccountToken": {"path": path, **fields}}
