"""farlet between two model clusters, without Kopf and without a foreign kubelet.

Every module that reads, decides or writes is the real one; the test plays the users, the foreign
kubelet and what goes wrong between them. Time jumps, so minutes of waiting take none.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import structlog.testing

from farlet import draining, errors
from farlet.constants import API_SERVER_SUPPORT, ObjectKey, Reason
from farlet.context import Context, NewNamespaces
from farlet.foreign import namespaces
from farlet.foreign.created_namespaces import CreatedNamespaces
from farlet.foreign.identity import ForeignIdentity
from farlet.foreign.namespace import ForeignNamespace
from farlet.home import pods as home_pods
from farlet.names import secret_name
from farlet.planning.mirror_events import Shown
from farlet.reconcile import claims, copies, event_recorder, executor, mirror_events, work_queue
from farlet.reconcile import reconciler as reconcile
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from unit import faketime
from unit.planning import model, objects, process
from unit.planning.fake_cluster import FakeCluster
from unit.planning.model import JSON, Backup, Server, Write

USER, KUBELET = "user", "kubelet"
OWN, HOME, FOREIGN = "farlet", "default", "default-h"
NAMESPACES = (HOME, "second")
WORKERS = 3

Refusal = Callable[[], errors.FarletError | None]
"""Called when a request arrives; with `None`, it is served."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that farlet sent."""

    at: float
    request: str
    body: Any


