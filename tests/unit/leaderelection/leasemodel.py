"""An API server that knows only Leases, and connections that lose and delay messages."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from farlet import errors
from unit.fakeclient import FakeClient
from unit.planning.model import clone

FAR = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def refusal(kind: type[errors.ApiError], request: str, *, code: int) -> errors.ApiError:
    """What `answers` makes of a Status."""
    return kind(cluster="home", request=request, code=code, status_reason="", message="no")


class Server:
    """Leases by path, as the generic registry keeps them (`store.go` in `k8s.io/apiserver`)."""

    def __init__(self) -> None:
        self.leases: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self._count = 0

    def handle(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """One request, at once."""
        request = f"{method} {path}"
        self.log.append(request)
        body = clone(body)
        if method == "POST":
            if path != FAR:
                raise refusal(errors.NotFound, request, code=404)  # no such namespace
            path = f"{path}/{body['metadata']['name']}"
            if path in self.leases:
                raise refusal(errors.Conflict, request, code=409)
            body["metadata"]["uid"] = f"uid-{self._next()}"
        found = self.leases.get(path)
        if method == "GET":
            if found is None:
                raise refusal(errors.NotFound, request, code=404)
            return dict(clone(found))
        if method == "PUT":
            meta = body["metadata"]
            ours = (meta["uid"], meta["resourceVersion"])
            if found is None or ours != (
                found["metadata"]["uid"],
                found["metadata"]["resourceVersion"],
            ):
                raise refusal(errors.Conflict, request, code=409)
        datetime.fromisoformat(body["spec"]["renewTime"])
        body["metadata"]["resourceVersion"] = str(self._next())
        self.leases[path] = body
        return dict(clone(body))

    def hold(self, path: str, **spec: Any) -> None:
        """A Lease of others exists."""
        meta = {"name": path.rpartition("/")[2], "uid": "1", "resourceVersion": "1"}
        kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        self.leases[path] = {**kind, "metadata": meta, "spec": spec}

    def edit(self, path: str, **spec: Any) -> None:
        """As `kubectl edit` would."""
        self.leases[path]["spec"].update(spec)
        self.leases[path]["metadata"]["resourceVersion"] = str(self._next())

    def _next(self) -> int:
        self._count += 1
        return self._count


@dataclasses.dataclass(frozen=True)
class Fate:
    """Of one request: seconds until it arrives, and then until its answer does; `None`: never."""

    arrives: float | None = 0.01
    answers: float | None = 0.01


class Line(FakeClient):
    """A connection of one process to the server."""

    def __init__(self, server: Server, fate: Callable[[], Fate] = Fate) -> None:
        self._server = server
        self.fate = fate
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.refuses: errors.FarletError | None = None

    async def call_unqueued(
        self, method: str, path: str, *, body: object = None, seconds: float
    ) -> dict[str, Any]:
        """One request. What was sent arrives even if its sender has stopped waiting."""
        await self.thawed.wait()
        if self.refuses is not None:
            raise self.refuses
        fate = self.fate()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[str, Any]] = loop.create_future()
        if fate.arrives is not None:
            loop.call_later(fate.arrives, self._arrive, method, path, body, fate, answer)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            request = f"{method} {path}"
            raise errors.Unreachable(cluster="home", request=request, cause="timed out") from None
        finally:
            await self.thawed.wait()

    def _arrive(
        self,
        method: str,
        path: str,
        body: object,
        fate: Fate,
        answer: asyncio.Future[dict[str, Any]],
    ) -> None:
        result: dict[str, Any] | errors.FarletError
        try:
            result = self._server.handle(method, path, body)
        except errors.FarletError as err:
            result = err

        def tell() -> None:
            if answer.done():
                return
            if isinstance(result, errors.FarletError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        if fate.answers is not None:
            asyncio.get_running_loop().call_later(fate.answers, tell)


class Watcher:
    """A `leadership.Observer` that remembers."""

    def __init__(self) -> None:
        self.leading: bool | None = None
        self.slow = 0

    def led(self, lease: str, *, leading: bool) -> None:
        """Whether it leads."""
        del lease
        self.leading = leading

    def slow_path(self, lease: str) -> None:
        """One more."""
        del lease
        self.slow += 1


def moment(lease: dict[str, Any]) -> datetime:
    """When it was renewed last."""
    return datetime.fromisoformat(lease["spec"]["renewTime"]).astimezone(UTC)
