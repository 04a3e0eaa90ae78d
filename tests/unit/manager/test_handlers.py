"""Kopf watches what the manager is allowed to watch, and writes nothing."""

from __future__ import annotations

from typing import Any

import kopf

from farlet.constants import JSON
from farlet.manager import handlers, permissions


class Recorder:
    """A manager that notes what it gets."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None

    async def login(self) -> kopf.AiohttpSession:
        raise AssertionError

    def changed(self, found: JSON, *, deleted: bool) -> None:
        self.seen.append((found["kind"], deleted))


def registered(manager: handlers.Manager) -> Any:
    registry = kopf.OperatorRegistry()
    handlers.register(registry, manager)
    return registry


def test_kopf_writes_neither_annotations_nor_finalizers() -> None:
    """It does so for handlers of changes, for daemons and for timers."""
    registry = registered(Recorder())
    assert not list(registry._changing.get_all_handlers())
    assert not list(registry._spawning.get_all_handlers())


def test_everything_that_is_watched_may_be_listed_and_watched() -> None:
    watched = {
        (handler.selector.group, handler.selector.plural or handler.selector.any_name)
        for handler in registered(Recorder())._watching.get_all_handlers()
    }
    allowed = {
        (row.group, row.resource)
        for row in permissions.TABLE
        if {"list", "watch"} <= set(row.verbs)
    }
    assert len(watched) == 8
    assert watched == allowed


async def test_events_are_passed_on() -> None:
    manager = Recorder()
    (handler, *_) = registered(manager)._watching.get_all_handlers()
    for type_ in (None, "ADDED", "DELETED"):
        await handler.fn(event={"type": type_, "object": {"kind": "VirtualNode"}})
    assert manager.seen == [("VirtualNode", False), ("VirtualNode", False), ("VirtualNode", True)]
