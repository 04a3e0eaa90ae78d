"""When tokens are due, by the annotation of a mirror."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from farlet import constants
from farlet.access import Token, TokenSpec
from farlet.k8s_types import NewPod, Pod
from farlet.planning import token_rotation

NOW = 1_767_323_045.0
CLAIM = TokenSpec("token", None, 3600)
OTHER = TokenSpec("vault", "vault", 600)
UIDS = ("a" * 8, "z" * 8, "1d6a1f0c-8a57-4d8e-b1a3-5c7f2e9b4d22")


def _mirror(tokens: object) -> Pod:
    text = tokens if isinstance(tokens, str) else orjson.dumps(tokens).decode()
    return {
        "metadata": {
            "name": "web",
            "namespace": "default-h",
            "uid": UIDS[0],
            "annotations": {constants.TOKENS: text},
        },
        "spec": {},
    }


def _due(tokens: object, *token_specs: TokenSpec) -> token_rotation.Due:
    return token_rotation.due(
        token_specs or (CLAIM,), _mirror(tokens), delivered={}, uid=UIDS[0], now=NOW
    )


@pytest.mark.parametrize("uid", UIDS)
def test_a_token_is_due_around_half_of_its_life(uid: str) -> None:
    at = token_rotation.refresh_at(uid, NOW, NOW + 3600)
    assert NOW + 3600 * 0.45 <= at <= NOW + 3600 * 0.55


def test_tokens_of_many_pods_are_not_due_at_once() -> None:
    uids = [f"1d6a1f0c-8a57-4d8e-b1a3-5c7f2e9b{n:04x}" for n in range(1000)]
    minutes = Counter(int(token_rotation.refresh_at(uid, NOW, NOW + 3600)) // 60 for uid in uids)
    assert max(minutes.values()) < 1000 / 3
    assert len(minutes) >= 6


@pytest.mark.parametrize("age", [0, 600, 1500], ids="a token of {} s is fresh".format)
def test_a_fresh_token_is_due_later(age: int) -> None:
    due = _due({"token": [NOW - age, NOW - age + 3600]})
    assert due.token_specs == ()
    assert due.again_at == token_rotation.refresh_at(UIDS[0], NOW - age, NOW - age + 3600)


@pytest.mark.parametrize(
    ("age", "overdue"),
    [(2000, False), (2879, False), (2880, True), (5000, True)],
    ids="a token of {} s is due".format,
)
def test_an_old_token_is_due(age: int, overdue: bool) -> None:
    due = _due({"token": [NOW - age, NOW - age + 3600]})
    assert (due.token_specs, due.overdue) == ((CLAIM,), overdue)


def test_each_token_has_its_own_time_and_the_earliest_is_next() -> None:
    fresh = {"token": [NOW, NOW + 3600], "vault": [NOW, NOW + 600]}
    assert _due(fresh, CLAIM, OTHER).again_at == token_rotation.refresh_at(UIDS[0], NOW, NOW + 600)
    one_old = {"token": [NOW, NOW + 3600], "vault": [NOW - 500, NOW + 100]}
    due = _due(one_old, CLAIM, OTHER)
    assert (due.token_specs, due.overdue) == ((OTHER,), True)


UNBELIEVABLE: dict[str, object] = {
    "nothing": {},
    "no JSON": "{",
    "a list": [1, 2],
    "a number": 5,
    "a word for a time": {"token": ["now", "then"]},
    "one time": {"token": [NOW]},
    "a null": {"token": None},
    "not a number": '{"token": [NaN, NaN]}',
    "an end before its beginning": {"token": [NOW, NOW - 5]},
    "a beginning in the far future": {"token": [NOW + 1e6, NOW + 1e6 + 3600]},
    "a life of decades": {"token": [NOW, NOW + 1e9]},
    "the times of another token": {"other": [NOW, NOW + 3600]},
    "infinities in words": {"token": ["-inf", "inf"]},
    "numbers in words": {"token": [str(NOW), str(NOW + 3600)]},
    "numbers beyond every float": '{"token": [1e400, -1e400]}',
    "a number of four hundred digits": f'{{"token": [{NOW}, {"9" * 400}]}}',
    "a beginning before all time": {"token": [-1e300, 1e300]},
    "truths": {"token": [False, True]},
    "lists for times": {"token": [[NOW], [NOW + 3600]]},
    "a map of times": {"token": {"0": NOW, "1": NOW + 3600}},
    "three times": {"token": [NOW, NOW + 3600, NOW]},
    "a thousand nested lists": "[" * 1000,
}


@pytest.mark.parametrize("tokens", UNBELIEVABLE.values(), ids=UNBELIEVABLE)
def test_invalid_times_cost_one_refresh(tokens: object) -> None:
    due = _due(tokens)
    assert (due.token_specs, due.overdue) == ((CLAIM,), False)


@pytest.mark.parametrize("tokens", UNBELIEVABLE.values(), ids=UNBELIEVABLE)
def test_invalid_times_cost_nothing_where_this_process_delivered_the_token(tokens: object) -> None:
    delivered = {"token": (NOW - 5, NOW + 3595)}
    due = token_rotation.due((CLAIM,), _mirror(tokens), delivered=delivered, uid=UIDS[0], now=NOW)
    assert due.token_specs == ()


def test_a_token_is_due_although_the_annotation_was_changed_to_say_otherwise() -> None:
    mirror = _mirror({"token": [NOW, NOW + 3600]})
    delivered = {"token": (NOW - 2000, NOW + 1600)}
    due = token_rotation.due((CLAIM,), mirror, delivered=delivered, uid=UIDS[0], now=NOW)
    assert due.token_specs == (CLAIM,)


def test_a_clock_that_is_a_little_behind_costs_nothing() -> None:
    assert _due({"token": [NOW + 200, NOW + 3800]}).token_specs == ()


def test_a_delivered_token_is_recorded_beside_those_that_exist() -> None:
    mirror = _mirror({"vault": [1.0, 2.0]})
    text = token_rotation.record(mirror, {"token": Token("secret", 3.0, 4.0)})
    assert text is not None
    assert orjson.loads(text) == {"token": [3.0, 4.0], "vault": [1.0, 2.0]}
    assert "secret" not in text


def test_what_is_recorded_already_is_not_written_again() -> None:
    assert (
        token_rotation.record(_mirror({"token": [3.0, 4.0]}), {"token": Token("s", 3.0, 4.0)})
        is None
    )


def test_a_mirror_is_stamped_without_being_changed() -> None:
    mirror: NewPod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "default-h",
            "labels": {},
            "annotations": {"a": "b"},
        },
        "spec": {},
    }
    stamped = token_rotation.stamped(mirror, {"token": Token("s", 3.0, 4.0)})
    assert mirror["metadata"]["annotations"] == {"a": "b"}
    assert token_rotation.recorded(stamped) == {"token": (3.0, 4.0)}
    assert stamped["metadata"]["annotations"]["a"] == "b"
    assert token_rotation.stamped(mirror, {}) is mirror
