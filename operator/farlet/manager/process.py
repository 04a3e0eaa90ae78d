"""`farlet manager` as a process: the home cluster, one controller for each VirtualNode, probes.

Kopf watches and calls `Manager.changed`; the controllers run in Kopf's event loop. If Kopf ends,
the process ends, and the kubelet starts another one: farlets serve their nodes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

import kopf
import structlog

from farlet import errors, retrying
from farlet.client import connection_errors, credential_sources, kinds
from farlet.client.cluster import Cluster
from farlet.constants import JSON
from farlet.home.kopf_session import KopfSessions
from farlet.manager import credentials, handlers, kubeconfig_client, serving_approval
from farlet.manager.controllers import Controllers
from farlet.manager.states import StateReader
from farlet.manager.virtual_node import KIND, MANAGER, VirtualNode
from farlet.manager.virtual_node_controller import Dependencies
from farlet.settings import ManagerSettings
from farlet.telemetry import logs, probes
from farlet.telemetry.metrics import Metrics

CONTAINER = "manager"
"""The container of the manager in its pod, as `install.manager` creates it."""

log = structlog.get_logger()


class Manager:
    """The state of one manager, in one event loop."""

    def __init__(self, settings: ManagerSettings, *, reader: StateReader | None = None) -> None:
        """Raises `UsageError`."""
        self._settings = settings
        source = credential_sources.home_source(settings, os.environ)
        self._sessions = KopfSessions(source)
        metrics = Metrics()
        self._home = Cluster("home", source, metrics=metrics.client("home"))
        self._credentials = credentials.Credentials(
            self._home,
            now=retrying.utc_now,
            connect=kubeconfig_client.KubeconfigClients(metrics),
        )
        self._approver = serving_approval.Approver(
            self._home, namespace=settings.namespace, nodes=self._nodes
        )
        self._reader = reader or StateReader()
        self._stack = contextlib.AsyncExitStack()
        self._controllers: Controllers | None = None
        self.failed: errors.FarletError | None = None
        """Why the manager could not start."""

    # --- for Kopf -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Log in and verify what Kopf would only warn of. Raises `FarletError`."""
        logs.configure(self._settings.log_level, self._settings.log_format)
        try:
            await self._start()
        except errors.FarletError as err:
            self.failed = err
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        await self._stack.enter_async_context(self._home)
        await self._stack.enter_async_context(self._reader)
        await self._stack.enter_async_context(
            probes.serve(
                metrics=None,
                probes=probes.Probes(ready={"home": lambda: self._home.problem}),
                metrics_at=None,
                health_at=self._settings.health_probe_bind_address,
            )
        )
        await self._require_definition()
        self._controllers = Controllers(
            Dependencies(
                home=self._home,
                image=await self._image(),
                read_state=self._reader.read,
                check_credentials=self._credentials.reconcile,
                credentials_changed=self._credentials.changed,
                forget=self._credentials.forget,
                now=retrying.utc_now,
            )
        )
        approving = asyncio.create_task(self._approver.run(), name="serving certificates")
        self._stack.callback(approving.cancel)
        log.info("manager started", namespace=self._settings.namespace, home=self._home.server)

    async def stop(self) -> None:
        """End all controllers. The next manager completes what they had begun."""
        if self._controllers is not None:
            await self._controllers.close()
        await self._sessions.close()
        await self._stack.aclose()
        log.info("manager stopped")

    async def login(self) -> kopf.AiohttpSession:
        return await self._sessions.log_in()

    def changed(self, found: JSON, *, deleted: bool) -> None:
        if self._controllers is None:
            raise RuntimeError("an event arrived before the start")
        if found["kind"] == "CertificateSigningRequest":
            self._approver.changed(found, deleted=deleted)
        self._controllers.changed(found, deleted=deleted)
        if found["kind"] in {"Pod", KIND}:
            self._approver.wake()

    # --- the start ----------------------------------------------------------------------------

    async def _require_definition(self) -> None:
        try:
            await self._home.list(kinds.VIRTUAL_NODES, namespace=self._settings.namespace, limit=1)
        except (errors.NotFound, errors.UnknownPath) as err:
            raise errors.StartError(
                "the home cluster does not know VirtualNodes. Install the definition: "
                "kubectl apply --server-side -f crds/farlet.io_virtualnodes.yaml"
            ) from err

    async def _image(self) -> str:
        """As set, else the one of this pod. Raises `StartError`."""
        if self._settings.image is not None:
            return self._settings.image
        if self._settings.pod_name is None:
            raise errors.StartError(
                "the image for farlet is not known: set --image (FARLET_IMAGE), or, if the manager "
                "runs in a pod, set FARLET_POD_NAME to the name of that pod"
            )
        pod = await self._home.get(
            kinds.PODS, self._settings.pod_name, namespace=self._settings.namespace
        )
        return image_of(pod)

    def _nodes(self) -> Sequence[VirtualNode]:
        return () if self._controllers is None else self._controllers.nodes


def image_of(pod: JSON) -> str:
    """The image of the manager in its pod, which can have sidecars. Raises `StartError`."""
    for container in pod["spec"]["containers"]:
        if container["name"] == CONTAINER:
            return str(container["image"])
    raise errors.StartError(
        f"the pod {pod['metadata']['name']} has no container named {CONTAINER}: set --image "
        "(FARLET_IMAGE)"
    )


def run(settings: ManagerSettings) -> int:
    """Run until SIGTERM or Ctrl-C. Returns the exit code. Raises `UsageError` and `StartError`."""
    logs.configure(settings.log_level, settings.log_format)
    registry, manager = kopf.OperatorRegistry(), Manager(settings)
    handlers.register(registry, manager)
    operator = kopf.operator(
        registry=registry,
        namespaces=[settings.namespace],
        standalone=True,
        identity=MANAGER,  # type: ignore[arg-type]  # a string by another name
    )
    try:
        asyncio.run(operator)
    except Exception as err:
        # Kopf raises its own errors and aiohttp's, all of which end it.
        failed = (
            manager.failed
            or f"the watches of the home cluster ended: {connection_errors.cause(err)}"
        )
        raise errors.StartError(str(failed)) from err
    return 0
