"""Keeps one VirtualNode: its objects as they should be, its status as its pods report it.

Level-triggered: a change wakes the controller, which then reads what it needs. Each VirtualNode has
a task of its own, so that one which fails or waits leaves the others alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

import structlog
from pydantic import ValidationError

from farlet import errors, retrying
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import JSON, ObjectKey
from farlet.manager import conditions, objects, run_settings
from farlet.manager.conditions import Condition, Observation, PodReport
from farlet.manager.virtual_node import API_VERSION, KIND, MANAGER, Spec, VirtualNode
from farlet.telemetry.state import State

POLL_SECONDS = 15.0
"""Between two reads of the state of pods."""
MIN_INTERVAL_SECONDS = 1.0
"""Between two passes, however many changes arrive."""
RESYNC_SECONDS = 300.0
"""After this time everything is read anew: a watch that was interrupted can miss deletions."""
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all controllers share."""

    home: ApiClient
    image: str
    read_state: Callable[[JSON], Awaitable[State]]
    """The state that a pod reports. Raises `ValueError` with why there is none."""
    check_credentials: Callable[[VirtualNode], Awaitable[Condition]]
    forget: Callable[[ObjectKey], None]
    """Gets a VirtualNode that was deleted."""
    now: Callable[[], datetime]


class NodeController:
    """One VirtualNode, until its deletion."""

    def __init__(self, key: ObjectKey, surroundings: Surroundings) -> None:
        self._key = key
        self._with = surroundings
        self._changed = asyncio.Event()
        self._object: JSON | None = None
        self._found: dict[str, JSON] = {}
        """Its objects by kind, as they were seen last."""
        self._applied: dict[str, JSON] = {}
        """Its objects by kind, as this process applied them last."""
        self._read_at = asyncio.get_running_loop().time()

    # --- changes ------------------------------------------------------------------------------

    def node_changed(self, found: JSON) -> None:
        """The VirtualNode is like this now."""
        self._object = found
        self._changed.set()

    def object_changed(self, kind: str, found: JSON | None) -> None:
        """One of its objects is like this now; `None`: it does not exist."""
        if found is None:
            self._found.pop(kind, None)
        else:
            self._found[kind] = found
        self._changed.set()

    def wake(self) -> None:
        """Something else has changed: a pod, a Secret, a certificate."""
        self._changed.set()

    @property
    def node(self) -> VirtualNode | None:
        """The VirtualNode, if its fields are valid."""
        try:
            return None if self._object is None else VirtualNode.parse(self._object)
        except ValidationError:
            return None

    # --- the loop -----------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Until cancelled."""
        backoff = retrying.Backoff(BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS)
        failures = retrying.OncePerCause()
        while True:
            self._changed.clear()
            pause = POLL_SECONDS
            try:
                await self._reconcile()
                backoff.reset()
                failures.clear()
            except errors.FarletError as err:
                pause = backoff.next()
                if failures.is_new(str(err)):
                    log.warning(
                        "failed to reconcile virtual node",
                        node=self._key.name,
                        err=str(err),
                        retry_in=pause,
                    )
            except Exception:
                # A defect that one VirtualNode triggers must not end the others.
                pause = backoff.next()
                log.exception("internal error", node=self._key.name, retry_in=pause)
            await retrying.wait(self._changed, pause)
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    async def _reconcile(self) -> None:
        """One pass. Raises `FarletError`."""
        await self._resync()
        found = self._object
        if found is None or found["metadata"].get("deletionTimestamp"):
            return
        node, refused = _parsed(found)
        credentials = conditions.CREDENTIALS_NOT_CHECKED
        failed: errors.FarletError | None = None
        if refused is None:
            credentials = await self._credentials(node)
            try:
                refused = await self._apply(node, credentials)
            except errors.ApiError as err:
                failed = err
                refused = conditions.not_ready("ApplyFailed", str(err))
        reports = await self._reports(node)
        deployment = self._found.get("Deployment")
        rolling_out = deployment is None or conditions.is_rolling_out(deployment)
        observed = Observation(refused, credentials, reports, rolling_out)
        await self._write(node, found, observed)
        if failed is not None:
            raise failed

    async def _resync(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at < RESYNC_SECONDS:
            return
        try:
            self._object = await self._with.home.get(
                kinds.VIRTUAL_NODES, self._key.name, namespace=self._key.namespace
            )
        except errors.NotFound:
            self._object = None
        self._found.clear()
        self._read_at = loop.time()

    async def _credentials(self, node: VirtualNode) -> Condition:
        try:
            return await self._with.check_credentials(node)
        except errors.FarletError as err:
            kind = conditions.ConditionType.CREDENTIALS_VALID
            return Condition(kind, conditions.UNKNOWN, "CheckFailed", str(err))

    # --- objects ------------------------------------------------------------------------------

    async def _apply(self, node: VirtualNode, credentials: Condition) -> Condition | None:
        """Create and mend the objects. Returns why that is not done."""
        try:
            checked = run_settings.check(node)
        except errors.UsageError as err:
            return conditions.not_ready("InvalidSpec", str(err))
        parameters = run_settings.parameters(node, checked, image=self._with.image)
        desired = objects.desired(node, parameters)
        for wanted in desired:
            found = await self._current(wanted)
            if found is not None and not objects.is_ours(found, node):
                name = f"{wanted['kind']} {wanted['metadata']['name']}"
                return conditions.not_ready(
                    "ObjectConflict",
                    f"the {name} exists and was not created by the manager. Delete it, or create a "
                    "VirtualNode with another name: "
                    f"kubectl -n {node.namespace} get {name.replace(' ', '/').lower()}",
                )
        for wanted in desired:
            kind = wanted["kind"]
            found = self._found.get(kind)
            if found is None and kind == "Deployment" and credentials.status == conditions.FALSE:
                # Its pods could only fail. One that exists is never held back by credentials.
                return conditions.not_ready(
                    "CredentialsInvalid", f"no farlet pod was created: {credentials.message}"
                )
            if self._applied.get(kind) == wanted and objects.contains(found, wanted):
                continue
            self._found[kind] = await self._with.home.apply(
                kinds.of(kind),
                node.object_name,
                wanted,
                namespace=node.namespace,
                manager=MANAGER,
            )
            self._applied[kind] = wanted
            log.info("applied object", node=node.name, kind=kind, name=node.object_name)
        return None

    async def _current(self, wanted: JSON) -> JSON | None:
        """The object as it was seen last, read if it was not."""
        kind, metadata = wanted["kind"], wanted["metadata"]
        if kind not in self._found:
            try:
                self._found[kind] = await self._with.home.get(
                    kinds.of(kind), metadata["name"], namespace=metadata["namespace"]
                )
            except errors.NotFound:
                return None
        return self._found[kind]

    # --- status -------------------------------------------------------------------------------

    async def _reports(self, node: VirtualNode) -> Sequence[PodReport]:
        selector = ",".join(f"{key}={value}" for key, value in node.selector.items())
        pods = await self._with.home.list(
            kinds.PODS, namespace=node.namespace, label_selector=selector
        )
        current = [pod for pod in pods.items if not pod["metadata"].get("deletionTimestamp")]
        found = await asyncio.gather(*map(self._report, current))
        return sorted(found, key=lambda report: report.name)

    async def _report(self, pod: JSON) -> PodReport:
        try:
            return conditions.pod_report(pod, await self._with.read_state(pod), None)
        except ValueError as err:
            return conditions.pod_report(pod, None, str(err))

    async def _write(self, node: VirtualNode, found: JSON, observed: Observation) -> None:
        before: JSON = found.get("status") or {}
        status = conditions.status(node, observed, before=before, now=self._with.now())
        if status == before:
            return
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            # With the uid, so that another VirtualNode of this name gets no status of this one.
            "metadata": {"name": node.name, "namespace": node.namespace, "uid": node.uid},
            "status": status,
        }
        try:
            written = await self._with.home.apply(
                VIRTUAL_NODE_STATUS, node.name, body, namespace=node.namespace, manager=MANAGER
            )
        except (errors.NotFound, errors.Conflict):
            return  # it was deleted; the watch reports that
        if self._object is found:
            self._object = written


VIRTUAL_NODE_STATUS: Resource[JSON] = kinds.VIRTUAL_NODES.below("status")


def _parsed(found: JSON) -> tuple[VirtualNode, Condition | None]:
    """The VirtualNode; with default fields and a condition if its own are not valid."""
    try:
        return VirtualNode.parse(found), None
    except ValidationError as err:
        faults = "; ".join(
            f"spec.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in err.errors(include_input=False, include_url=False)
        )
        metadata = found["metadata"]
        node = VirtualNode(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            spec=Spec(),
        )
        return node, conditions.not_ready("InvalidSpec", faults)