class RecordingCluster(FakeCluster):
    """A fake cluster that records requests and refuses those that the test selects."""

    def __init__(self, name: str, server: Server, clock: Callable[[], float]) -> None:
        super().__init__(name, server, clock)
        self._now = clock
        self.received: list[Request] = []
        self.takes = 0.0
        """Seconds of each request, beside those of a fake cluster."""
        self.refusing: dict[str, Refusal] = {}
        """Regular expression for `METHOD path` -> what is raised instead of an answer."""
        self.answering: dict[str, JSON] = {}
        """Regular expression for `METHOD path` -> the answer, of any shape; nothing is done."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        request = f"{method} {path}"
        self.received.append(Request(self._now() - objects.NOW, request, body))
        if self.takes:
            await asyncio.sleep(self.takes)
        for pattern, refusal in list(self.refusing.items()):
            if re.search(pattern, request) and (refused := refusal()) is not None:
                raise refused
        for pattern, answer in self.answering.items():
            if re.search(pattern, request):
                return answer
        return await super().call(method, path, body=body, content_type=content_type, accept=accept)

    def requests(self, pattern: str) -> list[Request]:
        """The requests that match `pattern`."""
        return [one for one in self.received if re.search(pattern, one.request)]

    def refusal(
        self, kind: type[errors.ApiError], code: int, message: str, *, reason: str = ""
    ) -> Refusal:
        """An error answer of this server."""
        return lambda: kind(
            cluster=self.name, request="it", code=code, status_reason=reason, message=message
        )

    def silence(self) -> errors.FarletError:
        """No answer of this server."""
        return errors.Unreachable(cluster=self.name, request="it", cause="connection refused")


class AtHome:
    """Whether the identity for volumes is one of the home cluster."""

    def __init__(self) -> None:
        self.confirmed = True

    async def confirm(self) -> None:
        if not self.confirmed:
            raise errors.Refused(Reason.PROVISIONING_FAILED, "another cluster")


class Harness:
    """One farlet between two model clusters. Created by `running`."""

    store: Store
    queue: work_queue.WorkQueue[ObjectKey]
    recorder: event_recorder.Recorder
    mirror_events: mirror_events.MirrorEvents
    scopes: namespaces.ForeignNamespaces
    executor: executor.ActionExecutor
    pods: home_pods.HomePods
    identity: ForeignIdentity
    reconciler: reconcile.Reconciler

    def __init__(
        self, loop: faketime.Loop, ctx: Context, logs: Sequence[MutableMapping[str, Any]]
    ) -> None:
        self._loop = loop
        self.ctx = ctx
        self.shown = Shown.NONE
        """`--mirror-events`."""
        self.new: NewNamespaces | None = None
        """`--create-namespaces`, with these defaults."""
        self.reflects = False
        """`--reflect=services`."""
        self.busy = False
        """Pods wait to be reconciled, as the sender of mirrors' Events sees it."""
        self.logs = logs
        clock = self.clock
        self.home_server = Server(clock, (*NAMESPACES, OWN))
        self.foreign_server = Server(clock, (OWN, *(f"{name}-h" for name in NAMESPACES)))
        self.home = RecordingCluster("home", self.home_server, clock)
        self.foreign = RecordingCluster("foreign", self.foreign_server, clock)
        self.woken: list[ObjectKey] = []
        """Keys that foreign namespaces have woken."""
        self.passes: Counter[str] = Counter()
        """Passes by name of the home pod."""
        self.at_home = AtHome()
        """The identity for volumes."""
        self.metrics = Metrics()
        self.feeding = True
        """Kopf delivers events of home pods."""
        self.restarts = 0
        """Of Kopf."""
        self.home_server.observers.append(self._feed)
        self._process: asyncio.Task[None] | None = None

    def clock(self) -> float:
        return objects.NOW + self._loop.time()

    def wait(self, seconds: float = 1.0) -> None:
        """Time passes."""
        self._loop.run_until_complete(asyncio.sleep(seconds))
        if self._process is not None and self._process.done():
            self._process.result()

    def start(self) -> None:
        """farlet starts without memory."""
        self._process = self._loop.create_task(self._run())
        self.wait(0.001)

    def kill(self) -> None:
        """farlet is killed at any point."""
        assert self._process is not None
        self._process.cancel()
        self._loop.run_until_complete(asyncio.wait([self._process]))
        self._process = None

    def probe(self) -> None:
        """What farlet does every ten seconds. Raises what it raises."""
        self._loop.run_until_complete(self.identity.probe())

    def prune(self) -> None:
        """What a resync does every few minutes."""
        self._loop.run_until_complete(self.scopes.prune())

    async def _run(self) -> None:
        home, foreign = self.home, self.foreign
        self.store = store = Store()
        self.queue = work_queue.WorkQueue(
            self.metrics.queue("pods"), urgency=reconcile.urgency_of(store, lambda: self.ctx)
        )
        self.recorder = event_recorder.Recorder(
            home,
            node=self.ctx.node,
            dropped=self.metrics.events_dropped,
            busy=lambda: len(self.queue) > 0,
        )

        def wake(key: ObjectKey, seconds: float) -> None:
            self.woken.append(key)
            self.queue.add_after(key, seconds)

        opened: list[namespaces.ForeignNamespaces] = []

        def identity_changed() -> None:
            for one in opened:
                one.identity_changed()

        def namespace_changed(namespace: ForeignNamespace) -> None:
            copying.namespace_changed(namespace)
            if claiming is not None:
                claiming.namespace_changed(namespace)

        identity = self.identity = process.confirmed(foreign, self.ctx, on_change=identity_changed)
        async with asyncio.TaskGroup() as tasks:
            self.executor = executor.ActionExecutor(
                home=home,
                foreign=foreign,
                store=store,
                recorder=self.recorder,
                metrics=self.metrics,
                ctx=lambda: self.ctx,
                confirm_foreign=identity.confirm,
                on_dropped=lambda foreign: events.forget(foreign),
            )
            events = self.mirror_events = mirror_events.MirrorEvents(
                home,
                store,
                shown=self.shown,
                ctx=lambda: self.ctx,
                created_here=self.executor.times.created_here,
                busy=lambda: self.busy,
                dropped=self.metrics.mirror_events_dropped,
            )
            self.scopes = namespaces.ForeignNamespaces(
                foreign,
                store,
                ctx=lambda: self.ctx,
                wake=wake,
                on_mirror_change=self.executor.times.changed,
                on_mirror_event=None if self.shown is Shown.NONE else events.offer,
                on_copy_change=lambda source: copying.copy_changed(source),
                on_namespace_change=namespace_changed,
                with_volumes=lambda: () if claiming is None else claiming.with_volumes(),
                identity=identity,
                tasks=tasks,
                reflect_from=home if self.reflects else None,
                created=None
                if self.new is None
                else CreatedNamespaces(
                    home,
                    foreign,
                    new=self.new,
                    ctx=lambda: self.ctx,
                    confirm=identity.confirm,
                    report=self.recorder.note_namespace,
                ),
            )
            opened.append(self.scopes)
            copying = copies.Copies(
                home,
                foreign,
                store,
                self.scopes,
                watches=home,
                observer=self.metrics.queue("copies"),
                ctx=lambda: self.ctx,
                home_listed=lambda: self.pods.has_synced,
                wake=self.queue.add,
                tasks=tasks,
            )
            claiming: claims.Claims | None = None
            if self.ctx.storage_class_map:
                claiming = claims.Claims(
                    home,
                    foreign,
                    self.scopes,
                    observer=self.metrics.queue("claims"),
                    ctx=lambda: self.ctx,
                    note=self.recorder.note_claim,
                    wake=self.queue.add,
                    shows_events=True,
                    at_home=self.at_home,
                    tasks=tasks,
                )
            if claiming is not None:
                self.claims = claiming
            self.reconciler = reconciler = reconcile.Reconciler(
                store=store,
                namespaces=self.scopes,
                queue=self.queue,
                executor=self.executor,
                copies=copying,
                recorder=self.recorder,
                strategies=objects.STRATEGIES,
                ctx=lambda: self.ctx,
                home_listed=lambda: self.pods.has_synced,
                claims=reconcile.no_claims if claiming is None else claiming.states,
            )
            self.pods = home_pods.HomePods(
                home,
                store,
                node=self.ctx.node,
                wake=self.queue.add,
                dropped=self.executor.home.dropped,
                on_synced=self.scopes.wake_all,
                prune=lambda: None,  # the test decides when
                restart_watch=self._restart_kopf,
            )
            for pod in self.home_server.all("pods"):
                self.pods.event(None, model.clone(pod))
            tasks.create_task(self.scopes.load())
            tasks.create_task(self.pods.run())
            tasks.create_task(self.recorder.run())
            tasks.create_task(events.run())
            copying.start()
            if claiming is not None:
                claiming.start()

            async def work(key: ObjectKey) -> None:
                self.passes[key.name] += 1
                await reconciler.work(key)

            for _ in range(WORKERS):
                tasks.create_task(self.queue.work(work))

    def _restart_kopf(self) -> None:
        self.restarts += 1
        self.feeding = True
        for pod in self.home_server.all("pods"):
            self._loop.call_later(1.0, self.pods.event, None, model.clone(pod))
        self._loop.call_later(1.0, self.pods.resync)

    def restore(self, side: str, backup: Backup, *, bump: int = 0) -> None:
        """An administrator stops the API servers, restores the storage and starts them again."""
        server, cluster = {
            "home": (self.home_server, self.home),
            "foreign": (self.foreign_server, self.foreign),
        }[side]
        server.restore(backup, bump=bump)
        cluster.break_watches()
        if side == "home":
            # Kopf's watch is open again, from a version that does not exist.
            self.feeding = bump > 0
            if bump:
                for pod in server.all("pods"):  # it lists after 410
                    self._loop.call_soon(self.pods.event, None, model.clone(pod))

    def _feed(self, write: Write) -> None:
        if self._process is None or not self.feeding or write.where[0] != "pods":
            return
        if write.after is None:
            self._loop.call_soon(self.pods.event, "DELETED", model.clone(write.before))
        else:
            self._loop.call_soon(self.pods.event, "MODIFIED", model.clone(write.after))

    def drain(
        self,
        *,
        seconds: float = 120.0,
        immediate: asyncio.Event | None = None,
        cordon: Callable[[], Awaitable[None]] | None = None,
    ) -> asyncio.Task[draining.Drained]:
        """farlet drains its node."""
        work = draining.drain(
            self.home,
            self.store,
            ctx=lambda: self.ctx,
            cordon=cordon or _nothing,
            seconds=seconds,
            immediate=immediate or asyncio.Event(),
        )
        return self._loop.create_task(work)

    # --- users and controllers in the home cluster --------------------------------------------

    def create(
        self,
        name: str = "web",
        *,
        namespace: str = HOME,
        mode: str = "disabled",
        policy: str = "Always",
        mirrored: str | None = None,
    ) -> JSON:
        """A user creates a pod that is bound to the node. `mirrored`: it has run before."""
        pod: JSON = model.clone(objects.home(policy=policy, reads_token=mode == "home"))
        pod["metadata"] |= {
            "name": name,
            "annotations": {API_SERVER_SUPPORT: mode},
        }
        made = self.home_server.create("pods", namespace, pod, by=USER)
        if mirrored is not None:
            status = objects.home(phase="Running", mirrored=mirrored, state=objects.RUNNING)
            body = {"status": status.get("status", {})}
            where = ("pods", namespace, name)
            self.home_server.patch(where, body, by=USER, status=True, strategic=False)
        return made

    def delete(self, name: str = "web", *, namespace: str = HOME, grace: int | None = None) -> None:
        """`kubectl delete`."""
        self.home_server.delete(("pods", namespace, name), by=USER, grace=grace)

    def pod(self, name: str = "web", *, namespace: str = HOME) -> JSON | None:
        """The home pod as it is."""
        try:
            return self.home_server.get(("pods", namespace, name))
        except model.Status:
            return None

    def reason(self, name: str = "web", *, namespace: str = HOME) -> str | None:
        """`status.reason` of a home pod that is there."""
        pod = self.pod(name, namespace=namespace)
        assert pod is not None
        reason: str | None = pod["status"].get("reason")
        return reason

    def events(self, name: str = "web") -> list[str]:
        """Reasons of the Events of a home pod, in their order."""
        return [
            e["reason"]
            for e in self.home_server.all("events")
            if e["involvedObject"]["name"] == name
        ]

    # --- the foreign cluster ------------------------------------------------------------------

    def mirror(self, name: str = "web", *, namespace: str = FOREIGN) -> JSON | None:
        """The mirror as it is."""
        try:
            return self.foreign_server.get(("pods", namespace, name))
        except model.Status:
            return None

    def runs(self, name: str = "web", *, restarts: int = 0, ready: bool = True) -> None:
        """The mirror is on a foreign node, whose kubelet reports that it runs."""
        bound = {"spec": {"nodeName": "worker"}}
        self.foreign_server.patch(
            ("pods", FOREIGN, name), bound, by=KUBELET, status=False, strategic=False
        )
        state = objects.RUNNING if ready else objects.WAITING
        running = objects.mirror(phase="Running", state=state, restarts=restarts)
        body = {"status": running.get("status", {}), "metadata": {}}
        where = ("pods", FOREIGN, name)
        self.foreign_server.patch(where, body, by=KUBELET, status=True, strategic=False)

    def remove(
        self, name: str = "web", *, namespace: str = FOREIGN, unproven: bool = False
    ) -> None:
        """The mirror is gone at once, for any cause. `unproven`: its last event does not prove
        that, since a finalizer held it until then."""
        where = ("pods", namespace, name)
        server = self.foreign_server
        finalizers = ["example.org/held"] if unproven else None
        body: JSON = {"metadata": {"finalizers": finalizers}}
        server.patch(where, body, by=USER, status=False, strategic=False)
        server.delete(where, by=USER, grace=0)
        if unproven:
            free = {"metadata": {"finalizers": None}}
            server.patch(where, free, by=USER, status=False, strategic=False)

    def namespace_uid(self, name: str = FOREIGN) -> str:
        """The uid of a foreign namespace that exists."""
        uid: str = self.foreign_server.get(("namespaces", "", name))["metadata"]["uid"]
        return uid

    def recreate_namespace(self, name: str = FOREIGN) -> None:
        """A user deletes a foreign namespace whose pods end at once, and creates it again."""
        self.foreign_server.terminate_namespace(name)
        for mirror in self.foreign_server.all("pods", name):
            self.remove(mirror["metadata"]["name"], namespace=name)
        for _ in range(2):
            self.foreign_server.finish_namespaces()
        self.foreign_server.create_namespace(name)

    def configmaps(self, namespace: str = OWN) -> list[JSON]:
        """The inventory; in another namespace: what farlet writes there."""
        return self.foreign_server.all("configmaps", namespace)

    def remove_configmaps(self, namespace: str = OWN) -> None:
        """A user deletes them."""
        for found in self.configmaps(namespace):
            where = ("configmaps", namespace, found["metadata"]["name"])
            self.foreign_server.delete(where, by=USER)

    def registered(self) -> dict[str, str]:
        """The entries of the inventory."""
        (inventory,) = self.configmaps()
        data: dict[str, str] = inventory["data"]
        return data

    def secrets(self) -> list[JSON]:
        """All foreign Secrets."""
        return self.foreign_server.all("secrets", FOREIGN)

    def secret(self, pod: JSON, *, labels: dict[str, str] | None = None) -> JSON:
        """A user creates a Secret of the name that farlet uses for this home pod."""
        body = {
            "metadata": {"name": secret_name(pod["metadata"]["uid"]), "labels": labels or {}},
            "data": {"password": "dGhlaXJz"},
        }
        return self.foreign_server.create("secrets", FOREIGN, body, by=USER)


async def _nothing() -> None:
    """The test decides when namespaces are closed."""


class _Clock:
    """Replaces `time` in farlet's modules."""

    def __init__(self, loop: faketime.Loop) -> None:
        self._loop = loop

    def time(self) -> float:
        return objects.NOW + self._loop.time()

    monotonic = time


@contextlib.contextmanager
def running(
    *,
    ctx: Context = objects.CONTEXT,
    starts: bool = True,
    shown: Shown = Shown.NONE,
    new: NewNamespaces | None = None,
) -> Iterator[Harness]:
    """A harness of its own. `starts` False: the test starts farlet itself. `shown`: which Events
    of mirrors. `new`: farlet creates foreign namespaces."""
    with faketime.loop() as loop, pytest.MonkeyPatch.context() as patch:
        clock = _Clock(loop)
        for name, module in list(sys.modules.items()):
            if name.startswith("farlet.") and getattr(module, "time", None) is time:
                patch.setattr(module, "time", clock)
        with structlog.testing.capture_logs() as logs:
            made = Harness(loop, ctx, logs)
            made.shown, made.new = shown, new
            if starts:
                made.start()
            yield made
