"""Permissions are reviewed by the home API server, cached, and never granted without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from farlet import errors
from farlet.kubelet import authentication, authorization
from farlet.kubelet.responses import Refusal
from unit import faketime
from unit.certs import home_server as home
from unit.certs.home_server import Home

USER = authentication.User("scraper", ("system:authenticated",), "u1", (("a", ("1",)),))


def _authorizer(server: Home) -> authorization.Authorizer:
    clock = asyncio.get_running_loop().time
    return authorization.Authorizer(server, node="far", clock=clock)


async def test_the_review_contains_user_and_node() -> None:
    server = Home()
    server.review = lambda _: {"allowed": True}
    assert await _authorizer(server).is_allowed(USER, "get", "/stats/summary", ("stats",))
    ((method, path, body),) = server.requests_seen
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
    "the first is allowed, the second not reviewed": (
        ("pods", "proxy"),
        frozenset({"pods", "proxy"}),
        True,
        ["pods"],
    ),
    "the second is allowed": (("pods", "proxy"), frozenset({"proxy"}), True, ["pods", "proxy"]),
    "none is allowed": (("pods", "proxy"), frozenset({"stats"}), False, ["pods", "proxy"]),
    "there are none": ((), frozenset({"proxy"}), False, []),
}


@pytest.mark.parametrize(
    ("subresources", "granted", "allowed", "reviewed"), SUBRESOURCES.values(), ids=SUBRESOURCES
)
async def test_one_of_several_permissions_is_enough(
    subresources: tuple[str, ...], granted: frozenset[str], allowed: bool, reviewed: list[str]
) -> None:
    server = Home()
    server.review = lambda spec: {"allowed": spec["resourceAttributes"]["subresource"] in granted}
    assert await _authorizer(server).is_allowed(USER, "get", "/pods", subresources) is allowed
    found = [
        body["spec"]["resourceAttributes"]["subresource"] for _, _, body in server.requests_seen
    ]
    assert found == reviewed


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"allowed": False}, id="not allowed"),
        pytest.param({}, id="empty"),
        pytest.param({"allowed": "true"}, id="not a boolean"),
        pytest.param({"allowed": True, "denied": True}, id="allowed and denied"),
    ],
)
async def test_access_is_denied_by_a_status_that_is(status: dict[str, Any]) -> None:
    server = Home()
    server.review = lambda _: status
    assert not await _authorizer(server).is_allowed(USER, "get", "/pods", ("proxy",))


@pytest.mark.parametrize(
    ("allowed", "seconds", "reviews"),
    [
        pytest.param(True, 299.0, 1, id="allowed, within five minutes"),
        pytest.param(True, 301.0, 2, id="allowed, after five minutes"),
        pytest.param(False, 29.0, 1, id="denied, within thirty seconds"),
        pytest.param(False, 31.0, 2, id="denied, after thirty seconds"),
    ],
)
def test_a_review_is_cached(allowed: bool, seconds: float, reviews: int) -> None:
    async def main() -> None:
        server = Home()
        server.review = lambda _: {"allowed": allowed}
        authorizer = _authorizer(server)
        await authorizer.is_allowed(USER, "get", "/pods", ("proxy",))
        await asyncio.sleep(seconds)
        assert await authorizer.is_allowed(USER, "get", "/run", ("proxy",)) is allowed
        assert server.count("POST", home.ACCESS_REVIEWS) == reviews

    faketime.run(main())


OTHERS = {
    "another user": (
        authentication.User("other", USER.groups, USER.uid, USER.extra),
        "get",
        "proxy",
    ),
    "another group": (authentication.User("scraper", ("x",), USER.uid, USER.extra), "get", "proxy"),
    "another uid": (authentication.User("scraper", USER.groups, "u2", USER.extra), "get", "proxy"),
    "another extra": (authentication.User("scraper", USER.groups, "u1", ()), "get", "proxy"),
    "another verb": (USER, "create", "proxy"),
    "another subresource": (USER, "get", "log"),
}


@pytest.mark.parametrize(("user", "verb", "subresource"), OTHERS.values(), ids=OTHERS)
async def test_a_review_is_not_reused_for(
    user: authentication.User, verb: str, subresource: str
) -> None:
    server = Home()
    server.review = lambda _: {"allowed": True}
    authorizer = _authorizer(server)
    await authorizer.is_allowed(USER, "get", "/pods", ("proxy",))
    server.review = lambda _: {"allowed": False}
    assert not await authorizer.is_allowed(user, verb, "/pods", (subresource,))


async def test_concurrent_requests_of_a_caller_share_one_review() -> None:
    server = Home()
    server.review = lambda _: {"allowed": True}
    authorizer = _authorizer(server)
    requests = (authorizer.is_allowed(USER, "get", "/pods", ("proxy",)) for _ in range(200))
    assert all(await asyncio.gather(*requests))
    assert len(server.requests_seen) == 1


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(home.unreachable, id="does not answer"),
        pytest.param(lambda: home.refusal(403), id="does not allow the review"),
    ],
)
async def test_a_request_fails_with_500_if_home(
    failing: Callable[[], errors.FarletError],
) -> None:
    server = Home()
    server.failing = failing
    with pytest.raises(Refusal) as refused:
        await _authorizer(server).is_allowed(USER, "get", "/pods", ("pods", "proxy"))
    assert refused.value.response.status == 500
    assert refused.value.response.body == (
        b"Authorization error (user=scraper, verb=get, resource=nodes, subresource=pods)"
    )


def test_a_review_that_hangs_fails_within_seconds() -> None:
    async def main() -> None:
        server = Home()
        hang = asyncio.Event()

        async def call(*_: object, **__: object) -> dict[str, Any]:
            await hang.wait()
            return {}

        server.call = call  # type: ignore[method-assign]
        with pytest.raises(Refusal):
            await _authorizer(server).is_allowed(USER, "get", "/pods", ("proxy",))
        assert asyncio.get_running_loop().time() <= 10.5

    faketime.run(main())


@pytest.mark.parametrize(
    ("refusal", "status", "body"),
    [
        pytest.param(
            authentication.unauthorized(), 401, b"Unauthorized", id="an unauthenticated caller"
        ),
        pytest.param(
            authorization.forbidden(USER, "get", ("pods", "proxy")),
            403,
            b"Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[pods proxy])\n",
            id="a caller without permission",
        ),
    ],
)
def test_the_answer_of_a_kubelet_to(refusal: Refusal, status: int, body: bytes) -> None:
    assert (refusal.response.status, refusal.response.body) == (status, body)
