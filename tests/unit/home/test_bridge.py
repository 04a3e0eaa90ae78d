"""Events from Kopf's thread: echoes of farlet's own requests end there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from farlet.constants import ObjectKey
from farlet.home.bridge import Bridge
from farlet.home.pods import HomePods
from farlet.k8s_types import Pod
from farlet.store import Store
from unit.fakeclient import FakeClient
from unit.planning import objects


def _pod(version: int, *, uid: str = objects.HOME) -> Pod:
    pod = objects.home(uid=uid)
    pod["metadata"]["resourceVersion"] = str(version)
    return pod


class Harness:
    """A store with version 7 of a pod, the answer to a write."""

    def __init__(self) -> None:
        self.store = Store()
        self.store.home.put(_pod(7))
        self.woken: list[ObjectKey] = []
        self.dropped: list[str] = []
        self.pods = HomePods(
            FakeClient(),
            self.store,
            node="far",
            wake=self.woken.append,
            dropped=self._drop,
            on_synced=lambda: None,
            prune=lambda: None,
            restart_watch=lambda: None,
        )
        self.taken: list[str | None] = []
        self.bridge = Bridge(on_restart=lambda: None)

    def _drop(self, key: ObjectKey, uid: str) -> None:
        self.dropped.append(uid)
        self.store.home.remove(key, uid)

    def is_known(self, kind: str | None, pod: Any) -> bool:
        return self.pods.is_known(kind, pod)

    def event(self, kind: str | None, pod: Pod) -> None:
        self.taken.append(kind)
        self.pods.event(kind, pod)

    def resync(self) -> None:
        """Not used here."""

    def feeds(self, kind: str | None, pod: Mapping[str, Any]) -> None:
        async def feed() -> None:
            self.bridge.open(self)
            self.bridge.feed(kind, cast("Any", pod))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(feed())


ECHOES: dict[str, tuple[str | None, Mapping[str, Any], bool]] = {
    "the version of our answer": ("MODIFIED", _pod(7), False),
    "an earlier version": ("MODIFIED", _pod(6), False),
    "a later version": ("MODIFIED", _pod(8), True),
    "another pod of that name": ("MODIFIED", _pod(7, uid="other"), True),
    "the same version in a list": (None, _pod(7), True),
    "a new pod": ("ADDED", _pod(7), True),
    "a deletion": ("DELETED", _pod(8), True),
    "a form that is not valid": ("MODIFIED", {"metadata": {"name": 3}}, True),
    "no metadata": ("MODIFIED", {}, True),
    "metadata that is a list": ("MODIFIED", {"metadata": []}, True),
}


@pytest.mark.parametrize(("kind", "pod", "passed"), ECHOES.values(), ids=ECHOES)
def test_kopf_s_thread_passes_on_only_new_information(
    kind: str | None, pod: Mapping[str, Any], passed: bool
) -> None:
    s = Harness()
    s.feeds(kind, pod)
    assert s.taken == ([kind] if passed else [])


def test_the_echo_of_our_own_deletion_ends_in_kopf_s_thread() -> None:
    s = Harness()
    s.store.home.remove(objects.KEY, objects.HOME)
    s.feeds("DELETED", _pod(9))
    assert s.taken == []


def test_a_deletion_after_a_list_without_the_pod_is_passed_on() -> None:
    s = Harness()
    s.store.home.remove(objects.KEY, objects.HOME, as_of=8)
    s.feeds("DELETED", _pod(9))
    assert s.dropped == [objects.HOME]
    assert s.woken == [objects.KEY]


def test_an_event_of_a_pod_in_doubt_is_passed_on() -> None:
    s = Harness()
    s.store.home.doubt(objects.KEY)
    s.feeds("MODIFIED", _pod(7))
    assert s.taken == ["MODIFIED"]


def test_the_deletion_of_a_pod_wakes_it_once() -> None:
    s = Harness()
    s.pods.event("DELETED", _pod(8))
    s.pods.event("DELETED", _pod(8))
    assert s.woken == [objects.KEY]
