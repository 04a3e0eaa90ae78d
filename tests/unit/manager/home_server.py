"""A home API server in memory: server-side apply as far as the manager uses it."""

from __future__ import annotations

import copy
from typing import Any
from urllib.parse import parse_qs, urlsplit

from farlet import errors
from farlet.constants import JSON
from unit.fakeclient import FakeClient


class HomeServer(FakeClient):
    """Objects by path. `requests` are all writes, and reads of single objects."""

    def __init__(self) -> None:
        self.objects: dict[str, JSON] = {}
        self.requests: list[str] = []
        self.lists = 0
        self.failing: dict[str, Exception] = {}
        """Error by beginning of `METHOD PATH`."""
        self._version = 10

    @property
    def name(self) -> str:
        return "home"

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        parts = urlsplit(path)
        request = f"{method} {parts.path}"
        for beginning, error in self.failing.items():
            if request.startswith(beginning):
                raise error
        if method == "GET" and parts.query:
            self.lists += 1
            return self._list(parts.path, parse_qs(parts.query)["labelSelector"][0])
        self.requests.append(request)
        if method == "GET":
            if parts.path not in self.objects:
                raise missing(request)
            return copy.deepcopy(self.objects[parts.path])
        assert method == "PATCH"
        assert content_type == "application/apply-patch+yaml"
        assert isinstance(body, dict)
        return self._apply(parts.path, body)

    def _list(self, path: str, selector: str) -> JSON:
        wanted = dict(part.split("=") for part in selector.split(","))
        items = [
            one
            for where, one in self.objects.items()
            if where.startswith(f"{path}/")
            and (one["metadata"].get("labels") or {}).items() >= wanted.items()
        ]
        return {"items": items, "metadata": {"resourceVersion": str(self._version)}}

    def _apply(self, path: str, body: JSON) -> JSON:
        subresource = path.endswith("/status")
        path = path.removesuffix("/status")
        before = self.objects.get(path)
        if subresource and before is None:
            raise missing(path)
        self._version += 1
        made: JSON = {**copy.deepcopy(before or {}), **copy.deepcopy(body)}
        made["metadata"] = {
            **(before or {}).get("metadata", {}),
            **body["metadata"],
            "resourceVersion": str(self._version),
        }
        made["metadata"].setdefault("uid", f"uid-of-{path}")
        if not subresource:
            made["metadata"]["generation"] = made["metadata"].get("generation", 0) + 1
        self.objects[path] = made
        return copy.deepcopy(made)

    def put(self, path: str, found: JSON) -> None:
        self.objects[path] = found

    def status(self, name: str = "far") -> Any:
        return self.objects[node_path(name)].get("status")


def node_path(name: str = "far") -> str:
    return f"/apis/farlet.io/v1alpha1/namespaces/farlet/virtualnodes/{name}"


def deployment_path(name: str = "far") -> str:
    return f"/apis/apps/v1/namespaces/farlet/deployments/farlet-{name}"


def missing(request: str) -> errors.NotFound:
    return errors.NotFound(
        cluster="home", request=request, code=404, status_reason="NotFound", message="not found"
    )
