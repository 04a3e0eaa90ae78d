"""An Event about a mirror as home shows it: on the home pod, in bounded words and numbers.

Anybody who can write Events in the foreign namespace chooses their content. `summary` takes what
farlet uses of one, cut and checked; `forge` writes it for the home pod. Which pod that is, is not
read from the Event: the caller knows it by farlet's own mapping of names.

One foreign Event is one Event at home, whose name follows from the two uids. So the next process,
or a second attempt, writes the same object again and no other.

Pure: no clock, no I/O. `now` is epoch seconds.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from farlet import names, redaction
from farlet.constants import JSON
from farlet.forge import timestamps
from farlet.k8s_types import Event, Pod

NORMAL = "Normal"
WARNING = "Warning"

MESSAGE_BYTES = 1024
REASON_BYTES = 128
"""`NoteLengthLimit` and `ReasonLengthLimit` in `pkg/apis/core/validation/events.go`. API servers
apply them to `events.k8s.io` only; farlet always does."""

MOST_COUNTED = (1 << 31) - 1
"""The largest `count`, an integer of 32 bits."""

_UID_CHARS = 64
"""API servers write UUIDs, but do not check those in an Event."""

_REASON = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._:/-]*[A-Za-z0-9])?")
_COMPONENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_FIELD_PATH = re.compile(
    r"spec\.(initContainers|containers|ephemeralContainers)"
    r"\{[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\}"
)
"""What a kubelet writes for a container (`fieldPath` in `pkg/kubelet/container/ref.go`)."""

_CONTROL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")
"""Terminals act on control characters, and a new line looks like another Event."""

PREFIX = "in the foreign cluster: "
_OF_THE_CONTAINERS = frozenset(
    {
        *("Pulling", "Pulled", "Created", "Started", "Killing", "BackOff", "Unhealthy"),
        *("ProbeWarning", "FailedPostStartHook", "FailedPreStopHook", "ExceededGracePeriod"),
        *("ResizeStarted", "ResizeCompleted"),
    }
)
"""Reasons of a kubelet (`pkg/kubelet/events/event.go`) whose messages name nothing but the pod's
own containers. All other messages get `PREFIX`: the nodes, Secrets, volumes and claims in them are
those of the foreign cluster."""

SCHEDULED = "Scheduled"
"""Reason of the scheduler's Event that names namespace and node of the mirror."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What farlet uses of a foreign Event. All of it is bounded."""

    uid: str
    about: str
    """Uid of the pod that it is about."""
    type: str
    """`NORMAL` or `WARNING`."""
    reason: str
    message: str
    field_path: str
    component: str
    """Who wrote it, such as `kubelet`; empty if that is not known."""
    count: int
    first: float | None
    last: float | None
    """Epoch seconds by the clock of the foreign cluster; `None` if they are not valid."""


@dataclass(frozen=True, slots=True)
class HomePod:
    """What an Event needs of the home pod, which can be gone when it is written."""

    namespace: str
    name: str
    uid: str
    created: float
    """Epoch seconds."""


def home_pod(home: Pod) -> HomePod:
    """What an Event needs of this home pod."""
    metadata = home["metadata"]
    created = timestamps.epoch(metadata.get("creationTimestamp")) or 0.0
    return HomePod(metadata["namespace"], metadata["name"], metadata["uid"], created)


def summary(event: Event) -> Summary | None:
    """What farlet uses of it. `None`: it is not about a pod, or has no valid reason."""
    about = event["involvedObject"]
    reason = _cut(event.get("reason", "").translate(_CONTROL).strip(), REASON_BYTES)
    uid = about.get("uid", "")
    if about.get("kind") != "Pod" or not 0 < len(uid) <= _UID_CHARS:
        return None
    if not _REASON.fullmatch(reason):
        return None
    series = event.get("series") or {}
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    path = about.get("fieldPath", "")
    created = timestamps.epoch(event["metadata"].get("creationTimestamp"))
    first = (
        timestamps.epoch(event.get("firstTimestamp"))
        or timestamps.epoch(event.get("eventTime"))
        or created
    )
    last = (
        timestamps.epoch(series.get("lastObservedTime"))
        or timestamps.epoch(event.get("lastTimestamp"))
        or first
    )
    count = series.get("count") or event.get("count") or 1
    message = redaction.message(event.get("message", "")).translate(_CONTROL).strip()
    if reason not in _OF_THE_CONTAINERS:
        message = PREFIX + message
    return Summary(
        uid=event["metadata"]["uid"],
        about=uid,
        type=WARNING if event.get("type") == WARNING else NORMAL,
        reason=reason,
        message=_cut(message, MESSAGE_BYTES),
        field_path=path if _FIELD_PATH.fullmatch(path) else "",
        component=component if _COMPONENT.fullmatch(component) else "",
        count=min(max(count, 1), MOST_COUNTED),
        first=first,
        last=last,
    )


def forge(seen: Summary, home: HomePod, *, node: str, now: float) -> JSON:
    """The Event for the home pod.

    The clock of the foreign cluster can differ, and anyone can choose the times: they are not
    later than `now` and not before the home pod was created.
    """
    last = max(min(now if seen.last is None else seen.last, now), min(home.created, now))
    first = max(min(last if seen.first is None else seen.first, last), min(home.created, last))
    about: JSON = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": home.namespace,
        "name": home.name,
        "uid": home.uid,
    }
    if seen.field_path:
        about["fieldPath"] = seen.field_path
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name(seen, home), "namespace": home.namespace},
        "involvedObject": about,
        "reason": seen.reason,
        "message": seen.message,
        "type": seen.type,
        "source": {"component": seen.component or "farlet", "host": node},
        "reportingComponent": "farlet",
        "reportingInstance": node,
        "firstTimestamp": timestamps.rfc3339(first),
        "lastTimestamp": timestamps.rfc3339(last),
        "count": seen.count,
    }


def name(seen: Summary, home: HomePod) -> str:
    """The name of the Event at home: always the same for this foreign Event and this home pod."""
    digest = hashlib.sha256(f"{seen.uid}/{home.uid}".encode()).hexdigest()[:16]
    return names.event_name(home.name, suffix=digest)


def repetition(event: JSON) -> JSON:
    """The merge patch for an Event that home has: what changes when it happens again.

    client-go's recorder patches the same fields (`eventObserve` in `tools/record`).
    """
    return {key: event[key] for key in ("message", "lastTimestamp", "count")}


def _cut(text: str, limit: int) -> str:
    """The text in at most `limit` bytes of UTF-8, the unit of Go's `len`."""
    return text.encode(errors="replace")[:limit].decode(errors="ignore")
