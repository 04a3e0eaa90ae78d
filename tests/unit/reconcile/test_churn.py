"""Home pods that come and go while farlet starts and runs, and that nothing is kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from farlet import errors
from farlet.constants import JSON, ObjectKey
from farlet.home import pods as home_pods
from farlet.k8s_types import Pod
from farlet.planning.mirror_events import Shown
from farlet.planning.snapshot import Ages
from farlet.store import Store
from unit import faketime
from unit.planning import model, objects
from unit.planning.model import Server
from unit.reconcile import harness, test_mirror_events
from unit.reconcile.harness import HOME, KUBELET

HALF_LIFE = 2000.0


class _Starting:
    """Home pods alone; the test plays Kopf, which can be slow."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = Server(lambda: objects.NOW + loop.time(), (HOME,))
        self.store = Store()
        self.dropped: list[tuple[str, str]] = []
        self.drained = False
        home = harness.RecordingCluster("home", self.server, lambda: objects.NOW + loop.time())
        self.pods = home_pods.HomePods(
            home,
            self.store,
            node="far",
            wake=lambda _: None,
            dropped=self._drop,
            on_synced=self._look,
            prune=self._prune,
            restart_watch=lambda: None,
        )

    def _drop(self, key: ObjectKey, uid: str) -> None:
        self.dropped.append((key.name, uid))
        self.store.home.remove(key, uid)

    def _look(self) -> None:
        self.drained = True

    def _prune(self) -> None:
        """No scopes here."""

    def create(self, name: str) -> Pod:
        pod: JSON = model.clone(objects.home())
        pod["metadata"]["name"] = name
        made: Pod = model.clone(self.server.create("pods", HOME, pod, by="user"))
        return made

    def listed(self) -> bool:
        return self.pods.has_synced

    def delete(self, name: str) -> None:
        self.server.delete(("pods", HOME, name), by="user", grace=0)


def test_pods_that_are_deleted_before_kopf_delivers_them_do_not_delay_the_start() -> None:
    async def story() -> None:
        s = _Starting()
        delivered, _ = s.create("delivered"), s.create("deleted")
        sweep = asyncio.create_task(s.pods.run())
        await asyncio.sleep(0.5)
        assert not s.listed()
        s.delete("deleted")
        s.pods.event(None, delivered)
        await asyncio.sleep(2.0)
        assert s.listed()
        assert s.drained
        sweep.cancel()

    faketime.run(story())


def test_pods_that_are_created_later_do_not_delay_the_start() -> None:
    async def story() -> None:
        s = _Starting()
        first = s.create("first")
        sweep = asyncio.create_task(s.pods.run())
        for n in range(20):
            await asyncio.sleep(0.5)
            s.create(f"later-{n}")  # Kopf is behind: it has delivered none of them
            if n == 4:
                assert not s.listed(), "one of the first is not delivered yet"
                s.pods.event(None, first)
        assert s.listed()
        sweep.cancel()

    faketime.run(story())


def test_the_start_waits_for_each_pod_that_was_there_at_first() -> None:
    async def story() -> None:
        s = _Starting()
        made = [s.create(f"pod-{n}") for n in range(3)]
        sweep = asyncio.create_task(s.pods.run())
        for pod in made:
            await asyncio.sleep(30.0)
            assert not s.listed()
            s.pods.event(None, pod)
        await asyncio.sleep(2.0)
        assert s.listed()
        sweep.cancel()

    faketime.run(story())


def test_an_empty_node_is_listed_at_once() -> None:
    async def story() -> None:
        s = _Starting()
        sweep = asyncio.create_task(s.pods.run())
        await asyncio.sleep(0.1)
        assert s.listed()
        sweep.cancel()

    faketime.run(story())


def test_a_pod_that_was_replaced_in_a_gap_of_the_watch_is_dropped() -> None:
    async def story() -> None:
        s = _Starting()
        first = s.create("web")
        s.pods.event("ADDED", first)
        s.delete("web")
        second = s.create("web")
        s.pods.event("ADDED", second)
        uid = first["metadata"]["uid"]
        assert s.dropped == [("web", uid)]
        assert s.store.home.uid(ObjectKey(HOME, "web")) == second["metadata"]["uid"]
        assert s.store.home.deleted(uid)

    faketime.run(story())


