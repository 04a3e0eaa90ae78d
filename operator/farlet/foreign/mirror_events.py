"""The watch of Events about pods in one foreign namespace.

Nothing waits for it, and its failures concern no pod. Which of these Events home shows, and how,
is decided in `planning.mirror_events` and `forge.mirror_event`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from farlet import errors, store
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.reflector import Reflector
from farlet.constants import ObjectKey
from farlet.k8s_types import Event
from farlet.planning import api_refusals

DENIED_SECONDS = 300.0
"""Pause of the watch while farlet lacks the permission, which it can do without."""

log = structlog.get_logger()


class MirrorEvent(NamedTuple):
    """An Event about a foreign pod, with the keys of that pod and of its home pod, if it is one."""

    home: ObjectKey
    foreign: ObjectKey
    event: Event


Offer = Callable[[MirrorEvent, bool], None]
"""Gets each new Event, and whether it comes from the first list."""


class MirrorEvents:
    """Handles the Events about pods of one foreign namespace: passes on what is new.

    New is what a watch shows, and what a list shows with a version later than all before. The
    first list of a process is marked as such: an earlier process may have passed on its Events.
    """

    def __init__(self, *, home: str, foreign: str, offer: Offer) -> None:
        self._home = home
        self._foreign = foreign
        self._offer = offer
        self._seen: int | None = None
        """The latest version that was seen; `None` before the first list."""

    def listed(self, event: Event) -> None:
        """One Event of a list."""
        if self._seen is None or store.version(event["metadata"]) > self._seen:
            self._pass_on(event, first=self._seen is None)

    def replaced(self, _objects: Sequence[Event], version: int) -> None:
        """A list is complete; `listed` got what it contains."""
        self._seen = version

    def changed(self, kind: str, obj: Event) -> None:
        """One Event of a watch. Its deletion, after an hour, means nothing."""
        if kind != "DELETED":
            self._pass_on(obj, first=False)
        self._seen = max(self._seen or 0, store.version(obj["metadata"]))

    def _pass_on(self, event: Event, *, first: bool) -> None:
        # Neither namespace nor home pod is read from the Event: anyone there can write one.
        name = event["involvedObject"].get("name", "")
        found = MirrorEvent(ObjectKey(self._home, name), ObjectKey(self._foreign, name), event)
        self._offer(found, first)


def reflector(cluster: ApiClient, *, home: str, foreign: str, offer: Offer) -> Reflector[Event]:
    """The watch for one pair of namespaces."""
    handler = MirrorEvents(home=home, foreign=foreign, offer=offer)

    def on_state() -> None:
        if isinstance(watch.error, errors.Forbidden):
            _log_denied(watch.error.message, home=home, foreign=foreign)

    watch = Reflector(
        cluster,
        resources.WATCHED_EVENTS,
        handler,
        namespace=foreign,
        on_state=on_state,
        on_listed=handler.listed,
        field_selector="involvedObject.kind=Pod",
        denied_seconds=DENIED_SECONDS,
    )
    return watch


def _log_denied(message: str, *, home: str, foreign: str) -> None:
    log.warning(
        "not allowed to watch events of mirrors",
        namespace=foreign,
        fix=f"{api_refusals.grant(message, home=home)}; or --mirror-events=none "
        "(spec.reflection.events of a VirtualNode)",
    )
