"""Show Events of mirrors on their home pods.

Beside everything else: a queue, tasks and request slots of its own. No pod waits for an Event, and
while pods wait to be reconciled, Events hardly send anything. What is shown, and how many of them,
is decided in `planning.mirror_events`.

A process does not know which Events earlier ones have written, since a node is not allowed to read
Events. So it does not write what its first list shows, except about mirrors that it has created
itself. What happened while no farlet ran appears at home when it happens again.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

import structlog
from prometheus_client import Counter

from farlet import errors, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, ObjectKey
from farlet.context import Context
from farlet.foreign.mirror_events import MirrorEvent
from farlet.forge import copies, mirror_event
from farlet.forge.mirror_event import HomePod
from farlet.planning import api_refusals, mirror_events, predicates
from farlet.planning.mirror_events import Shown, Waiting
from farlet.store import Store

IN_FLIGHT = 4
"""Requests at the same time."""

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 15.0
"""Pauses while the home API server does not answer."""

log = structlog.get_logger()


class MirrorEvents:
    """Takes Events from the watches of all foreign namespaces; `run` writes them."""

    def __init__(
        self,
        home: ApiClient,
        store: Store,
        *,
        shown: Shown,
        ctx: Callable[[], Context],
        created_here: Callable[[str], bool],
        busy: Callable[[], bool],
        dropped: Counter,
    ) -> None:
        """`created_here`: whether this process created the mirror of this home uid. `busy`: pods
        wait to be reconciled."""
        self._home = home
        self._store = store
        self._shown = shown
        self._ctx = ctx
        self._created_here = created_here
        self._busy = busy
        self._dropped = dropped
        self._loop = asyncio.get_running_loop()
        self._backlog = mirror_events.Backlog(self._loop.time())
        self._added = asyncio.Event()
        self._taking = asyncio.Lock()
        self._hurry = 0.0
        self._failures = retrying.OncePerCause()
        self._backoff = retrying.Backoff(RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS)

    def offer(self, found: MirrorEvent, first: bool) -> None:
        """Let an Event wait, if it is about a mirror. `first`: it comes from a first list.

        Anyone in the foreign cluster can write Events: pods are read only for those that will wait.
        """
        home_uid = self._store.home.uid(found.home)
        if home_uid is None or (first and not self._created_here(home_uid)):
            return
        about = found.event["involvedObject"].get("uid", "")
        uids = self._mirror_uids(found.foreign)
        if uids and about not in uids:
            return
        seen = mirror_event.summary(found.event)
        if seen is None or not mirror_events.shows(seen, self._shown):
            return
        pod = functools.partial(self._home_pod, found.home, found.foreign, about)
        gave_way = self._backlog.add(found.home, found.foreign, pod, seen, self._loop.time())
        if gave_way is not None:
            self._dropped.labels(gave_way).inc()
        self._added.set()

    def forget(self, foreign: ObjectKey) -> None:
        """The home pod of this mirror is deleted."""
        self._backlog.forget(foreign)

    def _home_pod(self, home: ObjectKey, foreign: ObjectKey, about: str) -> HomePod | None:
        """The home pod, if `about` is the uid of its mirror: anyone writes about other pods."""
        if self._store.mirrors.uid(foreign) == about:
            mirror = self._store.mirrors.get(foreign)
        else:
            departure = self._store.departed.get(foreign)
            mirror = None if departure is None else departure.last
        if mirror is None or mirror["metadata"]["uid"] != about:
            return None
        pod, node = self._store.home.get(home), self._ctx().virtual_node_id
        if pod is None or not predicates.is_mirror_of(pod, mirror, virtual_node_id=node):
            return None
        return mirror_event.home_pod(pod)

    def _mirror_uids(self, foreign: ObjectKey) -> set[str | None]:
        """Of the mirror and the last one that left. Without any, the answer to the creation of the
        mirror may be on its way."""
        departure = self._store.departed.get(foreign)
        last = None if departure is None else departure.last["metadata"]["uid"]
        return {self._store.mirrors.uid(foreign), last} - {None}

    async def run(self) -> None:
        """Write Events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.create_task(self._work())

    async def drain(self) -> None:
        """Write what waits, after `run` has ended."""
        self._hurry = mirror_events.SETTLE_SECONDS
        while self._backlog:
            await self._work_once()

    async def _work(self) -> None:
        while True:
            await self._work_once()

    async def _work_once(self) -> None:
        """Write the next Event. Pauses after a request that was not answered."""
        waiting = await self._next()
        try:
            event = self._forged(waiting)
            if event is not None:
                await self._send(event)
                self._failures.clear()
                self._backoff.reset()
        except (errors.Unreachable, errors.Throttled) as err:
            if not self._backlog.put_back(waiting, self._loop.time()):
                self._drop(waiting, err)
            seconds = err.retry_after if isinstance(err, errors.Throttled) else 0.0
            await asyncio.sleep(max(seconds, self._backoff.next()))
        except errors.FarletError as err:
            self._drop(waiting, err)
        except Exception:
            # An Event that anyone can write must not end the process.
            log.exception("failed to handle a mirror event", pod=str(waiting.home))
            self._dropped.labels(waiting.seen.type).inc()

    def _drop(self, waiting: Waiting, err: errors.FarletError) -> None:
        self._dropped.labels(waiting.seen.type).inc()
        # Pods are killed when their namespace ends, and it takes no Events about that.
        ends = api_refusals.namespace_ends(err)
        (log.warning if not ends and self._failures.is_new(str(err)) else log.debug)(
            "failed to write mirror event", pod=str(waiting.home), err=str(err)
        )

    async def _next(self) -> Waiting:
        """The next Event to write, once it may be written."""
        async with self._taking:
            while True:
                self._added.clear()
                now = self._loop.time() + self._hurry
                found = self._backlog.next(now, busy=self._busy())
                if isinstance(found, Waiting):
                    return found
                if found is None:
                    await self._added.wait()
                else:
                    await asyncio.sleep(found)

    def _forged(self, waiting: Waiting) -> JSON | None:
        """The Event as home shows it. `None`: it is not about the mirror of a home pod."""
        pod = waiting.pod or self._home_pod(waiting.home, waiting.foreign, waiting.seen.about)
        if pod is None:
            return None
        now = retrying.utc_now().timestamp()
        event = mirror_event.forge(waiting.seen, pod, node=self._ctx().node, now=now)
        if copies.can_name_copies(event["message"]):
            home = self._store.home.get(waiting.home)
            if home is not None:
                event["message"] = copies.HomeNames(home, self._ctx())(event["message"])
        return event

    async def _send(self, event: JSON) -> None:
        """One request, as client-go's recorder: a repetition is a patch (`recordEvent` in
        `tools/record`). Home may lack the first one: it deletes Events after an hour."""
        name, namespace = event["metadata"]["name"], event["metadata"]["namespace"]
        if event["count"] > 1:
            try:
                body = mirror_event.repetition(event)
                await self._home.patch(resources.EVENTS, name, body, namespace=namespace)
            except errors.NotFound:
                pass
            else:
                return
        try:
            await self._home.create(resources.EVENTS, event, namespace=namespace)
        except errors.Conflict as err:
            if not err.already_exists:  # its first answer was lost, or an earlier process wrote it
                raise
