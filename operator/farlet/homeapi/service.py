"""The Service `home-api` in farlet's own foreign namespace, and a look at who answers behind it.

It is followed by a watch. farlet stands outside of the foreign cluster's network, so its way to
the address of a Service is a port-forward into one of the pods behind it, as for a gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence

from farlet import errors
from farlet.client import reflector, resources
from farlet.client.api_client import ApiClient
from farlet.constants import HOME_API_SERVICE, JSON, ObjectKey
from farlet.gateway import port_forward
from farlet.homeapi import preflight
from farlet.homeapi.endpoint import Passage
from farlet.k8s_types import Pod

FIRST_LOOK_SECONDS = 5.0


class HomeService:
    """What is known of the Service. `on_change` is called when that has become another."""

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
            on_state=self._tell,
            field_selector=f"metadata.name={HOME_API_SERVICE}",
        )
        self._heard = asyncio.Event()
        self.service: JSON | None = None
        """As it is now, or was when it was last seen."""

    @property
    def known(self) -> bool:
        """Whether it is known that there is one, or that there is none."""
        return self._reflector.has_synced

    @property
    def problem(self) -> errors.FarletError | None:
        """Why it is not known, or may be out of date."""
        return self._reflector.error

    async def run(self) -> None:
        """Follow it for ever. Raises nothing but cancellation."""
        await self._reflector.run()

    async def first_heard(self) -> None:
        """Wait until something is known or is in the way, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                while not self.known and self.problem is None:
                    self._heard.clear()
                    await self._heard.wait()

    # --- what the reflector tells -------------------------------------------------------------

    def replaced(self, objects: Sequence[JSON], version: int) -> None:  # noqa: ARG002
        """At most the one."""
        self._now(next(iter(objects), None))

    def changed(self, kind: str, obj: JSON) -> None:
        """It came, changed or went."""
        self._now(None if kind == "DELETED" else obj)

    def _now(self, service: JSON | None) -> None:
        self.service = service
        self._tell()

    def _tell(self) -> None:
        self._heard.set()
        self._on_change()

    # --- the way to it ------------------------------------------------------------------------

    def approach(self, passage: Passage) -> preflight.Approach:
        """By one of the pods behind it."""
        return preflight.Approach(
            connected=lambda: self._connected(passage),
            cure=f"look at where {passage} leads",
            name_cure="Have that Service lead to the home API server itself, or add this name to "
            "the API server's certificate",
        )

    @contextlib.asynccontextmanager
    async def _connected(self, passage: Passage) -> AsyncIterator[socket.socket | None]:
        pod, port = await self._behind(passage)
        async with port_forward.opened(self._foreign, pod, port) as forward:
            try:
                yield forward.socket
            except OSError as err:
                if forward.complaint is None:
                    raise
                raise ConnectionRefusedError(forward.complaint) from err

    async def _behind(self, passage: Passage) -> tuple[ObjectKey, int]:
        """A pod that the Service sends to now, and its port. Raises `OSError` for none."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(passage.selector.items()))
        pods, _ = await self._foreign.list(
            resources.PODS, namespace=self._namespace, label_selector=selector
        )
        ready = [pod for pod in pods if _is_ready(pod)]
        for pod in ready:
            port = _port(pod, passage.target)
            if port is not None:
                return ObjectKey(self._namespace, pod["metadata"]["name"]), port
        if ready:
            raise ConnectionRefusedError(f"no pod behind {passage} has a port {passage.target}")
        raise ConnectionRefusedError(f"no pod behind {passage} is ready")


def _is_ready(pod: Pod) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
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
