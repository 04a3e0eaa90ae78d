"""Events on home pods and on the Node: one for each change of a reason, posted in the background.

Bounded buffers are between the reconciler and the API server. Events that do not fit are dropped
and counted, since the status shows the same reason. Warnings come before Normal ones, and pods that
wait to be reconciled before these.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from prometheus_client import Counter

from farlet import errors, names
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, Reason
from farlet.forge import timestamps
from farlet.forge.claims import ClaimKey
from farlet.k8s_types import Node, Pod
from farlet.planning.mirror_events import BUSY_PER_SECOND

BUFFER = 1000
"""Warnings that wait."""
NORMAL_BUFFER = 5000
BUSY_SECONDS = 1 / BUSY_PER_SECOND
"""Between two Normal Events while pods wait to be reconciled."""
REMEMBERED = 10_000
"""Pods whose last reason is kept; the same one is not posted twice in a row."""
MESSAGE_LIMIT = 1024
"""Characters; API servers refuse longer ones (`ValidateEventCreate`)."""

NODE_EVENTS = "default"
"""Namespace of the Events of a Node, which has none itself (`GetReference` and `makeEvent` in
`client-go/tools/record`)."""

_NORMAL = frozenset(
    {
        *(Reason.SPEC_ADJUSTED, Reason.FOREIGN_REACHABLE),
        *(Reason.DEADLINE_EXCEEDED, Reason.MIRROR_CREATED),
    }
)

_OF_SPEC = frozenset({Reason.UNKNOWN_ANNOTATION, Reason.SPEC_ADJUSTED, Reason.SPEC_FIELDS_DROPPED})
"""All pods of one controller have the same spec: reported for one of them."""

_BESIDE = _OF_SPEC | {Reason.HOME_API_ENDPOINT_CHANGED}
"""Reported beside the reason why a pod waits; they do not replace it."""

_ONCE_BY_STATUS = frozenset({Reason.EPHEMERAL_CONTAINER_REJECTED})
"""The statuses of containers say the same, and each is written once, with an Event."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Note:
    about: JSON
    namespace: str
    reason: Reason
    message: str
    at: datetime


class Recorder:
    """Queues Events; `run` posts them."""

    def __init__(
        self,
        home: ApiClient,
        *,
        node: str,
        dropped: Counter,
        busy: Callable[[], bool],
        silent: frozenset[Reason] = frozenset(),
    ) -> None:
        """`busy`: pods wait to be reconciled. `silent`: reasons that have no Event."""
        self._home = home
        self._silent = silent
        self._node = node
        self._dropped = dropped
        self._busy = busy
        self._warnings: deque[_Note] = deque()
        self._normal: deque[_Note] = deque()
        self._added = asyncio.Event()
        self._last: OrderedDict[tuple[str, Reason | None], Reason] = OrderedDict()

    def note(self, pod: Pod, reason: Reason, message: str, *, once: str = "") -> None:
        """Queue an Event for a home pod, unless its last one had the same reason.

        `once`: unless there was one with the same reason and this value. Messages of servers
        differ at each try (how much of a quota is used, how a connection broke). A new message
        alone is not a new Event.
        """
        metadata = pod["metadata"]
        whose = _controller(pod) if reason in _OF_SPEC else None
        about = (
            f"{whose or metadata.get('uid', '')} {once}",
            reason if once or reason in _BESIDE else None,
        )
        if reason not in _ONCE_BY_STATUS and not self._is_new(about, reason):
            return
        if reason in self._silent:
            return
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        }
        self._queue(reference, metadata["namespace"], reason, message)

    def note_node(self, node: Node, reason: Reason, message: str) -> None:
        """Queue an Event for the Node, unless its last one had the same reason."""
        metadata = node["metadata"]
        if self._is_new((metadata["uid"], None), reason):
            reference = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": metadata["name"],
                "uid": metadata["uid"],
            }
            self._queue(reference, NODE_EVENTS, reason, message)

    def note_claim(self, claim: ClaimKey, message: str) -> None:
        """Queue an Event for a home claim that has no volume, or whose volume does not grow."""
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": claim.uid,
        }
        self._queue(reference, claim.namespace, Reason.PROVISIONING_FAILED, message)

    def note_namespace(self, namespace: str, reason: Reason, message: str) -> None:
        """Queue an Event on the Node about a home namespace, once for each.

        Its pods cannot have one. As in Events of kubelets, the uid is the name of the Node.
        """
        if self._is_new((f"namespace {namespace}", None), reason):
            node = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._node}
            self._queue(node, NODE_EVENTS, reason, message)

    def forget(self, uid: str) -> None:
        """Home pod `uid` is deleted. What was reported once for some value is few, and stays."""
        for beside in (None, *_BESIDE):
            self._last.pop((f"{uid} ", beside), None)

    def _is_new(self, about: tuple[str, Reason | None], reason: Reason) -> bool:
        if self._last.get(about) is reason:
            return False
        self._last[about] = reason
        self._last.move_to_end(about)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return True

    def _queue(self, about: JSON, namespace: str, reason: Reason, message: str) -> None:
        notes, size = (
            (self._normal, NORMAL_BUFFER) if reason in _NORMAL else (self._warnings, BUFFER)
        )
        if len(notes) >= size:
            self._dropped.inc()
            return
        notes.append(_Note(about, namespace, reason, message[:MESSAGE_LIMIT], datetime.now(UTC)))
        self._added.set()

    async def run(self) -> None:
        """Post one Event at a time, until cancelled: Events must not slow down the work."""
        while True:
            await self._post(await self._next())

    async def _next(self) -> _Note:
        loop = asyncio.get_running_loop()
        soonest = loop.time() + BUSY_SECONDS
        while True:
            self._added.clear()
            if self._warnings:
                return self._warnings.popleft()
            if self._normal and (loop.time() >= soonest or not self._busy()):
                return self._normal.popleft()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(soonest if self._normal else None):
                    await self._added.wait()

    async def drain(self) -> None:
        """Post what waits, after `run` has ended."""
        while notes := self._warnings or self._normal:
            await self._post(notes.popleft())

    async def _post(self, note: _Note) -> None:
        at = timestamps.rfc3339(note.at.timestamp())
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": names.event_name(note.about["name"], suffix=secrets.token_hex(8)),
                "namespace": note.namespace,
            },
            "involvedObject": note.about,
            "reason": note.reason.value,
            "message": note.message,
            "type": "Normal" if note.reason in _NORMAL else "Warning",
            "source": {"component": "farlet", "host": self._node},
            "reportingComponent": "farlet",
            "reportingInstance": self._node,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        try:
            await self._home.create(resources.EVENTS, body, namespace=note.namespace)
        except errors.FarletError as err:
            self._dropped.inc()
            log.info("failed to create event", reason=note.reason.value, err=str(err))


def _controller(pod: Pod) -> str | None:
    """Uid of the ReplicaSet, Job or other controller that created this pod."""
    owners = pod["metadata"].get("ownerReferences", ())
    return next((owner.get("uid") for owner in owners if owner.get("controller")), None)