def test_a_late_event_of_the_pod_before_drops_nothing() -> None:
    async def story() -> None:
        s = _Starting()
        first = s.create("web")
        s.delete("web")
        second = s.create("web")
        s.pods.event("ADDED", second)
        s.pods.event("MODIFIED", first)
        assert s.dropped == []
        assert s.store.home.uid(ObjectKey(HOME, "web")) == second["metadata"]["uid"]

    faketime.run(story())


# --- what is kept of pods that are gone -------------------------------------------------------


def _assert_forgotten(s: harness.Harness, uid: str) -> None:
    assert s.store.tokens == {}
    assert s.store.departed == {}
    assert s.executor.times.ages(uid) == Ages()
    assert s.executor.times.creations(uid) == 0
    assert s.executor.times.answered(uid) == frozenset()
    assert len(s.store.home) == len(s.store.mirrors) == len(s.store.secrets) == 0
    assert not s.recorder._last
    assert not s.executor.home._tokens._delivered
    assert not s.mirror_events._backlog._pods


def test_nothing_is_kept_of_a_pod_that_ran() -> None:
    with harness.running(shown=Shown.ALL) as s:
        pod = s.create(mode="home")
        s.wait(2.0)
        s.runs()
        mirror = s.mirror()
        assert mirror is not None
        test_mirror_events.event(s, mirror)
        s.wait(HALF_LIFE)
        assert test_mirror_events.shown(s)
        s.delete()
        s.wait(2.0)
        s.remove()
        (secret,) = s.secrets()  # the foreign garbage collector's work
        s.foreign_server.delete(
            ("secrets", harness.FOREIGN, secret["metadata"]["name"]), by=KUBELET
        )
        s.wait(2.0)
        assert s.pod() is None
        _assert_forgotten(s, pod["metadata"]["uid"])


@pytest.mark.parametrize(
    "refused",
    [r"POST .*/serviceaccounts/default/token", r"POST .*/pods$"],
    ids=["its token was refused", "its mirror was refused"],
)
def test_nothing_is_kept_of_a_pod_that_never_ran_because(refused: str) -> None:
    with harness.running() as s:
        for line in (s.home, s.foreign):
            line.refusing[refused] = line.refusal(errors.Forbidden, 403, "no", reason="Forbidden")
        pod = s.create(mode="home")
        s.wait(30.0)
        assert s.mirror() is None
        assert s.reason() in ("TokenRequestFailed", "ForeignRejected")
        s.delete()
        s.wait(60.0)
        assert s.pod() is None
        _assert_forgotten(s, pod["metadata"]["uid"])


@pytest.mark.parametrize(
    ("mode", "is_answered"),
    [
        pytest.param("remote", lambda s: s.reason() is not None, id="its reason is written"),
        pytest.param("disabled", lambda s: s.mirror() is not None, id="its mirror is created"),
    ],
)
def test_nothing_is_kept_of_a_pod_that_is_forced_away_while(
    mode: str, is_answered: Callable[[harness.Harness], bool]
) -> None:
    with harness.running() as s:
        pod = s.create(mode=mode)
        while not is_answered(s):
            s.wait(0.001)  # the answer is on its way
        s.delete(grace=0)
        s.wait(10.0)
        assert s.pod() is None
        assert s.mirror() is None
        _assert_forgotten(s, pod["metadata"]["uid"])


def test_nothing_is_kept_of_a_pod_that_was_replaced_while_its_token_was_undelivered() -> None:
    with harness.running() as s:
        s.foreign.refusing[r"POST .*/secrets"] = s.foreign.silence
        first = s.create(mode="home")
        s.wait(5.0)
        uid = first["metadata"]["uid"]
        assert list(s.store.tokens) == [uid]
        s.feeding = False
        s.delete(grace=0)
        second = s.create(mode="disabled")
        s.feeding = True
        s.pods.event(None, model.clone(second))
        assert s.store.tokens == {}
        s.wait(30.0)
        assert s.store.departed == {}
