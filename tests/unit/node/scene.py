"""A virtual node between two model clusters, in a loop whose clock jumps.

with scene.playing() as play:
    play.start()
    play.foreign.down = True
    play.wait(60)
    assert play.condition("farlet.io/ForeignReachable") == "False"
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import structlog

from farlet import errors, settings
from farlet.context import Context
from farlet.node import virtual_node
from farlet.settings import loading
from unit import faketime
from unit.planning.fake_cluster import FakeCluster
from unit.planning.model import JSON, Server

NODE = "far"
CAPACITY = "cpu=8,memory=32Gi,pods=110"
EPOCH = 1_800_000_000.0
NOWHERE = cast("tuple[str, ...]", (None, "farlet"))
"""Objects of no namespace, and farlet's own."""


class Line(FakeCluster):
    """A connection that keeps what was asked, and what a server is to forbid."""

    def __init__(self, name: str, server: Server, clock: Callable[[], float]) -> None:
        super().__init__(name, server, clock)
        self.asked: list[tuple[str, str, JSON]] = []
        self.forbids: Callable[[str, str, JSON], str | None] = lambda *_: None
        """The message of a 403 to a request, if it gets one."""
        self.version = "v1.36.3"

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        """One request."""
        sent = cast("JSON", body or {})
        self.asked.append((method, path, sent))
        message = None if self.down else self.forbids(method, path, sent)
        if message is not None:
            raise errors.Forbidden(
                cluster=self.name,
                request=f"{method} {path}",
                code=403,
                status_reason="Forbidden",
                message=message,
            )
        if path == "/version" and not self.down:
            return {"gitVersion": self.version}
        return await super().call(method, path, body=body, content_type=content_type, accept=accept)

    def writes(self) -> list[str]:
        """What was not only read."""
        return [f"{method} {path}" for method, path, _ in self.asked if method != "GET"]


class Lease:
    """Counts."""

    def __init__(self) -> None:
        self.renewals: list[float] = []
        self.owner: str | None = None

    async def renew(self) -> None:
        self.renewals.append(asyncio.get_running_loop().time())

    def owned_by(self, _node: str, uid: str | None) -> None:
        self.owner = uid


