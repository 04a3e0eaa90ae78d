"""Keeps one tunnel to each gateway pod, and opens it again when it breaks.

Gateway pods are found by their label in farlet's foreign system namespace. A pod does not have to
be ready: it becomes ready when it has a tunnel.
"""

from __future__ import annotations

import asyncio
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
from farlet.gateway.relay_budget import RelayBudget
from farlet.k8s_types import Pod, PodPhase

BACKOFF_FIRST_SECONDS = 0.25
BACKOFF_LAST_SECONDS = 2.0
"""Pods cannot reach the home API server meanwhile."""

CONNECT_SECONDS = 5.0
"""How long `wait_connected` waits."""

STEADY_SECONDS = 10.0
"""After a tunnel that lasted this long, the backoff starts again at its first value."""

log = structlog.get_logger()


def create(
    home: Cluster,
    foreign: ApiClient,
    *,
    namespace: str,
    folder: Path,
    relays: int,
    on_change: Callable[[], None],
) -> TunnelManager:
    """Tunnels to the home API server of `home`'s kubeconfig, for at most `relays` connections of
    pods at once.

    Raises `StartError` for unusable keys and for a server URL that gateways do not support.
    """
    keys.read(folder)
    dial = home_dialer.HomeDialer(home)
    dial.check()
    return TunnelManager(
        foreign,
        namespace=namespace,
        folder=folder,
        dial=dial,
        budget=RelayBudget(relays=relays),
        on_change=on_change,
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
        budget: RelayBudget,
    ) -> None:
        """`folder` contains farlet's keys; `on_change` is called when `problem` can be another."""
        self._foreign = foreign
        self._folder = folder
        self._dial = dial
        self._budget = budget
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._reflector = reflector.Reflector(
            foreign,
            resources.PODS,
            self,
            namespace=namespace,
            on_state=self._notify,
            label_selector=GATEWAY_SELECTOR,
        )
        self._tasks: asyncio.TaskGroup | None = None
        # By the uid of the gateway pod.
        self._tunnels: dict[str, asyncio.Task[None]] = {}
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
        if not self._reflector.has_synced:
            return "the list of gateway pods has not been read yet"
        return "no gateway pod is running"

    async def wait_connected(self) -> None:
        """Wait until a gateway is connected or none exists, at most `CONNECT_SECONDS`."""
        await retrying.until(
            lambda: self.problem() is None or not (self._tunnels or self._is_listing()),
            self._changed,
            CONNECT_SECONDS,
        )

    def _is_listing(self) -> bool:
        return not self._reflector.has_synced and self._reflector.error is None

    @property
    def links(self) -> int:
        return len(self._links)

    @property
    def connections(self) -> int:
        """The number of connections of pods that the links carry."""
        return sum(link.load for link in self._links.values())

    async def run(self) -> None:
        """Keep the tunnels up until cancelled. Raises nothing but cancellation."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._reflector.run()

    # --- called by the reflector --------------------------------------------------------------

    def replaced(self, objects: Sequence[Pod], version: int) -> None:  # noqa: ARG002
        for uid in self._tunnels.keys() - {one["metadata"]["uid"] for one in objects}:
            self._stop(uid)
        for pod in objects:
            self._update(pod)
        self._notify()

    def changed(self, kind: str, obj: Pod) -> None:
        if kind == "DELETED":
            self._stop(obj["metadata"]["uid"])
        else:
            self._update(obj)
        # A connected pod becomes ready later, and only then the Service leads to it.
        self._notify()

    def _update(self, pod: Pod) -> None:
        metadata = pod["metadata"]
        uid = metadata["uid"]
        if pod.get("status", {}).get("phase") != PodPhase.RUNNING:
            self._stop(uid)
        elif uid not in self._tunnels:
            assert self._tasks is not None
            key = ObjectKey(metadata["namespace"], metadata["name"])
            self._tunnels[uid] = self._tasks.create_task(self._keep(uid, key), name=f"tunnel {key}")

    def _notify(self) -> None:
        self._changed.set()
        self._on_change()

    def _stop(self, uid: str) -> None:
        if (task := self._tunnels.pop(uid, None)) is not None:
            task.cancel()

    # --- one gateway pod ----------------------------------------------------------------------

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
                    log.warning("failed to connect to gateway", pod=str(pod), err=problem)
                    self._problems[uid] = problem
                    self._notify()
                await asyncio.sleep(retrying.jittered(backoff.next()))
        finally:
            self._problems.pop(uid, None)
            self._notify()

    async def _connect(self, uid: str, pod: ObjectKey) -> str:
        """Open a tunnel and keep it until it ends. Returns why it ended."""
        try:
            own = await asyncio.to_thread(keys.read, self._folder)
            async with port_forward.opened(self._foreign, pod, link.PORT) as forward:
                try:
                    opened = await tunnel.connect(forward.socket, own, self._dial, self._budget)
                except (asyncssh.Error, OSError) as err:
                    return forward.kubelet_error or tunnel.failure(err)
                log.info("gateway connected", pod=str(pod))
                await self._hold(uid, opened)
                return forward.kubelet_error or opened.reason
        except errors.FarletError as err:
            return str(err)

    async def _hold(self, uid: str, opened: Link) -> None:
        self._links[uid] = opened
        self._problems.pop(uid, None)
        self._notify()
        try:
            await opened.lost.wait()
        finally:
            opened.abort()
            del self._links[uid]
