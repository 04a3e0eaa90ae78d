"""Whether the identity for volumes is one of the home cluster."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from farlet import errors
from farlet.client.cluster import Cluster
from farlet.client.storage_identity import StorageIdentity
from farlet.node import storage

ACCOUNT = "system:serviceaccount:farlet:farlet"


@dataclass
class Fake:
    """One login of a cluster, and the tokens that its server accepts."""

    server: str = "https://home"
    ca_file: str | None = None
    authorization: str | None = None
    accepts: dict[str, str] = field(default_factory=dict)
    unreachable: int = 0
    reviews: int = 0

    @property
    def connection(self) -> object:
        return self.server, self.ca_file

    async def login(self) -> Any:
        return SimpleNamespace(authorization=self.authorization)

    async def request_unqueued(
        self, _method: str, _resource: object, *, body: Any, seconds: float
    ) -> dict[str, Any]:
        assert seconds > 0
        self.reviews += 1
        if self.unreachable:
            self.unreachable -= 1
            raise errors.Unreachable(cluster="home", request="it", cause="refused")
        user = self.accepts.get(body["spec"]["token"])
        return {"status": {"authenticated": bool(user), "user": {"username": user}}}


def home(**more: Any) -> Fake:
    return Fake(accepts={"ours": ACCOUNT, "human": "jane"}, **more)


def identity(at_home: Fake, volumes: Fake) -> StorageIdentity:
    return StorageIdentity(cast("Cluster", at_home), cast("Cluster", volumes))


def started(known: StorageIdentity, *, stop: bool = False) -> bool:
    async def run() -> bool:
        requested = asyncio.Event()
        if stop:
            requested.set()
        return await storage.confirm(known, requested)

    return asyncio.run(run())


def test_the_main_identity_and_one_with_the_same_server_and_ca_need_no_request(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").write_text("CA")
    (tmp_path / "b").write_text("CA")
    at_home = home(ca_file=str(tmp_path / "a"))
    for volumes in (at_home, Fake(ca_file=str(tmp_path / "b"))):
        known = identity(at_home, volumes)
        assert started(known)
        assert known.confirmed
    assert at_home.reviews == 0


def test_a_token_that_the_home_cluster_accepts_is_reviewed_once() -> None:
    at_home = home()
    known = identity(at_home, Fake("https://10.96.0.1", authorization="Bearer ours"))
    assert started(known)
    assert started(known)
    assert (known.confirmed, at_home.reviews) == (True, 1)


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        pytest.param("Bearer theirs", "does not accept its token", id="token of another cluster"),
        pytest.param("Bearer human", "does not accept its token", id="user of many clusters"),
        pytest.param(None, "it contains no token", id="client certificate"),
    ],
)
def test_an_identity_that_is_perhaps_one_of_another_cluster_ends_the_start(
    authorization: str | None, text: str
) -> None:
    known = identity(home(), Fake("https://other", authorization=authorization))
    with pytest.raises(errors.StartError, match=text):
        started(known)
    assert not known.confirmed
    with pytest.raises(errors.Refused):
        known.guard()


def test_a_start_waits_for_the_answer_until_a_shutdown_is_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.001)
    volumes = Fake("https://10.96.0.1", authorization="Bearer ours")
    assert started(identity(home(unreachable=2), volumes))
    assert not started(identity(home(unreachable=1000), volumes), stop=True)


def test_another_connection_is_confirmed_before_it_is_used() -> None:
    at_home, volumes = home(), Fake("https://10.96.0.1", authorization="Bearer ours")
    known = identity(at_home, volumes)
    assert started(known)
    volumes.server = "https://other"
    assert not known.confirmed
    with pytest.raises(errors.Refused, match="connection has changed"):
        known.guard()
    assert started(known), "the token is one of home: a second address of it"
    volumes.server, volumes.authorization = "https://third", "Bearer theirs"
    with pytest.raises(errors.Refused, match="does not accept"):
        asyncio.run(known.confirm())
    volumes.server, volumes.authorization = "https://10.96.0.1", "Bearer ours"
    assert started(known)
    assert known.guard() == float("inf")
