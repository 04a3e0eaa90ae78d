"""Keeps one VirtualNode: its objects as they should be, its status as its pods report it.

Level-triggered: a change wakes the controller, which then reads what it needs. Each VirtualNode has
a task of its own, so that one which fails or waits leaves the others alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog
from pydantic import ValidationError

from farlet import errors, retrying
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import JSON, ObjectKey
from farlet.manager import conditions, objects, rollout, run_settings, states
from farlet.manager.conditions import Condition, Observation, PodReport
from farlet.manager.virtual_node import API_VERSION, KIND, MANAGER, Spec, VirtualNode
from farlet.telemetry.state import State

POLL_SECONDS = 15.0
"""Between two reads of the state of pods, and between two writes of a status that only differs in
the number of pods."""
UNSETTLED_SECONDS = 3.0
"""The same while the node has a problem, or is expected to change: readers of its status wait."""
SECRET_SECONDS = 120.0
"""How long pods may take to read a Secret that has changed: the kubelet updates their files."""
MIN_INTERVAL_SECONDS = 1.0
"""Between two passes, however many changes arrive."""
RESYNC_SECONDS = 300.0
"""After this time everything is read anew: a watch that was interrupted can miss deletions."""
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What all controllers share."""

    home: ApiClient
    image: str
    read_state: Callable[[JSON], Awaitable[State]]
    """The state that a pod reports. Raises `ValueError` with why there is none."""
    check_credentials: Callable[[VirtualNode, frozenset[str], frozenset[str]], Awaitable[Condition]]
    """Gets the foreign Secrets that pods of a spec before still mount, and those whose credentials
    the foreign API server does not accept, as pods report."""
    credentials_changed: Callable[[ObjectKey], None]
    """Gets a VirtualNode of which a Secret or a certificate signing request has changed."""
    forget: Callable[[ObjectKey], None]
    """Gets a VirtualNode that was deleted."""
    now: Callable[[], datetime]


class _Parsed(NamedTuple):
    """A VirtualNode, with default fields if its own are not valid."""

    node: VirtualNode
    refused: Condition | None
    """Why its spec is not applied."""


