"""What users of the foreign cluster do costs home and foreign API servers few requests."""

from __future__ import annotations

import pytest

from farlet import constants
from unit.planning import objects
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, KUBELET, USER, Harness

MIRROR = ("pods", FOREIGN, "web")
CREATIONS = f"POST .*{FOREIGN}/pods$"
TOKENS = "POST .*/token$"


def _cleaner(s: Harness, *, minutes: int) -> None:
    """Deletes the mirror on sight, for this time."""
    for _ in range(minutes * 60 * 2):
        if s.mirror() is not None:
            s.remove()
        s.wait(0.5)


def test_a_mirror_that_is_deleted_on_sight_is_recreated_less_and_less_often() -> None:
    with harness.running() as s:
        s.create(mode="home")
        _cleaner(s, minutes=30)
        pauses = [
            later.at - earlier.at
            for earlier, later in zip(
                s.foreign.requests(CREATIONS), s.foreign.requests(CREATIONS)[1:], strict=False
            )
        ]
        assert len(pauses) <= 15
        assert max(pauses) < 310
        assert pauses[-1] > 290
        assert len(s.home.requests(TOKENS)) <= 10
        assert s.reason() == "MirrorBackOff"
        assert s.events().count("MirrorBackOff") == 1


def test_after_a_mirror_that_lasted_the_first_pause_is_short_again() -> None:
    with harness.running() as s:
        s.create()
        _cleaner(s, minutes=10)
        s.wait(310.0)
        s.runs()
        s.wait(610.0)
        assert s.reason() is None
        for _ in range(2):
            s.remove()
            s.wait(3.0)
            assert s.mirror() is not None


def test_nothing_is_kept_of_a_series_once_its_pod_is_gone() -> None:
    with harness.running() as s:
        uid = s.create(mode="home")["metadata"]["uid"]
        _cleaner(s, minutes=2)
        assert s.executor.times.creations(uid) > 3
        s.delete(grace=0)
        s.wait(60.0)
        assert s.executor.times.creations(uid) == 0
        assert s.executor.times.delivered(uid) == {}
        assert s.store.tokens == {}


def test_changes_of_the_annotation_about_tokens_cost_no_tokens() -> None:
    with harness.running() as s:
        s.create(mode="home")
        s.wait(3.0)
        s.runs()
        s.wait(5.0)
        before = len(s.home.requests(TOKENS))
        for n in range(60):
            body = {"metadata": {"annotations": {constants.TOKENS: f'{{"token": [{n}, 5]}}'}}}
            s.foreign_server.patch(MIRROR, body, by=USER, status=False, strategic=False)
            s.wait(2.0)
        assert len(s.home.requests(TOKENS)) == before
        s.wait(2000.0)
        assert len(s.home.requests(TOKENS)) == before + 1, "it is refreshed in time"


def test_after_a_restart_a_changed_annotation_costs_one_token() -> None:
    with harness.running() as s:
        s.create(mode="home")
        s.wait(3.0)
        s.runs()
        s.wait(5.0)
        s.kill()
        body = {"metadata": {"annotations": {constants.TOKENS: '{"token": ["-inf", "inf"]}'}}}
        s.foreign_server.patch(MIRROR, body, by=USER, status=False, strategic=False)
        before = len(s.home.requests(TOKENS))
        s.start()
        for _ in range(60):
            s.wait(2.0)
            s.foreign_server.patch(MIRROR, body, by=USER, status=False, strategic=False)
        assert len(s.home.requests(TOKENS)) == before + 1


def test_an_annotation_that_a_policy_removes_costs_no_tokens() -> None:
    with harness.running() as s:
        s.foreign_server.policy = lambda resource, obj: (
            obj["metadata"].get("annotations", {}).pop(constants.TOKENS, None)
            if resource == "pods"
            else None
        )
        s.create(mode="home")
        s.wait(3.0)
        s.runs()
        s.wait(600.0)
        assert len(s.home.requests(TOKENS)) <= 2


@pytest.mark.thorough
def test_a_secret_that_is_deleted_on_sight_costs_a_token_a_minute() -> None:
    with harness.running() as s:
        s.create(mode="home")
        s.wait(3.0)
        s.runs()
        s.wait(5.0)
        for _ in range(600):
            for secret in s.secrets():
                where = ("secrets", FOREIGN, secret["metadata"]["name"])
                s.foreign_server.delete(where, by=USER)
            s.wait(0.5)
        assert len(s.home.requests(TOKENS)) <= 7


def test_a_finalizer_that_a_policy_restores_is_removed_less_and_less_often() -> None:
    def keep(resource: str, obj: JSON) -> None:
        if resource == "pods":
            obj["metadata"]["finalizers"] = [constants.OBSERVED]

    with harness.running() as s:
        s.create(policy="Never")
        s.wait(3.0)
        s.runs()
        s.wait(3.0)
        s.foreign_server.policy = keep
        ended = {"status": objects.mirror(phase="Succeeded").get("status", {})}
        s.foreign_server.patch(MIRROR, ended, by=KUBELET, status=True, strategic=False)
        s.wait(1800.0)
        assert 10 <= len(s.foreign.requests("PATCH .*/pods/web$")) <= 150
        s.foreign_server.policy = lambda _resource, _obj: None
        s.wait(60.0)
        mirror = s.mirror()
        assert mirror is None or "finalizers" not in mirror["metadata"]
