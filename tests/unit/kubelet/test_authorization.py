"""Whether a caller may: asked of home, kept for a while, and never granted without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from farlet import errors
from farlet.kubelet import auth
from farlet.kubelet.responses import Refusal
from unit import faketime
from unit.certs import home_server as home
from unit.certs.home_server import Home

USER = auth.User("scraper", ("system:authenticated",), "u1", (("a", ("1",)),))


def _authorizer(asked: Home) -> auth.Authorizer:
    clock = asyncio.get_running_loop().time
    return auth.Authorizer(asked, node="far", clock=clock)


async def test_what_is_asked() -> None:
    asked = Home()
    asked.review = lambda _: {"allowed": True}
    assert await _authorizer(asked).may(USER, "get", "/stats/summary", ("stats",))
    ((method, path, body),) = asked.asked
    assert (method, path) == ("POST", home.ACCESS_REVIEWS)
    assert body["spec"] == {
        "user": "scraper",
        "uid": "u1",
        "groups": ("system:authenticated",),
        "extra": {"a": ("1",)},
        "resourceAttributes": {
            "verb": "get",
            "version": "v1",
            "resource": "nodes",
            "subresource": "stats",
            "name": "far",
        },
    }


SUBRESOURCES: dict[str, tuple[tuple[str, ...], frozenset[str], bool, list[str]]] = {
    "the first is allowed: no other is asked for": (
        ("pods", "proxy"),
        frozenset({"pods", "proxy"}),
        True,
        ["pods"],
    ),
    "the second is": (("pods", "proxy"), frozenset({"proxy"}), True, ["pods", "proxy"]),
    "none is": (("pods", "proxy"), frozenset({"stats"}), False, ["pods", "proxy"]),
    "there is none": ((), frozenset({"proxy"}), False, []),
}


@pytest.mark.parametrize(
    ("wanted", "granted", "may", "reviewed"), SUBRESOURCES.values(), ids=SUBRESOURCES
)
async def test_one_of_several_rights_is_enough(
    wanted: tuple[str, ...], granted: frozenset[str], may: bool, reviewed: list[str]
) -> None:
    asked = Home()
    asked.review = lambda spec: {"allowed": spec["resourceAttributes"]["subresource"] in granted}
    assert await _authorizer(asked).may(USER, "get", "/pods", wanted) is may
    found = [body["spec"]["resourceAttributes"]["subresource"] for _, _, body in asked.asked]
    assert found == reviewed


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"allowed": False}, id="no"),
        pytest.param({}, id="nothing"),
        pytest.param({"allowed": "true"}, id="a word"),
        pytest.param({"allowed": True, "denied": True}, id="both"),
    ],
)
async def test_only_a_clear_yes_is_one(status: dict[str, Any]) -> None:
    asked = Home()
    asked.review = lambda _: status
    assert not await _authorizer(asked).may(USER, "get", "/pods", ("proxy",))


@pytest.mark.parametrize(
    ("allowed", "seconds", "reviews"),
    [
        pytest.param(True, 299.0, 1, id="yes, within five minutes"),
        pytest.param(True, 301.0, 2, id="yes, after five minutes"),
        pytest.param(False, 29.0, 1, id="no, within thirty seconds"),
        pytest.param(False, 31.0, 2, id="no, after thirty seconds"),
    ],
)
def test_an_answer_is_kept(allowed: bool, seconds: float, reviews: int) -> None:
    async def main() -> None:
        asked = Home()
        asked.review = lambda _: {"allowed": allowed}
        authorizer = _authorizer(asked)
        await authorizer.may(USER, "get", "/pods", ("proxy",))
        await asyncio.sleep(seconds)
        assert await authorizer.may(USER, "get", "/run", ("proxy",)) is allowed
        assert asked.count("POST", home.ACCESS_REVIEWS) == reviews

    faketime.run(main())


OTHERS = {
    "another user": (auth.User("other", USER.groups, USER.uid, USER.extra), "get", "proxy"),
    "another group": (auth.User("scraper", ("x",), USER.uid, USER.extra), "get", "proxy"),
    "another uid": (auth.User("scraper", USER.groups, "u2", USER.extra), "get", "proxy"),
    "another extra": (auth.User("scraper", USER.groups, "u1", ()), "get", "proxy"),
    "another verb": (USER, "create", "proxy"),
    "another subresource": (USER, "get", "log"),
}


@pytest.mark.parametrize(("user", "verb", "subresource"), OTHERS.values(), ids=OTHERS)
async def test_an_answer_is_not_for(user: auth.User, verb: str, subresource: str) -> None:
    asked = Home()
    asked.review = lambda _: {"allowed": True}
    authorizer = _authorizer(asked)
    await authorizer.may(USER, "get", "/pods", ("proxy",))
    asked.review = lambda _: {"allowed": False}
    assert not await authorizer.may(user, verb, "/pods", (subresource,))


async def test_a_crowd_of_the_same_caller_is_one_question() -> None:
    asked = Home()
    asked.review = lambda _: {"allowed": True}
    authorizer = _authorizer(asked)
    crowd = (authorizer.may(USER, "get", "/pods", ("proxy",)) for _ in range(200))
    assert all(await asyncio.gather(*crowd))
    assert len(asked.asked) == 1


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(home.unreachable, id="does not answer"),
        pytest.param(lambda: home.refusal(403), id="does not let farlet ask"),
    ],
)
async def test_where_home_gives_no_answer_it_is_an_error(
    failing: Callable[[], errors.FarletError],
) -> None:
    asked = Home()
    asked.failing = failing
    with pytest.raises(Refusal) as refused:
        await _authorizer(asked).may(USER, "get", "/pods", ("pods", "proxy"))
    assert refused.value.response.status == 500
    assert refused.value.response.body == (
        b"Authorization error (user=scraper, verb=get, resource=nodes, subresource=pods)"
    )


def test_a_home_that_hangs_is_an_error_within_seconds() -> None:
    async def main() -> None:
        asked = Home()
        hang = asyncio.Event()

        async def call(*_: object, **__: object) -> dict[str, Any]:
            await hang.wait()
            return {}

        asked.call = call  # type: ignore[method-assign]
        with pytest.raises(Refusal):
            await _authorizer(asked).may(USER, "get", "/pods", ("proxy",))
        assert asyncio.get_running_loop().time() <= 10.5

    faketime.run(main())


@pytest.mark.parametrize(
    ("refusal", "status", "body"),
    [
        pytest.param(auth.unauthorized(), 401, b"Unauthorized", id="who is nobody"),
        pytest.param(
            auth.forbidden(USER, "get", ("pods", "proxy")),
            403,
            b"Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[pods proxy])\n",
            id="who may not",
        ),
    ],
)
def test_the_words_of_a_kubelet_for(refusal: Refusal, status: int, body: bytes) -> None:
    assert (refusal.response.status, refusal.response.body) == (status, body)
