"""What crosses from Kopf's thread into the engine's loop: pod events.

Neither side calls the other's objects. Events are queued here and taken in the engine's loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from farlet.constants import JSON
from farlet.k8s_types import Pod


class Pods(Protocol):
    """Receives home pods, in the engine's loop."""

    def event(self, kind: str | None, pod: Pod) -> None:
        """One event of the watch; `kind` None: part of a listing."""
        ...

    def is_known(self, kind: str | None, pod: JSON) -> bool:
        """Whether an event says nothing new. Called in Kopf's thread."""
        ...

    def resync(self) -> None:
        """Kopf was restarted: find what was deleted in between."""
        ...


class Bridge:
    """Takes events from any thread. They are queued until `open` names their receiver."""

    def __init__(self, *, on_restart: Callable[[], None]) -> None:
        self._on_restart = on_restart
        self._fed: deque[tuple[str | None, Pod]] = deque()
        self._taking = False
        self._to: tuple[asyncio.AbstractEventLoop, Pods] | None = None

    def open(self, pods: Pods) -> None:
        """From now on events go to `pods`, in the loop of the caller."""
        self._to = (asyncio.get_running_loop(), pods)

    def is_known(self, kind: str | None, pod: JSON) -> bool:
        """Whether an event says nothing new. Called in Kopf's thread."""
        return self._to is not None and self._to[1].is_known(kind, pod)

    def feed(self, kind: str | None, pod: JSON) -> None:
        """Hand a watch event over to the engine's loop, unless it says nothing new by now."""
        if self.is_known(kind, pod):
            return
        self._fed.append((kind, cast("Pod", pod)))
        if self._taking or self._to is None or self._to[0].is_closed():
            return
        # Waking the other loop costs a system call and a context switch: once per burst.
        self._taking = True
        self._to[0].call_soon_threadsafe(self._take, *self._to)

    def _take(self, loop: asyncio.AbstractEventLoop, pods: Pods) -> None:
        # Reset first: an event that arrives from now on wakes us again, even if this call takes it.
        self._taking = False
        while self._fed:
            loop.call_soon(pods.event, *self._fed.popleft())

    def restarted(self) -> None:
        """Kopf was restarted: what was deleted in between must be found."""
        self._on_restart()
        if self._to is not None and not self._to[0].is_closed():
            loop, pods = self._to
            loop.call_soon_threadsafe(pods.resync)
