"""A fake home API server for identities: reviews, the published CA, and signing requests.

Tests act as approver and administrator.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

from farlet import errors
from farlet.client import decode
from unit import certificates
from unit.fakeclient import FakeClient

JSON = dict[str, Any]
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CA_MAP = "/api/v1/namespaces/kube-system/configmaps"
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
WATCH_SECONDS = 300.0


def unreachable() -> errors.FarletError:
    return errors.Unreachable(cluster="home", request="GET /", cause="refused")


def refusal(code: int) -> errors.FarletError:
    kind = {403: errors.Forbidden, 404: errors.NotFound, 410: errors.Gone}[code]
    return kind(cluster="home", request="GET /", code=code, status_reason="", message="no")


class Home(FakeClient):
    """Objects by path, their watches, and the received requests."""

    def __init__(self) -> None:
        self.requests_seen: list[tuple[str, str, Any]] = []
        self.failing: Callable[[], errors.FarletError] | None = None
        """The error of every request, if any."""
        self.review: Callable[[JSON], JSON] = lambda spec: {}
        """The status of a review, from its spec."""
        self.objects: dict[str, JSON] = {}
        self.events: list[tuple[str, str, JSON]] = []
        self._changed = asyncio.Event()
        self._versions = itertools.count(1)

    def count(self, method: str, path: str) -> int:
        return sum(1 for m, p, _ in self.requests_seen if (m, p) == (method, path))

    # --- used by farlet -----------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        self.requests_seen.append((method, path, body))
        await asyncio.sleep(0.01)
        if self.failing is not None:
            raise self.failing()
        if path in {TOKEN_REVIEWS, ACCESS_REVIEWS}:
            return {**body, "status": self.review(body["spec"])}
        if method == "POST" and path == CSRS:
            name = f"csr-{len(self.objects)}"
            return self.put(f"{CSRS}/{name}", {"metadata": {"name": name}, "spec": body["spec"]})
        if path not in self.objects:
            raise refusal(404)
        return self.objects[path]

    async def call_unqueued(
        self, method: str, path: str, *, body: Any = None, seconds: float
    ) -> JSON:
        return await self.call(method, path, body=body)

    async def watch_path(
        self,
        path: str,
        *,
        opened: Callable[[], None],
        accept: str | None = None,
        bookmarks: bool = True,
    ) -> AsyncIterator[decode.WatchEvent[JSON]]:
        self.requests_seen.append(("WATCH", path, None))
        if self.failing is not None:
            raise self.failing()
        opened()
        collection, _, query = path.partition("?")
        selector, _, version = query.partition("&resourceVersion=")
        watched = f"{collection}/{selector.removeprefix('fieldSelector=metadata.name%3D')}"
        sent = 0
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                while True:
                    for kind, where, obj in self.events[sent:]:
                        if where == watched and int(obj["metadata"]["resourceVersion"]) > int(
                            version
                        ):
                            yield decode.WatchEvent(kind, obj)
                    sent = len(self.events)
                    self._changed.clear()
                    await self._changed.wait()
                    if self.failing is not None:
                        raise self.failing()
        except TimeoutError:
            return

    # --- used by tests ------------------------------------------------------------------------

    def put(self, path: str, obj: JSON) -> JSON:
        kind = "MODIFIED" if path in self.objects else "ADDED"
        version = next(self._versions)
        metadata = {"uid": f"u{version}", **obj["metadata"], "resourceVersion": str(version)}
        self.objects[path] = {**obj, "metadata": metadata}
        self.emit(kind, path)
        return self.objects[path]

    def remove(self, path: str) -> None:
        version = str(next(self._versions))
        obj = self.objects.pop(path)
        self.events.append(
            ("DELETED", path, {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}})
        )
        self._changed.set()

    def emit(self, kind: str, path: str) -> None:
        self.events.append((kind, path, self.objects[path]))
        self._changed.set()

    def fail(self, failing: Callable[[], errors.FarletError] | None) -> None:
        """Fail all requests from now on, open watches included."""
        self.failing = failing
        self._changed.set()

    @property
    def requests(self) -> list[JSON]:
        """The signing requests, in order of creation."""
        return [obj for path, obj in self.objects.items() if path.startswith(CSRS)]

    def decide(self, name: str, condition: str) -> None:
        path = f"{CSRS}/{name}"
        status = {
            "conditions": [
                {"type": condition, "status": "True", "reason": "Because", "message": "of it"}
            ]
        }
        self.put(path, {**self.objects[path], "status": status})

    def sign(self, name: str, ca: certificates.Pair, *, now: datetime, lifetime: timedelta) -> None:
        path = f"{CSRS}/{name}"
        csr = self.objects[path]
        begins = now - timedelta(minutes=5)
        request = base64.b64decode(csr["spec"]["request"])
        pem = certificates.sign(ca, request, begins=begins, ends=begins + lifetime)
        status = {**csr["status"], "certificate": base64.b64encode(pem.encode()).decode()}
        self.put(path, {**csr, "status": status})

    def grant(
        self, name: str, ca: certificates.Pair, *, now: datetime, lifetime: timedelta
    ) -> None:
        """Approve and sign."""
        self.decide(name, "Approved")
        self.sign(name, ca, now=now, lifetime=lifetime)
