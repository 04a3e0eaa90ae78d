"""One tunnel to each gateway pod, for as long as the pod runs; made again whenever it breaks.

Gateways are found by their label in farlet's own foreign namespace. A pod need not be ready: it is
ready when it has a tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncssh
import structlog

from farlet import errors, retrying
from farlet.client import reflector, resources
from farlet.client.api_client import ApiClient
from farlet.client.cluster import Cluster
from farlet.constants import GATEWAY_SELECTOR, ObjectKey
from farlet.gateway import home_dialer, keys, link, port_forward, tunnel
from farlet.gateway.link import Link
from farlet.k8s_types import Pod

BACKOFF_FIRST_SECONDS = 0.25
BACKOFF_LAST_SECONDS = 2.0
"""Pods abroad cannot reach home meanwhile."""

SETTLE_SECONDS = 5.0

STEADY_SECONDS = 10.0
"""A tunnel that lasted so long starts with a fresh backoff."""

log = structlog.get_logger()


def keeping(
    home: Cluster,
    foreign: ApiClient,
    *,
    namespace: str,
    folder: Path,
    on_change: Callable[[], None],
) -> TunnelManager:
    """Tunnels to the home API server of `home`'s kubeconfig.

    Raises `StartError` for keys that are none, and for a server that pods could not reach so.
    """
    keys.read(folder)
    dial = home_dialer.HomeDialer(home)
    dial.check()
    return TunnelManager(
        foreign, namespace=namespace, folder=folder, dial=dial, on_change=on_change
    )


class TunnelManager:
    """Keeps the tunnels up while `run` runs."""

    def __init__(
        self,
        foreign: ApiClient,
        *,
        namespace: str,
        folder: Path,
        dial: tunnel.Dial,
        on_change: Callable[[], None],
    ) -> None:
        """`folder` holds our keys; `on_change` is called when `problem` may have changed."""
        self._foreign = foreign
        self._folder = folder
        self._dial = dial
        self._on_change = on_change
        self._moved = asyncio.Event()
        self._reflector = reflector.Reflector(
            foreign,
            resources.PODS,
            self,
            namespace=namespace,
            on_state=self._tell,
            label_selector=GATEWAY_SELECTOR,
        )
        self._tasks: asyncio.TaskGroup | None = None
        # All by the uid of the pod.
        self._kept: dict[str, asyncio.Task[None]] = {}
        self._links: dict[str, Link] = {}
        self._problems: dict[str, str] = {}

    def problem(self) -> str | None:
        """Why no gateway is connected; `None` when one is."""
        if self._links:
            return None
        for problem in self._problems.values():
            return problem
        if self._reflector.error is not None:
            return str(self._reflector.error)
        return (
            "no gateway pod runs" if self._reflector.has_synced else "gateway pods are being listed"
        )

    async def settled(self) -> None:
        """Wait until a gateway is connected or none is there to be, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self.problem() is not None and (self._kept or self._is_awaited()):
                    self._moved.clear()
                    await self._moved.wait()

    def _is_awaited(self) -> bool:
        return not self._reflector.has_synced and self._reflector.error is None

    @property
    def connected(self) -> tuple[int, int]:
        """How many gateways there are, and how many connections of pods they carry."""
        return len(self._links), sum(one.load for one in self._links.values())

    async def run(self) -> None:
        """Keep them up for ever. Raises nothing but cancellation."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._reflector.run()

    # --- what the reflector tells -------------------------------------------------------------

    def replaced(self, objects: Sequence[Pod], version: int) -> None:  # noqa: ARG002
        """All pods there are."""
        for gone in self._kept.keys() - {one["metadata"]["uid"] for one in objects}:
            self._forget(gone)
        for pod in objects:
            self._look(pod)
        self._tell()

    def changed(self, kind: str, obj: Pod) -> None:
        """One pod."""
        if kind == "DELETED":
            self._forget(obj["metadata"]["uid"])
        else:
            self._look(obj)
        # A pod that is connected becomes ready later, and only then does the Service lead to it.
        self._tell()

    def _look(self, pod: Pod) -> None:
        metadata = pod["metadata"]
        uid = metadata["uid"]
        if pod.get("status", {}).get("phase") != "Running":
            self._forget(uid)
        elif uid not in self._kept:
            assert self._tasks is not None
            key = ObjectKey(metadata["namespace"], metadata["name"])
            self._kept[uid] = self._tasks.create_task(self._keep(uid, key), name=f"tunnel {key}")

    def _tell(self) -> None:
        self._moved.set()
        self._on_change()

    def _forget(self, uid: str) -> None:
        if (task := self._kept.pop(uid, None)) is not None:
            task.cancel()

    # --- one pod ------------------------------------------------------------------------------

    async def _keep(self, uid: str, pod: ObjectKey) -> None:
        loop = asyncio.get_running_loop()
        backoff = retrying.Backoff(BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS)
        try:
            while True:
                started = loop.time()
                problem = f"gateway pod {pod} is not connected: {await self._connect(uid, pod)}"
                if loop.time() - started > STEADY_SECONDS:
                    backoff.reset()
                if problem != self._problems.get(uid):
                    log.warning("gateway was not connected", pod=str(pod), err=problem)
                    self._problems[uid] = problem
                    self._tell()
                await asyncio.sleep(retrying.jittered(backoff.next()))
        finally:
            self._problems.pop(uid, None)
            self._tell()

    async def _connect(self, uid: str, pod: ObjectKey) -> str:
        """Have a tunnel for as long as it holds; why it does not any more."""
        try:
            own = await asyncio.to_thread(keys.read, self._folder)
            async with port_forward.opened(self._foreign, pod, link.PORT) as forward:
                try:
                    made = await tunnel.connect(forward.socket, own, self._dial)
                except (asyncssh.Error, OSError) as err:
                    return forward.complaint or link.told(err)
                log.info("gateway was connected", pod=str(pod))
                await self._hold(uid, made)
                return forward.complaint or made.reason
        except errors.FarletError as err:
            return str(err)

    async def _hold(self, uid: str, made: Link) -> None:
        self._links[uid] = made
        self._problems.pop(uid, None)
        self._tell()
        try:
            await made.lost.wait()
        finally:
            made.abort()
            del self._links[uid]
