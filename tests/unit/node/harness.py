"""A virtual node between two model clusters, in an event loop with a fake clock.

with harness.running() as node:
    node.start()
    node.foreign.down = True
    node.wait(60)
    assert node.condition("farlet.io/ForeignReachable") == "False"
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
from farlet.constants import Reason
from farlet.context import Context, NotConfigured
from farlet.foreign.identity import ForeignIdentity
from farlet.node.virtual_node import VirtualNode
from farlet.settings import loading
from unit import faketime
from unit.planning.fake_cluster import FakeCluster
from unit.planning.model import JSON, Server

NODE = "far"
CAPACITY = "cpu=8,memory=32Gi,pods=110"
EPOCH = 1_800_000_000.0
NOWHERE = ("", "farlet")
"""Cluster-scoped objects, and those in farlet's own namespace."""


class RecordedClient(FakeCluster):
    """A client that records its requests and can make the server forbid some."""

    def __init__(self, name: str, server: Server, clock: Callable[[], float]) -> None:
        super().__init__(name, server, clock)
        self.requests: list[tuple[str, str, JSON]] = []
        self.forbids: Callable[[str, str, JSON], str | None] = lambda *_: None
        """The message of a 403 for a request, or `None` to allow it."""
        self.rejects_credentials = False
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
        self.requests.append((method, path, sent))
        if self.rejects_credentials:
            raise errors.Unauthorized(
                cluster=self.name,
                request=f"{method} {path}",
                code=401,
                status_reason="Unauthorized",
                message="Unauthorized",
            )
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
        """All requests but GET."""
        return [f"{method} {path}" for method, path, _ in self.requests if method != "GET"]


class Lease:
    """Records renewals."""

    def __init__(self) -> None:
        self.renewals: list[float] = []
        self.owner: str | None = None
        self.problem: str | None = None
        self.free = asyncio.Event()
        self.free.set()

    async def acquire(self) -> None:
        await self.free.wait()

    async def release(self) -> None:
        """Not recorded."""

    async def renew(self) -> None:
        self.renewals.append(asyncio.get_running_loop().time())

    def owned_by(self, _node: str, uid: str | None) -> None:
        self.owner = uid


