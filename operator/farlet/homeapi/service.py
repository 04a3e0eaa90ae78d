"""Watches the Service `home-api` in farlet's foreign system namespace, and connects to it.

farlet has no access to the foreign cluster's network. To check what answers at the address of the
Service, it opens a port-forward into one of the pods behind it, as it does for a gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from farlet import errors, retrying
from farlet.client import reflector, resources, shapes
from farlet.client.api_client import ApiClient
from farlet.constants import HOME_API_SERVICE, JSON, ObjectKey
from farlet.gateway import port_forward
from farlet.homeapi import preflight
from farlet.homeapi.endpoint import ServiceAddress
from farlet.k8s_types import ConditionStatus, Pod

SYNC_SECONDS = 5.0


class Backend(NamedTuple):
    """A pod behind the Service, and the port of it that the Service sends to."""

    pod: ObjectKey
    port: int


class HomeService:
    """The Service as the watch shows it. `on_change` is called after each change."""

    def __init__(
        self, foreign: ApiClient, *, namespace: str, on_change: Callable[[], None]
    ) -> None:
        self._foreign = foreign
        self._namespace = namespace
        self._on_change = on_change
        self._reflector = reflector.Reflector(
            foreign,
            resources.SERVICES,
            self,
            namespace=namespace,
            on_state=self._notify,
            field_selector=f"metadata.name={HOME_API_SERVICE}",
        )
        self._updated = asyncio.Event()
        self.service: JSON | None = None
        """Its last known state; `None` if it does not exist or was not read yet."""

    @property
    def has_synced(self) -> bool:
        """Whether farlet has read once if the Service exists."""
        return self._reflector.has_synced

    @property
    def problem(self) -> errors.FarletError | None:
        """Why the Service was not read, or is possibly out of date."""
        return self._reflector.error

    async def run(self) -> None:
        """Watch the Service until cancelled. Raises nothing but cancellation."""
        await self._reflector.run()

    async def wait_synced(self) -> None:
        """Wait for the first answer of the foreign API server, at most `SYNC_SECONDS`."""
        await retrying.until(
            lambda: self.has_synced or self.problem is not None, self._updated, SYNC_SECONDS
        )

    # --- called by the reflector --------------------------------------------------------------

    def replaced(self, objects: Sequence[JSON], version: int) -> None:  # noqa: ARG002
        """The list, of one Service at most."""
        self._update(next(iter(objects), None))

    def changed(self, kind: str, obj: JSON) -> None:
        self._update(None if kind == "DELETED" else obj)

    def _update(self, service: JSON | None) -> None:
        self.service = service
        self._notify()

    def _notify(self) -> None:
        self._updated.set()
        self._on_change()

    # --- connections --------------------------------------------------------------------------

    def route(self, address: ServiceAddress) -> preflight.Route:
        """Over a port-forward into one of the pods behind the Service."""
        return preflight.Route(
            connect=lambda: self._connect(address),
            advice=f"check the endpoints of {address}",
            name_advice="Point that Service to the home API server itself, or add this name to "
            "the API server's certificate",
        )

    @contextlib.asynccontextmanager
    async def _connect(self, address: ServiceAddress) -> AsyncIterator[socket.socket | None]:
        backend = await self._backend(address)
        async with port_forward.opened(self._foreign, backend.pod, backend.port) as forward:
            try:
                yield forward.socket
            except OSError as err:
                if forward.kubelet_error is None:
                    raise
                raise ConnectionRefusedError(forward.kubelet_error) from err

    async def _backend(self, address: ServiceAddress) -> Backend:
        """A ready pod behind the Service. Raises `OSError` if there is none."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(address.selector.items()))
        pods, _ = await self._foreign.list(
            resources.PODS, namespace=self._namespace, label_selector=selector
        )
        found = (shapes.read(resources.PODS.shape, pod) for pod in pods)
        ready = [pod for pod, problem in found if problem is None and _is_ready(pod)]
        for pod in ready:
            port = _port(pod, address.target_port)
            if port is not None:
                return Backend(ObjectKey(self._namespace, pod["metadata"]["name"]), port)
        if ready:
            raise ConnectionRefusedError(
                f"no pod behind {address} has a port {address.target_port}"
            )
        raise ConnectionRefusedError(f"no pod behind {address} is ready")


def _is_ready(pod: Pod) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(
        one["type"] == "Ready" and one["status"] == ConditionStatus.TRUE for one in conditions
    )


def _port(pod: Pod, target: int | str) -> int | None:
    """The number of a Service's target port in this pod."""
    if isinstance(target, int):
        return target
    return next(
        (
            int(port["containerPort"])
            for container in pod.get("spec", {}).get("containers", ())
            for port in container.get("ports", ())
            if port.get("name") == target
        ),
        None,
    )
