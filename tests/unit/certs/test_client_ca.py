"""Where the client CA comes from, and how it is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from farlet import errors
from farlet.certs import client_ca
from unit import certificates, faketime
from unit.certs import home_server as home
from unit.certs.home_server import Home

FIRST, SECOND = certificates.authority("first"), certificates.authority("second")
MAP = f"{home.CA_MAP}/extension-apiserver-authentication"

Played = Callable[[Home, client_ca.ClientCA], Awaitable[None]]


def _believes(ca: client_ca.ClientCA, authority: certificates.Pair) -> bool:
    return ca.vouches(certificates.issue(authority).certificate, datetime.now(UTC))


def _published(pem: str | None) -> dict[str, Any]:
    data = {} if pem is None else {"data": {"client-ca-file": pem}}
    return {"metadata": {"name": "extension-apiserver-authentication"}, **data}


def _play(story: Played, *, published: dict[str, Any] | None, file: Path | None = None) -> None:
    """Run the follower beside the story, in time that jumps."""

    async def main() -> None:
        asked = Home()
        if published is not None:
            asked.put(MAP, published)
        ca = client_ca.ClientCA(asked, file=file)
        running = asyncio.create_task(ca.run())
        try:
            await asyncio.sleep(1.0)
            await story(asked, ca)
        finally:
            running.cancel()
            await asyncio.wait([running])

    faketime.run(main())


def test_it_is_what_home_publishes() -> None:
    async def story(_: Home, ca: client_ca.ClientCA) -> None:
        assert (_believes(ca, FIRST), _believes(ca, SECOND)) == (True, False)

    _play(story, published=_published(FIRST.pem))


def test_a_change_is_followed_at_once() -> None:
    async def story(asked: Home, ca: client_ca.ClientCA) -> None:
        asked.put(MAP, _published(FIRST.pem + SECOND.pem))
        await asyncio.sleep(0.1)
        assert (_believes(ca, FIRST), _believes(ca, SECOND)) == (True, True)
        asked.put(MAP, _published(SECOND.pem))
        await asyncio.sleep(0.1)
        assert (_believes(ca, FIRST), _believes(ca, SECOND)) == (False, True)

    _play(story, published=_published(FIRST.pem))


def test_a_change_is_followed_after_the_watch_has_ended() -> None:
    async def story(asked: Home, ca: client_ca.ClientCA) -> None:
        await asyncio.sleep(2 * home.WATCH_SECONDS)
        asked.put(MAP, _published(SECOND.pem))
        await asyncio.sleep(0.1)
        assert _believes(ca, SECOND)
        assert asked.count("GET", MAP) == 1

    _play(story, published=_published(FIRST.pem))


def test_a_change_during_an_outage_is_followed_after_it() -> None:
    async def story(asked: Home, ca: client_ca.ClientCA) -> None:
        asked.fail(home.unreachable)
        asked.objects.clear()
        asked.put(MAP, _published(SECOND.pem))
        await asyncio.sleep(600.0)
        assert _believes(ca, FIRST)
        asked.fail(None)
        await asyncio.sleep(client_ca.AGAIN_SECONDS[1])
        assert _believes(ca, SECOND)

    _play(story, published=_published(FIRST.pem))


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(None, id="is gone"),
        pytest.param("", id="is empty"),
        pytest.param("-----BEGIN CERTIFICATE-----\nno\n", id="is cut off"),
    ],
)
def test_the_one_before_stays_where_the_new_one(pem: str | None) -> None:
    async def story(asked: Home, ca: client_ca.ClientCA) -> None:
        asked.put(MAP, _published(pem))
        await asyncio.sleep(1.0)
        assert _believes(ca, FIRST)

    _play(story, published=_published(FIRST.pem))


def test_where_it_may_not_be_read_one_warning_tells_what_to_do() -> None:
    with structlog.testing.capture_logs() as logs:

        async def story(asked: Home, ca: client_ca.ClientCA) -> None:
            asked.fail(lambda: home.refusal(403))
            await asyncio.sleep(600.0)
            assert not _believes(ca, FIRST)
            assert asked.count("GET", MAP) < 12

        _play(story, published=None)
    told = [line for line in logs if line["log_level"] == "warning" and "403" in line["err"]]
    assert len(told) == 1
    assert "--client-ca-file" in told[0]["consequence"]
    assert "extension-apiserver-authentication-reader" in told[0]["consequence"]


def test_it_is_taken_up_when_the_right_is_granted() -> None:
    async def story(asked: Home, ca: client_ca.ClientCA) -> None:
        await asyncio.sleep(600.0)
        asked.put(MAP, _published(FIRST.pem))
        await asyncio.sleep(client_ca.AGAIN_SECONDS[1])
        assert _believes(ca, FIRST)

    _play(story, published=None)


# --- the file ---------------------------------------------------------------------------------


def test_a_file_is_followed_and_home_is_not_asked(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(f"# of home\n{FIRST.pem}")

    async def story(asked: Home, ca: client_ca.ClientCA) -> None:
        assert _believes(ca, FIRST)
        file.write_text(SECOND.pem)
        await asyncio.sleep(client_ca.LOOK_SECONDS)
        assert (_believes(ca, FIRST), _believes(ca, SECOND)) == (False, True)
        assert asked.asked == []

    _play(story, published=_published(FIRST.pem), file=file)


@pytest.mark.parametrize("content", [None, "", "no certificate"], ids=["gone", "empty", "broken"])
def test_a_file_that_broke_leaves_the_one_before(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(FIRST.pem)

    async def story(_: Home, ca: client_ca.ClientCA) -> None:
        file.unlink()
        if content is not None:
            file.write_text(content)
        await asyncio.sleep(client_ca.LOOK_SECONDS)
        assert _believes(ca, FIRST)
        file.write_text(SECOND.pem)
        await asyncio.sleep(client_ca.LOOK_SECONDS)
        assert _believes(ca, SECOND)

    _play(story, published=None, file=file)


def test_a_file_without_a_certificate_refuses_the_start(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("nothing")
    with pytest.raises(errors.StartError, match=r"--client-ca-file .*ca\.crt cannot be used"):
        client_ca.ClientCA(Home(), file=file).look()