class Harness:
    """One virtual node with both clusters. Created by `running`."""

    virtual_node: VirtualNode
    identity: ForeignIdentity

    def __init__(
        self, loop: faketime.Loop, folder: Path, logs: Sequence[MutableMapping[str, Any]]
    ) -> None:
        self._loop = loop
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.write_text("{}")
        self.logs = logs
        self.home_server = Server(self.clock, NOWHERE)
        self.foreign_server = Server(self.clock, NOWHERE)
        self.home = RecordedClient("home", self.home_server, self.clock)
        self.foreign = RecordedClient("foreign", self.foreign_server, self.clock)
        self.lease = self.next_lease = Lease()
        self.foreign_problem: str | None = None
        self.events: list[tuple[str, str]] = []
        """Reason and message of each Event on the Node."""
        self.reconnected = 0
        self.rewound = 0
        """How often another history of the home cluster was noticed."""
        self.address = "10.0.0.1"
        self._process: asyncio.Task[None] | None = None

    def clock(self) -> float:
        return EPOCH + self._loop.time()

    def wait(self, seconds: float = 3.0) -> None:
        """Let time pass. Raises the error that ended the process."""
        self._loop.run_until_complete(asyncio.sleep(seconds))
        if self._process is not None and self._process.done():
            self._process.result()

    def start(self, **flags: object) -> None:
        """Start farlet and let three seconds pass."""
        given: dict[str, object] = {
            "nodename": NODE,
            "foreign_kubeconfig": str(self._kubeconfig),
            "capacity": CAPACITY,
        }
        given = {key: value for key, value in (given | flags).items() if value is not None}
        read = loading.load(settings.Settings, given)
        self.lease = self.next_lease
        self.next_lease = Lease()
        ctx = self._ctx(read)
        self.identity = ForeignIdentity(
            self.foreign, ctx, on_change=lambda: self.virtual_node.identity_changed()
        )
        self.foreign.guard = self.identity.guard
        self.virtual_node = VirtualNode(
            home=self.home,
            foreign=self.foreign,
            settings=read,
            ctx=lambda: self._ctx(read),
            foreign_problem=self._problem,
            note=lambda _, reason, message: self.events.append((reason.value, message)),
            identity=self.identity,
            on_home_rewound=self._note_rewound,
            on_home_reconnected=self._note_reconnected,
            lease=self.lease,
            heartbeat_lease=self.lease,
            now=lambda: datetime.fromtimestamp(self.clock(), UTC),
        )
        self._process = self._loop.create_task(self.virtual_node.run())
        self.wait()

    def _note_rewound(self) -> None:
        self.rewound += 1

    def _note_reconnected(self) -> None:
        self.reconnected += 1

    def _problem(self) -> errors.Refused | None:
        text = self.foreign_problem
        return None if text is None else errors.Refused(Reason.FOREIGN_UNREACHABLE, text)

    def stop(self) -> None:
        """Stop farlet, as for a restart."""
        assert self._process is not None
        self._process.cancel()
        self._loop.run_until_complete(asyncio.wait([self._process]))
        self._process = None

    def do(self, what: Any) -> None:
        """Run a coroutine of the node."""
        self._loop.run_until_complete(what)

    def start_error(self, **flags: object) -> str:
        """The error with which farlet fails to start."""
        try:
            self.start(**flags)
            self.wait(60)
        except BaseExceptionGroup as group:
            found = group.subgroup(errors.StartError)
            assert found is not None
            assert len(found.exceptions) == 1
            self._process = None
            return str(found.exceptions[0])
        raise AssertionError("farlet started")

    def _ctx(self, read: settings.Settings) -> Context:
        ctx = read.context(node=NODE, home_id="home", home_api=NotConfigured(), home_ca="")
        return dataclasses.replace(ctx, node_ip=self.address)

    # --- home cluster -------------------------------------------------------------------------

    def create(self, **changes: Any) -> JSON:
        """Create a Node of that name, as an administrator."""
        labels = changes.pop("labels", {"type": "virtual-kubelet"})
        taints = changes.pop("taints", [{"key": "farlet.io/virtual-node", "effect": "NoSchedule"}])
        body = {
            "metadata": {"name": NODE, "labels": labels},
            "spec": {"taints": taints, **changes},
            "status": {},
        }
        return self.home_server.create("nodes", "", body, by="admin")

    def change(self, body: JSON) -> None:
        """Patch the Node or its status, as an administrator."""
        where = ("nodes", "", NODE)
        status = "status" in body
        self.home_server.patch(where, body, by="admin", status=status, strategic=True)

    def delete(self) -> None:
        """Delete the Node, as an administrator."""
        self.home_server.delete(("nodes", "", NODE), by="admin")

    @property
    def stored_or_none(self) -> JSON | None:
        """The Node in the home cluster."""
        return next(iter(self.home_server.all("nodes")), None)

    @property
    def stored(self) -> JSON:
        """The Node in the home cluster, which must exist."""
        found = self.stored_or_none
        assert found is not None
        return found

    def condition(self, kind: str) -> str | None:
        """The status of a condition, `None` without it."""
        found = self.conditions().get(kind)
        return None if found is None else str(found["status"])

    def conditions(self) -> Mapping[str, JSON]:
        """Conditions by type."""
        return {c["type"]: c for c in self.stored["status"].get("conditions", ())}

    # --- foreign cluster ----------------------------------------------------------------------

    def foreign_node(self, name: str, **changes: Any) -> None:
        """Create or change a foreign node."""
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
        where = ("nodes", "", name)
        existing = {node["metadata"]["name"] for node in self.foreign_server.all("nodes")}
        if name in existing:
            self.foreign_server.patch(where, body, by="kubelet", status=True, strategic=False)
        else:
            self.foreign_server.create("nodes", "", body, by="kubelet")

    def delete_foreign_node(self, name: str) -> None:
        """Delete a foreign node."""
        self.foreign_server.delete(("nodes", "", name), by="admin")


@contextmanager
def running(folder: Path) -> Iterator[Harness]:
    """Both clusters; farlet is not started yet."""
    with faketime.loop() as loop, structlog.testing.capture_logs() as logs:
        yield Harness(loop, folder, logs)