class VirtualNodeController:
    """One VirtualNode, until its deletion."""

    def __init__(self, key: ObjectKey, dependencies: Dependencies) -> None:
        self._key = key
        self._use = dependencies
        self._changed = asyncio.Event()
        self._object: JSON | None = None
        self._parsed: _Parsed | None = None
        """Of `_object`."""
        self._found: dict[str, JSON] = {}
        """Its objects by kind, as they were seen last."""
        self._applied: dict[str, JSON] = {}
        """Its objects by kind, as this process applied them last."""
        self._pods: dict[str, JSON] | None = None
        """Its pods by name; `None`: they must be listed."""
        self._pod_changes = 0
        self._answered: set[str] = set()
        """Names of pods that reported their state in the last pass."""
        self._resync_at = asyncio.get_running_loop().time() + RESYNC_SECONDS
        self._written_at = float("-inf")
        """When its status was written last."""
        self._is_settled = False
        """Whether the status of the last pass shows no problem and no rollout."""
        self._secret_until = float("-inf")
        """Until when pods may still use what a Secret contained before."""

    # --- changes ------------------------------------------------------------------------------

    def node_changed(self, found: JSON) -> None:
        """Note the present version of the VirtualNode."""
        before = self._object
        self._note(found)
        # Its status is written here: to wake for that would be a loop.
        if before is None or _wanted(before) != _wanted(found):
            self._changed.set()

    def object_changed(self, kind: str, found: JSON | None) -> None:
        """Note the present version of one of its objects; `None`: it does not exist."""
        if found is None:
            self._found.pop(kind, None)
            self._require_resync()  # the VirtualNode can be gone, and its objects with it
        else:
            self._found[kind] = found
        self._changed.set()

    def pod_changed(self, pod: JSON, *, deleted: bool) -> None:
        """Note the present version of one of its pods."""
        self._pod_changes += 1
        if self._pods is not None:
            self._pods.pop(pod["metadata"]["name"], None)
            if not deleted:
                self._pods[pod["metadata"]["name"]] = pod
        self._changed.set()

    def credentials_changed(self) -> None:
        """A Secret or a certificate has changed."""
        self._secret_until = asyncio.get_running_loop().time() + SECRET_SECONDS
        self._changed.set()

    @property
    def node(self) -> VirtualNode | None:
        """The VirtualNode, with default fields if its own are not valid."""
        return None if self._parsed is None else self._parsed.node

    def _note(self, found: JSON | None) -> None:
        self._object = found
        self._parsed = None if found is None else _parsed(found)

    # --- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the VirtualNode is gone."""
        backoff = retrying.Backoff(BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS)
        failures = retrying.OncePerCause()
        while True:
            self._changed.clear()
            try:
                if not await self._reconcile():
                    return
                backoff.reset()
                failures.clear()
                pause = self._pause()
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
                log.exception(
                    "virtual node failed with an internal error",
                    node=self._key.name,
                    retry_in=pause,
                )
            await retrying.wait(self._changed, pause)
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    def _pause(self) -> float:
        settled = self._is_settled and asyncio.get_running_loop().time() >= self._secret_until
        return POLL_SECONDS if settled else UNSETTLED_SECONDS

    async def _reconcile(self) -> bool:
        """One pass; false if the VirtualNode is gone. Raises `FarletError`."""
        await self._resync()
        found, parsed = self._object, self._parsed
        if found is None or parsed is None:
            return False
        if found["metadata"].get("deletionTimestamp"):
            return True
        node, refused = parsed
        failures: list[errors.FarletError] = []
        reports = await self._reports(node)
        credentials = await self._credentials(parsed, reports, failures)
        if refused is None:
            refused = await self._applied_or_not(node, credentials, failures)
        deployment = self._found.get("Deployment")
        observed = Observation(
            refused,
            credentials,
            reports,
            rolling_out=bool(rollout.unfinished(deployment)),
            not_admitted=rollout.refusal(deployment),
        )
        await self._write(node, found, observed)
        if failures:
            raise failures[0]
        return True

    def _require_resync(self) -> None:
        """Read everything anew in the next pass."""
        self._resync_at = asyncio.get_running_loop().time()

    async def _resync(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._resync_at:
            return
        before = self._object
        try:
            current = await self._use.home.get(
                kinds.VIRTUAL_NODES, self._key.name, namespace=self._key.namespace
            )
        except errors.NotFound:
            current = None
        if self._object is before:  # else an event is newer than the answer can be
            self._note(current)
        self._found.clear()
        self._pods = None
        self._resync_at = loop.time() + RESYNC_SECONDS

    async def _credentials(
        self, parsed: _Parsed, reports: Sequence[PodReport], failures: list[errors.FarletError]
    ) -> Condition:
        kind = conditions.ConditionType.CREDENTIALS_VALID
        node = parsed.node
        try:
            mounts = await self._mounts(node)
            serving = node if parsed.refused is None else next(iter(mounts), None)
            if serving is None:
                return conditions.CREDENTIALS_NOT_CHECKED
            secrets = frozenset(one.foreign_secret for one in mounts) - {serving.foreign_secret}
            rejected = await self._rejected(node, reports)
            return await self._use.check_credentials(serving, secrets, rejected)
        except errors.FarletError as err:
            return Condition(kind, conditions.UNKNOWN, "CheckFailed", str(err))
        except Exception as err:
            # A defect, which must neither hide the state of the node nor stop changes of its spec.
            log.exception("virtual node failed with an internal error", node=node.name)
            found = conditions.internal_error(kind, err)
            failures.append(errors.FarletError(found.message))
            return found

    async def _mounts(self, node: VirtualNode) -> Sequence[VirtualNode]:
        """The node with the credentials that its Deployment mounts, and that each of its pods does.

        They differ until a change of the spec is rolled out, which can stop on its way. Empty: it
        has no Deployment.
        """
        deployment = await self._current("Deployment", node)
        if deployment is None or not objects.is_ours(deployment, node):
            return ()
        pods = await self._serving_pods(node)
        specs = [deployment["spec"]["template"]["spec"], *(pod["spec"] for pod in pods)]
        found = (objects.mounting(node, spec) for spec in specs)
        return [one for one in found if one is not None]

    async def _rejected(self, node: VirtualNode, reports: Sequence[PodReport]) -> frozenset[str]:
        """The foreign Secrets of pods that report that their credentials are not accepted."""
        names = {report.name for report in reports if conditions.is_unauthorized(report)}
        pods = await self._serving_pods(node) if names else ()
        mounts = (
            objects.mounting(node, pod["spec"]) for pod in pods if pod["metadata"]["name"] in names
        )
        return frozenset(one.foreign_secret for one in mounts if one is not None)

    async def _applied_or_not(
        self, node: VirtualNode, credentials: Condition, failures: list[errors.FarletError]
    ) -> Condition | None:
        """Create and mend the objects. Returns why that is not done."""
        try:
            return await self._apply(node, credentials)
        except errors.ApiError as err:
            failures.append(err)
            return conditions.not_ready("ApplyFailed", str(err))
        except errors.FarletError:
            raise
        except Exception as err:
            log.exception("virtual node failed with an internal error", node=node.name)
            found = conditions.internal_error(conditions.ConditionType.READY, err)
            failures.append(errors.FarletError(found.message))
            return found

    # --- objects ------------------------------------------------------------------------------

    async def _apply(self, node: VirtualNode, credentials: Condition) -> Condition | None:
        """Create and mend the objects. Returns why that is not done."""
        try:
            checked = run_settings.check(node)
        except errors.UsageError as err:
            return conditions.not_ready("InvalidSpec", str(err))
        parameters = run_settings.parameters(node, checked, image=self._use.image)
        desired = objects.desired(node, parameters)
        for wanted in desired:
            found = await self._current(wanted["kind"], node)
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
            self._found[kind] = await self._use.home.apply(
                kinds.of(kind),
                node.object_name,
                wanted,
                namespace=node.namespace,
                manager=MANAGER,
            )
            self._applied[kind] = wanted
            log.info("applied object", node=node.name, kind=kind, name=node.object_name)
        return None

    async def _current(self, kind: str, node: VirtualNode) -> JSON | None:
        """The object as it was seen last, read if it was not."""
        if kind not in self._found:
            try:
                self._found[kind] = await self._use.home.get(
                    kinds.of(kind), node.object_name, namespace=node.namespace
                )
            except errors.NotFound:
                return None
        return self._found[kind]

    # --- status -------------------------------------------------------------------------------

    async def _reports(self, node: VirtualNode) -> Sequence[PodReport]:
        current = await self._serving_pods(node)
        found = await asyncio.gather(*(self._report(pod, node) for pod in current))
        if any(report.state is None and report.name in self._answered for report in found):
            self._pods = None  # perhaps it is gone, and the watch has missed that
        self._answered = {report.name for report in found if report.state is not None}
        return sorted(found, key=lambda report: report.name)

    async def _serving_pods(self, node: VirtualNode) -> Sequence[JSON]:
        """Those whose container can run, now or later."""
        return [pod for pod in await self._current_pods(node) if rollout.can_serve(pod)]

    async def _current_pods(self, node: VirtualNode) -> Sequence[JSON]:
        """From the watch, after they were listed once."""
        if self._pods is not None:
            return list(self._pods.values())
        changes = self._pod_changes
        selector = ",".join(f"{key}={value}" for key, value in node.selector.items())
        listed = await self._use.home.list(
            kinds.PODS, namespace=node.namespace, label_selector=selector
        )
        if changes == self._pod_changes:  # else the list can be older than what an event said
            self._pods = {pod["metadata"]["name"]: pod for pod in listed.items}
        return listed.items

    async def _report(self, pod: JSON, node: VirtualNode) -> PodReport:
        try:
            state = await self._use.read_state(pod)
        except states.NotReported as err:
            return PodReport(pod["metadata"]["name"], None, str(err), reports=False)
        except ValueError as err:
            return conditions.pod_report(pod, None, str(err), node=node.name)
        return conditions.pod_report(pod, state, None, node=node.name)

    async def _write(self, node: VirtualNode, found: JSON, observed: Observation) -> None:
        before: JSON = found.get("status") or {}
        status = conditions.status(node, observed, before=before, now=self._use.now())
        self._is_settled = conditions.is_settled(status)
        now = asyncio.get_running_loop().time()
        only_counts = {**status, "pods": None} == {**before, "pods": None}
        if status == before or (only_counts and now < self._written_at + POLL_SECONDS):
            return
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            # With the uid, so that another VirtualNode of this name gets no status of this one.
            "metadata": {"name": node.name, "namespace": node.namespace, "uid": node.uid},
            "status": status,
        }
        try:
            written = await self._use.home.apply(
                VIRTUAL_NODE_STATUS, node.name, body, namespace=node.namespace, manager=MANAGER
            )
        except (errors.NotFound, errors.Conflict):  # it is gone, or another one has its name
            self._require_resync()
            self._changed.set()
            return
        self._written_at = now
        if self._object is found:
            self._note(written)


VIRTUAL_NODE_STATUS: Resource[JSON] = kinds.VIRTUAL_NODES.below("status")


def _wanted(found: JSON) -> tuple[object, ...]:
    """What a pass depends on: everything but the status."""
    fields = ("uid", "generation", "deletionTimestamp", "labels", "annotations")
    return tuple(found["metadata"].get(field) for field in fields)


def _parsed(found: JSON) -> _Parsed:
    try:
        node = VirtualNode.parse(found)
        refusal = objects.secret_refusal(node)
        refused = refusal and conditions.not_ready("SecretNotAllowed", refusal)
        return _Parsed(node, refused or None)
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
        return _Parsed(node, conditions.not_ready("InvalidSpec", faults))