class Scene:
    """One virtual node and what it stands between. Made by `playing`."""

    node: virtual_node.VirtualNode

    def __init__(
        self, loop: faketime.Loop, folder: Path, logs: Sequence[MutableMapping[str, Any]]
    ) -> None:
        self._loop = loop
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.write_text("{}")
        self.logs = logs
        self.home_server = Server(self.clock, NOWHERE)
        self.foreign_server = Server(self.clock, NOWHERE)
        self.home = Line("home", self.home_server, self.clock)
        self.foreign = Line("foreign", self.foreign_server, self.clock)
        self.lease = Lease()
        self.foreign_problem: str | None = None
        self.address = "10.0.0.1"
        self._process: asyncio.Task[None] | None = None

    def clock(self) -> float:
        return EPOCH + self._loop.time()

    def wait(self, seconds: float = 3.0) -> None:
        """Time passes. What ends the process is raised."""
        self._loop.run_until_complete(asyncio.sleep(seconds))
        if self._process is not None and self._process.done():
            self._process.result()

    def start(self, **flags: object) -> None:
        """Farlet starts, and gets three seconds."""
        given: dict[str, object] = {
            "nodename": NODE,
            "foreign_kubeconfig": str(self._kubeconfig),
            "capacity": CAPACITY,
        }
        given = {key: value for key, value in (given | flags).items() if value is not None}
        read = loading.load(settings.Settings, given)
        self.lease = Lease()
        self.node = virtual_node.VirtualNode(
            home=self.home,
            foreign=self.foreign,
            settings=read,
            ctx=lambda: self._ctx(read),
            foreign_problem=lambda: self.foreign_problem,
            lease=self.lease,
            beats=True,
            now=lambda: datetime.fromtimestamp(self.clock(), UTC),
        )
        self._process = self._loop.create_task(self.node.run())
        self.wait()

    def stop(self) -> None:
        """Farlet ends, as it does for a restart."""
        assert self._process is not None
        self._process.cancel()
        self._loop.run_until_complete(asyncio.wait([self._process]))
        self._process = None

    def do(self, what: Any) -> None:
        """Await something of the node."""
        self._loop.run_until_complete(what)

    def refusal(self, **flags: object) -> str:
        """Why farlet does not start."""
        try:
            self.start(**flags)
            self.wait(60)
        except BaseExceptionGroup as group:
            found = group.subgroup(errors.StartError)
            assert found is not None
            assert len(found.exceptions) == 1
            self._process = None
            return str(found.exceptions[0])
        raise AssertionError("it started")

    def _ctx(self, read: settings.Settings) -> Context:
        ctx = read.context(node=NODE, home_id="home", endpoint=None, home_ca="")
        return dataclasses.replace(ctx, node_ip=self.address)

    # --- home ---------------------------------------------------------------------------------

    def create(self, **changes: Any) -> JSON:
        """A Node of that name, made by somebody else."""
        labels = changes.pop("labels", {"type": "virtual-kubelet"})
        taints = changes.pop("taints", [{"key": "farlet.io/virtual-node", "effect": "NoSchedule"}])
        body = {
            "metadata": {"name": NODE, "labels": labels},
            "spec": {"taints": taints, **changes},
            "status": {},
        }
        return self.home_server.create("nodes", cast("str", None), body, by="admin")

    def change(self, body: JSON) -> None:
        """Somebody else patches the Node, or its status."""
        where = ("nodes", cast("str", None), NODE)
        status = "status" in body
        self.home_server.patch(where, body, by="admin", status=status, strategic=True)

    def delete(self) -> None:
        """An administrator deletes the Node."""
        self.home_server.delete(("nodes", cast("str", None), NODE), by="admin")

    @property
    def seen(self) -> JSON | None:
        """The Node as home has it."""
        return next(iter(self.home_server.all("nodes")), None)

    @property
    def there(self) -> JSON:
        """The same, which is there."""
        seen = self.seen
        assert seen is not None
        return seen

    def condition(self, kind: str) -> str | None:
        """The status of a condition."""
        found = self.conditions().get(kind)
        return None if found is None else str(found["status"])

    def conditions(self) -> Mapping[str, JSON]:
        """By type."""
        return {c["type"]: c for c in self.there["status"].get("conditions", ())}

    # --- abroad -------------------------------------------------------------------------------

    def machine(self, name: str, **changes: Any) -> None:
        """A foreign node, made or changed."""
        amounts = changes.pop("amounts", {"cpu": "4", "memory": "8Gi", "pods": "110"})
        info = {"operatingSystem": "linux", "architecture": changes.pop("arch", "amd64")}
        ready = changes.pop("ready", "True")
        status = {
            "capacity": amounts,
            "allocatable": amounts,
            "nodeInfo": info,
            "conditions": [{"type": "Ready", "status": ready}],
        }
        body = {"metadata": {"name": name}, "spec": changes, "status": status}
        where = ("nodes", cast("str", None), name)
        known = {node["metadata"]["name"] for node in self.foreign_server.all("nodes")}
        if name in known:
            self.foreign_server.patch(where, body, by="kubelet", status=True, strategic=False)
        else:
            self.foreign_server.create("nodes", cast("str", None), body, by="kubelet")

    def unplug(self, name: str) -> None:
        """A foreign node goes."""
        self.foreign_server.delete(("nodes", cast("str", None), name), by="admin")


@contextmanager
def playing(folder: Path) -> Iterator[Scene]:
    """A scene; farlet is not started yet."""
    with faketime.loop() as loop, structlog.testing.capture_logs() as logs:
        yield Scene(loop, folder, logs)
