"""States are read from pods, which are not trusted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from farlet.constants import JSON
from farlet.manager import states
from farlet.manager.states import StateReader
from farlet.telemetry import state
from farlet.telemetry.state import State

SERVING = State(node="far", phase="serving")


@contextlib.asynccontextmanager
async def answering(answer: web.Response | str | None) -> AsyncIterator[StateReader]:
    """A reader of a pod whose probe port gives this answer; a string: that path; None: none."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        if answer is None:
            await asyncio.sleep(0.5)
        if isinstance(answer, str):
            raise web.HTTPFound(answer)
        assert answer is not None
        return answer

    app = web.Application()
    app.add_routes([web.get(state.PATH, handle), web.get("/other", _other)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with StateReader(port) as reader:
            yield reader
    finally:
        await runner.cleanup()


async def _other(_request: web.Request) -> web.Response:
    return web.Response(body=SERVING.model_dump_json())


def pod(address: str = "127.0.0.1") -> JSON:
    return {"metadata": {"name": "a"}, "status": {"podIP": address}}


async def test_a_state_is_read() -> None:
    async with answering(web.Response(body=SERVING.model_dump_json())) as reader:
        assert await reader.read(pod()) == SERVING


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(web.Response(status=500), "its probe port answered 500", id="an error"),
        pytest.param("/other", "its probe port answered 302", id="a redirect is not followed"),
        pytest.param(
            web.Response(body=b"ok"),
            "its probe port answered something other than a state",
            id="another program",
        ),
        pytest.param(
            web.Response(body=b'{"node": "' + b"x" * state.MAX_BYTES),
            "its probe port answered something other than a state",
            id="too long",
        ),
    ],
)
async def test_any_other_answer_is_a_problem_of_the_pod(
    answer: web.Response | str, problem: str
) -> None:
    async with answering(answer) as reader:
        with pytest.raises(ValueError, match=problem):
            await reader.read(pod())


async def test_an_older_farlet_does_not_report() -> None:
    async with answering(web.Response(status=404)) as reader:
        with pytest.raises(states.NotReported, match=r"before 0\.2\.0"):
            await reader.read(pod())


async def test_a_pod_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "SECONDS", 0.1)
    async with answering(None) as reader:
        with pytest.raises(ValueError, match="did not answer"):
            await reader.read(pod())


async def test_a_pod_without_an_address() -> None:
    async with StateReader() as reader:
        with pytest.raises(ValueError, match="has no address yet"):
            await reader.read({"metadata": {"name": "a"}})


async def test_a_port_that_is_closed() -> None:
    async with StateReader(1) as reader:
        with pytest.raises(ValueError, match="did not answer"):
            await reader.read(pod())
