"""Kopf's sessions: credentials renewed in time and never tried forever, watches without echoes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kopf._cogs.clients import api

from farlet.client import resources, shapes
from farlet.client.credential_sources import ClusterSource
from farlet.constants import JSON
from farlet.home import kopf_session
from farlet.home.kopf_session import KopfSessions
from unit.reconcile import apiserver

MODIFIED = {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "7"}}}
LATER = {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "8"}}}
POD = {"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "7"}
DELETED = {
    "type": "DELETED",
    "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {**POD, "labels": {}}, "spec": {}},
}
BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
ERROR = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}


def is_echo(kind: str | None, found: JSON) -> bool:
    return kind in {"MODIFIED", "DELETED"} and bool(found["metadata"]["resourceVersion"] == "7")


@asynccontextmanager
async def logged_in(kubeconfig: Path) -> AsyncIterator[kopf_session.KopfSession]:
    source = ClusterSource(kubeconfig=str(kubeconfig), context=None)
    sessions = KopfSessions(source, is_known=is_echo)
    try:
        yield await sessions.log_in()
    finally:
        await sessions.close()


# --- credentials ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param({"token": "t"}, "Bearer t", id="a token"),
        pytest.param({"username": "u", "password": "p"}, "Basic dTpw", id="a password"),
        pytest.param({"impersonate": "no one"}, None, id="neither"),
    ],
)
async def test_a_session_has(user: dict[str, str], expected: str | None, tmp_path: Path) -> None:
    kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://api:6443", user=user)
    async with logged_in(kubeconfig) as login:
        assert login.server == "https://api:6443"
        assert login.aiohttp_session.headers.get("Authorization") == expected
        assert "Authorization" not in repr(login)


async def test_a_login_expires_soon_enough_for_the_next_one_to_read_new_files(
    tmp_path: Path,
) -> None:
    kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://api:6443")
    async with logged_in(kubeconfig) as login:
        assert login.expiration is not None
        life = login.expiration - datetime.now(UTC)
        assert timedelta(seconds=50) < life <= timedelta(minutes=2)
        assert (login.expiration.second, login.expiration.microsecond) == (0, 0)


@pytest.mark.parametrize(
    ("token", "equal"),
    [pytest.param("t", True, id="the same token"), pytest.param("u", False, id="a new token")],
)
async def test_kopf_tries_refused_credentials_again_only_with(
    token: str, equal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = datetime(2026, 11, 29, tzinfo=UTC)
    monkeypatch.setattr(kopf_session, "_expiration", lambda _now: minute)
    kubeconfig = tmp_path / "kubeconfig"
    apiserver.kubeconfig(kubeconfig, "https://api:6443", user={"token": "t"})
    async with logged_in(kubeconfig) as refused:
        apiserver.kubeconfig(kubeconfig, "https://api:6443", user={"token": token})
        async with logged_in(kubeconfig) as login:
            assert (login == refused) is equal


async def test_no_session_stays_open_though_kopf_never_used_it(tmp_path: Path) -> None:
    kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig", "https://api:6443")
    sessions = KopfSessions(ClusterSource(kubeconfig=str(kubeconfig), context=None))
    made = [await sessions.log_in(), await sessions.log_in()]
    await sessions.close()
    assert all(login.aiohttp_session.closed for login in made)


# --- watches ----------------------------------------------------------------------------------


async def answered(front: apiserver.Front, body: str, path: str, folder: Path) -> list[Any]:
    """What Kopf gets from a server that answers with `body`."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    front.answer = answer
    kubeconfig = apiserver.kubeconfig(folder / "kubeconfig", front.url)
    async with (
        logged_in(kubeconfig) as login,
        login.aiohttp_session.get(f"{login.server}{path}") as response,
    ):
        return [line.decode() async for line in api.iter_jsonlines(response.content)]


@pytest.mark.parametrize(
    ("event", "passed"),
    [
        pytest.param(json.dumps(MODIFIED), False, id="an echo"),
        pytest.param(json.dumps(LATER), True, id="a later version"),
        pytest.param(json.dumps(BOOKMARK), True, id="a bookmark"),
        pytest.param(json.dumps(ERROR), True, id="an error"),
        pytest.param("{", True, id="a line that is not JSON"),
        pytest.param("[]", True, id="a line that is a list"),
        pytest.param('{"type": "MODIFIED"}', True, id="an event without an object"),
    ],
)
async def test_kopf_gets_what_says_something_new(event: str, passed: bool, tmp_path: Path) -> None:
    last = json.dumps(LATER)
    async with apiserver.listening() as front:
        got = await answered(front, f"{event}\n{last}\n", "/api/v1/pods?watch=true", tmp_path)
    assert got == ([event, last] if passed else [last])


async def test_kopf_gets_of_a_known_deletion_what_it_needs_to_forget_the_pod(
    tmp_path: Path,
) -> None:
    async with apiserver.listening() as front:
        watch = "/api/v1/pods?watch=true"
        (got,) = await answered(front, f"{json.dumps(DELETED)}\n", watch, tmp_path)
    shortened = {"apiVersion": "v1", "kind": "Pod", "metadata": POD, "spec": {}}
    assert json.loads(got) == {"type": "DELETED", "object": shortened}
    assert shapes.problem(resources.PODS.shape, shortened) is None


async def test_a_list_is_not_filtered(tmp_path: Path) -> None:
    async with apiserver.listening() as front:
        got = await answered(front, json.dumps(MODIFIED), "/api/v1/pods", tmp_path)
    assert got == [json.dumps(MODIFIED)]


async def test_a_refused_watch_is_not_filtered(tmp_path: Path) -> None:
    async with apiserver.listening() as front:
        front.answer = apiserver.status(410, "too old")
        kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url)
        async with logged_in(kubeconfig) as login:
            url = f"{login.server}/api/v1/pods?watch=true"
            async with login.aiohttp_session.get(url) as response:
                assert (await response.json())["message"] == "too old"


async def test_a_watch_that_kopf_closes_ends_at_once(tmp_path: Path) -> None:
    silent, ended = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(json.dumps(LATER).encode() + b"\n")
        await ended.wait()
        return response

    async with apiserver.listening() as front:
        front.answer = answer
        kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig", front.url)
        async with logged_in(kubeconfig) as login:
            url = f"{login.server}/api/v1/pods?watch=true"
            async with login.aiohttp_session.get(url) as response:

                async def follow() -> None:
                    async for _line in api.iter_jsonlines(response.content):
                        silent.set()

                following = asyncio.create_task(follow())
                async with asyncio.timeout(5):
                    await silent.wait()
                    await asyncio.sleep(0)
                    response.close()
                    with pytest.raises(aiohttp.ClientConnectionError):
                        await following
        ended.set()
