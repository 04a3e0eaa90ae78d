"""How many TokenRequests are sent for a pod of several audiences, and in which order."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from farlet import errors
from farlet.access import TokenSpec
from farlet.k8s_types import Pod
from farlet.reconcile import token_requests
from farlet.reconcile.token_requests import Tokens
from farlet.store import Store
from farlet.telemetry.metrics import Metrics
from unit import faketime
from unit.fakeclient import FakeClient
from unit.planning.model import JSON

POD: Pod = {"metadata": {"namespace": "default", "name": "web", "uid": "u"}, "spec": {}}
NOW = 1_767_323_045.0
CLAIMS = tuple(TokenSpec(key=name, audience=name, expiration_seconds=3600) for name in "abc")


class Home(FakeClient):
    """Answers TokenRequests when the test decides, and refuses those of the audiences it names."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.came = asyncio.Event()
        self.open = asyncio.Event()
        self.refused: set[str] = set()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        assert (method, path) == (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
        )
        (audience,) = body["spec"]["audiences"]
        self.requests.append(audience)
        self.came.set()
        await self.open.wait()
        if audience in self.refused:
            raise errors.Forbidden(
                cluster="home",
                request="it",
                code=403,
                status_reason="Forbidden",
                message="no relationship found between node and this object",
            )
        return {"status": {"token": audience, "expirationTimestamp": "2030-01-01T00:00:00Z"}}

    def tokens(self) -> Tokens:
        return Tokens(self, Store(), granted=Metrics().tokens_granted)


class Answering(FakeClient):
    """Answers each TokenRequest with this status."""

    def __init__(self, status: JSON | None) -> None:
        self._status = status

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        return {"status": self._status}


class Clock:
    """The loop's time, which jumps."""

    def time(self) -> float:
        return NOW + asyncio.get_running_loop().time()

    monotonic = time


async def test_the_first_token_is_requested_alone_and_the_others_together() -> None:
    home = Home()
    granting = asyncio.create_task(home.tokens().grant(POD, CLAIMS))
    await home.came.wait()
    await asyncio.sleep(0)  # whatever was to be sent beside it has been sent
    assert home.requests == ["a"]
    home.open.set()
    granted = await granting
    assert home.requests == ["a", "b", "c"]
    assert {key: token.value for key, token in granted.items()} == {"a": "a", "b": "b", "c": "c"}


async def test_no_other_token_is_requested_while_the_first_is_refused() -> None:
    home = Home()
    home.open.set()
    home.refused = {"a", "b", "c"}
    tokens = home.tokens()
    with pytest.raises(errors.Forbidden):
        await tokens.grant(POD, CLAIMS)
    assert home.requests == ["a"]
    home.refused.clear()
    assert set(await tokens.grant(POD, CLAIMS)) == {"a", "b", "c"}
    assert home.requests == ["a", "a", "b", "c"]


async def test_a_refused_audience_lets_those_beside_it_be_granted_and_held() -> None:
    home = Home()
    home.open.set()
    home.refused = {"b"}
    tokens = home.tokens()
    with pytest.raises(errors.Forbidden):
        await tokens.grant(POD, CLAIMS)
    home.requests.clear()
    home.refused.clear()
    await tokens.grant(POD, CLAIMS)
    assert home.requests == ["b"], "what was granted is not requested again"


@pytest.mark.parametrize(
    ("seconds", "times"),
    [
        pytest.param(0.0, 1, id="at once"),
        pytest.param(token_requests.REUSED_SECONDS - 1, 1, id="within a minute"),
        pytest.param(token_requests.REUSED_SECONDS + 1, 2, id="after a minute"),
    ],
)
def test_delivered_tokens_are_used_again(
    seconds: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(token_requests, "time", Clock())
        home, store = Home(), Store()
        home.open.set()
        tokens = Tokens(home, store, granted=Metrics().tokens_granted)
        await tokens.grant(POD, CLAIMS)
        tokens.delivered(POD)
        await asyncio.sleep(seconds)
        await tokens.grant(POD, CLAIMS)
        assert home.requests == ["a", "b", "c"] * times

    faketime.run(story())


def test_delivered_tokens_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(token_requests, "time", Clock())
        home, store = Home(), Store()
        home.open.set()
        tokens = Tokens(home, store, granted=Metrics().tokens_granted)
        await tokens.grant(POD, CLAIMS)
        tokens.delivered(POD)
        other: Pod = {"metadata": {"namespace": "default", "name": "b", "uid": "v"}, "spec": {}}
        await asyncio.sleep(token_requests.REUSED_SECONDS - 1)
        await tokens.grant(other, CLAIMS)
        tokens.delivered(other)
        await asyncio.sleep(2)
        assert list(store.tokens) == ["v"]
        await asyncio.sleep(token_requests.REUSED_SECONDS)
        assert store.tokens == {}

    faketime.run(story())


def test_a_token_that_is_due_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(token_requests, "time", Clock())
        home = Home()
        home.open.set()
        tokens = home.tokens()
        short = (TokenSpec(key="a", audience="a", expiration_seconds=100),)
        await tokens.grant(POD, short)
        await asyncio.sleep(60.0)
        await tokens.grant(POD, short)
        assert home.requests == ["a", "a"]

    faketime.run(story())


STATUS = {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(None, id="without a status"),
        pytest.param({"token": "t"}, id="without a time"),
        pytest.param({**STATUS, "token": None}, id="without a token"),
        pytest.param({**STATUS, "token": ""}, id="with an empty token"),
        pytest.param({**STATUS, "token": ["t"]}, id="with a list of tokens"),
        pytest.param({**STATUS, "expirationTimestamp": "soon"}, id="with a word for a time"),
        pytest.param({**STATUS, "expirationTimestamp": 2**80}, id="with a number for a time"),
    ],
)
async def test_an_answer_counts_as_none(status: JSON | None) -> None:
    home = Answering(status)
    with pytest.raises(errors.Unreachable) as raised:
        await token_requests.request(home, POD, CLAIMS[0], now=1.0)
    assert str(raised.value).endswith("an answer without a valid token")


@pytest.mark.parametrize("issued", ["true", '"now"', "-1e308", "1" + "0" * 300, "null"])
async def test_a_token_never_lives_longer_than_requested_whatever_it_claims(issued: str) -> None:
    payload = base64.urlsafe_b64encode(f'{{"iat": {issued}}}'.encode()).decode().rstrip("=")
    home = Answering({**STATUS, "token": f"h.{payload}.s"})
    token = await token_requests.request(home, POD, CLAIMS[0], now=1_800_000_000.0)
    assert (token.issued, token.expires) == (1_800_000_000.0, 1_800_003_600.0)
