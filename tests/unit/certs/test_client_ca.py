"""The client CA is read from the ConfigMap or a file, and reloaded after changes."""

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

Scenario = Callable[[Home, client_ca.ClientCA], Awaitable[None]]


def _accepts(ca: client_ca.ClientCA, authority: certificates.Pair) -> bool:
    return ca.verifies(certificates.issue(authority).certificate, datetime.now(UTC))


def _published(pem: str | None) -> dict[str, Any]:
    data = {} if pem is None else {"data": {"client-ca-file": pem}}
    return {"metadata": {"name": "extension-apiserver-authentication"}, **data}


def _run(scenario: Scenario, *, published: dict[str, Any] | None, file: Path | None = None) -> None:
    """Run the reader and the scenario with a fake clock."""

    async def main() -> None:
        server = Home()
        if published is not None:
            server.put(MAP, published)
        ca = client_ca.ClientCA(server, file=file)
        running = asyncio.create_task(ca.run())
        try:
            await asyncio.sleep(1.0)
            await scenario(server, ca)
        finally:
            running.cancel()
            await asyncio.wait([running])

    faketime.run(main())


def test_the_published_ca_is_used() -> None:
    async def scenario(_: Home, ca: client_ca.ClientCA) -> None:
        assert (_accepts(ca, FIRST), _accepts(ca, SECOND)) == (True, False)

    _run(scenario, published=_published(FIRST.pem))


def test_a_change_is_used_immediately() -> None:
    async def scenario(server: Home, ca: client_ca.ClientCA) -> None:
        server.put(MAP, _published(FIRST.pem + SECOND.pem))
        await asyncio.sleep(0.1)
        assert (_accepts(ca, FIRST), _accepts(ca, SECOND)) == (True, True)
        server.put(MAP, _published(SECOND.pem))
        await asyncio.sleep(0.1)
        assert (_accepts(ca, FIRST), _accepts(ca, SECOND)) == (False, True)

    _run(scenario, published=_published(FIRST.pem))


def test_a_change_is_used_after_the_watch_was_renewed() -> None:
    async def scenario(server: Home, ca: client_ca.ClientCA) -> None:
        await asyncio.sleep(2 * home.WATCH_SECONDS)
        server.put(MAP, _published(SECOND.pem))
        await asyncio.sleep(0.1)
        assert _accepts(ca, SECOND)
        assert server.count("GET", MAP) == 1

    _run(scenario, published=_published(FIRST.pem))


def test_a_change_during_an_outage_is_used_after_it() -> None:
    async def scenario(server: Home, ca: client_ca.ClientCA) -> None:
        server.fail(home.unreachable)
        server.objects.clear()
        server.put(MAP, _published(SECOND.pem))
        await asyncio.sleep(600.0)
        assert _accepts(ca, FIRST)
        server.fail(None)
        await asyncio.sleep(client_ca.RETRY_SECONDS[1])
        assert _accepts(ca, SECOND)

    _run(scenario, published=_published(FIRST.pem))


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(None, id="is missing"),
        pytest.param("", id="is empty"),
        pytest.param("-----BEGIN CERTIFICATE-----\nno\n", id="is truncated"),
    ],
)
def test_the_previous_ca_stays_if_the_new_one(pem: str | None) -> None:
    async def scenario(server: Home, ca: client_ca.ClientCA) -> None:
        server.put(MAP, _published(pem))
        await asyncio.sleep(1.0)
        assert _accepts(ca, FIRST)

    _run(scenario, published=_published(FIRST.pem))


def test_a_missing_permission_is_reported_once_with_its_fix() -> None:
    with structlog.testing.capture_logs() as logs:

        async def scenario(server: Home, ca: client_ca.ClientCA) -> None:
            server.fail(lambda: home.refusal(403))
            await asyncio.sleep(600.0)
            assert not _accepts(ca, FIRST)
            assert server.count("GET", MAP) < 12

        _run(scenario, published=None)
    warnings = [line for line in logs if line["log_level"] == "warning" and "403" in line["err"]]
    assert len(warnings) == 1
    assert "--client-ca-file" in warnings[0]["consequence"]
    assert "extension-apiserver-authentication-reader" in warnings[0]["consequence"]


def test_the_ca_is_used_once_the_permission_is_granted() -> None:
    async def scenario(server: Home, ca: client_ca.ClientCA) -> None:
        await asyncio.sleep(600.0)
        server.put(MAP, _published(FIRST.pem))
        await asyncio.sleep(client_ca.RETRY_SECONDS[1])
        assert _accepts(ca, FIRST)

    _run(scenario, published=None)


# --- the file ---------------------------------------------------------------------------------


def test_a_file_is_followed_without_requests_to_home(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(f"# of home\n{FIRST.pem}")

    async def scenario(server: Home, ca: client_ca.ClientCA) -> None:
        assert _accepts(ca, FIRST)
        file.write_text(SECOND.pem)
        await asyncio.sleep(client_ca.CHECK_SECONDS)
        assert (_accepts(ca, FIRST), _accepts(ca, SECOND)) == (False, True)
        assert server.requests_seen == []

    _run(scenario, published=_published(FIRST.pem), file=file)


@pytest.mark.parametrize(
    "content", [None, "", "not a certificate"], ids=["missing", "empty", "invalid"]
)
def test_an_invalid_file_leaves_the_previous_ca(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(FIRST.pem)

    async def scenario(_: Home, ca: client_ca.ClientCA) -> None:
        file.unlink()
        if content is not None:
            file.write_text(content)
        await asyncio.sleep(client_ca.CHECK_SECONDS)
        assert _accepts(ca, FIRST)
        file.write_text(SECOND.pem)
        await asyncio.sleep(client_ca.CHECK_SECONDS)
        assert _accepts(ca, SECOND)

    _run(scenario, published=None, file=file)


def test_a_file_without_a_certificate_fails_the_start(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("nothing")
    with pytest.raises(errors.StartError, match=r"--client-ca-file .*ca\.crt cannot be used"):
        client_ca.ClientCA(Home(), file=file).read_file()
