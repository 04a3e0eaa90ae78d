"""The server for probes and scrapes, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket

import aiohttp
import pytest

from farlet import errors
from farlet.settings.values import Address
from farlet.telemetry import probes
from farlet.telemetry.metrics import Metrics

ANY = Address("127.0.0.1", 0)


async def get(at: Address | None, path: str) -> tuple[int, str]:
    assert at is not None
    async with aiohttp.ClientSession() as client, client.get(f"http://{at}{path}") as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("path", "live", "ready", "status", "text"),
    [
        pytest.param("/livez", None, None, 200, "ok", id="alive"),
        pytest.param("/readyz", None, None, 200, "ok", id="ready"),
        pytest.param("/livez", None, "no answer", 200, "ok", id="alive but not ready"),
        pytest.param(
            "/readyz",
            None,
            "no answer",
            500,
            "[+]loop ok\n[-]home failed: no answer\nreadyz check failed\n",
            id="the problem if not ready",
        ),
        pytest.param(
            "/livez",
            "stuck",
            None,
            500,
            "[-]loop failed: stuck\nlivez check failed\n",
            id="the problem if not alive",
        ),
        pytest.param(
            "/readyz",
            "stuck",
            None,
            500,
            "[-]loop failed: stuck\n[+]home ok\nreadyz check failed\n",
            id="not ready if not alive",
        ),
        pytest.param(
            "/readyz?verbose",
            None,
            "no answer",
            500,
            "[+]loop ok\n[-]home failed: no answer\nreadyz check failed\n",
            id="verbose lists every check",
        ),
        pytest.param(
            "/readyz?verbose",
            None,
            None,
            200,
            "[+]loop ok\n[+]home ok\nreadyz check passed\n",
            id="verbose lists every check without a problem",
        ),
        pytest.param(
            "/readyz?verbose&exclude=home",
            None,
            "no answer",
            200,
            "[+]loop ok\n[+]home excluded: ok\nreadyz check passed\n",
            id="an excluded check does not count",
        ),
        pytest.param("/readyz?exclude=home&exclude=loop", "x", "y", 200, "ok", id="all excluded"),
        pytest.param(
            "/readyz?verbose&exclude=here&exclude=home&exclude=away",
            None,
            None,
            200,
            "[+]loop ok\n[+]home excluded: ok\n"
            'warn: some health checks cannot be excluded: no matches for "away","here"\n'
            "readyz check passed\n",
            id="an unknown exclusion is reported",
        ),
        pytest.param("/readyz/home", "stuck", None, 200, "ok", id="one check without a problem"),
        pytest.param(
            "/readyz/home",
            None,
            "no answer",
            500,
            "internal server error: no answer\n",
            id="one check that failed",
        ),
        pytest.param("/livez/home", None, None, 404, "404: Not Found", id="an unknown check"),
    ],
)
async def test_probes_answer(
    path: str, live: str | None, ready: str | None, status: int, text: str
) -> None:
    checks = probes.Probes(live={"loop": lambda: live}, ready={"home": lambda: ready})
    async with probes.serve(
        metrics=Metrics(), probes=checks, metrics_at=None, health_at=ANY
    ) as served:
        assert await get(served.health, path) == (status, text)


async def test_metrics_and_probes_may_have_two_servers() -> None:
    async with probes.serve(
        metrics=Metrics(),
        probes=probes.Probes(),
        metrics_at=ANY,
        health_at=Address("localhost", 0),
    ) as served:
        status, text = await get(served.metrics, "/metrics")
        assert status == 200
        assert "farlet_home_up 0.0" in text
        assert (await get(served.metrics, "/livez"))[0] == 404
        assert (await get(served.health, "/metrics"))[0] == 404
        assert (await get(served.health, "/livez"))[0] == 200


async def test_one_address_is_one_server() -> None:
    async with probes.serve(
        metrics=Metrics(), probes=probes.Probes(), metrics_at=ANY, health_at=ANY
    ) as served:
        assert served.metrics == served.health
        assert (await get(served.metrics, "/metrics"))[0] == 200
        assert (await get(served.health, "/readyz"))[0] == 200


async def test_no_address_is_no_server() -> None:
    async with probes.serve(
        metrics=Metrics(), probes=probes.Probes(), metrics_at=None, health_at=None
    ) as served:
        assert served == probes.Served(metrics=None, health=None)


@pytest.mark.parametrize(
    ("metrics_busy", "setting"),
    [
        pytest.param(True, "--metrics-bind-address (FARLET_METRICS_BIND_ADDRESS)", id="metrics"),
        pytest.param(
            False, "--health-probe-bind-address (FARLET_HEALTH_PROBE_BIND_ADDRESS)", id="probes"
        ),
    ],
)
async def test_a_port_in_use_is_reported_with_setting_and_address(
    metrics_busy: bool, setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        busy = Address("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(errors.StartError) as caught:
            async with probes.serve(
                metrics=Metrics(),
                probes=probes.Probes(),
                metrics_at=busy if metrics_busy else ANY,
                health_at=ANY if metrics_busy else busy,
            ):
                pass
    assert str(caught.value) == (
        f"{setting} {busy}: another process listens there. Choose another address, or 0 to disable "
        "this listener"
    )


async def test_an_address_of_another_machine_is_reported() -> None:
    with pytest.raises(errors.StartError, match=r"--metrics-bind-address .* 192\.0\.2\.1:80: "):
        async with probes.serve(
            metrics=Metrics(),
            probes=probes.Probes(),
            metrics_at=Address("192.0.2.1", 80),
            health_at=None,
        ):
            pass


async def test_the_port_is_free_again_afterwards() -> None:
    async with probes.serve(
        metrics=Metrics(), probes=probes.Probes(), metrics_at=ANY, health_at=None
    ) as served:
        first = served.metrics
        await get(first, "/metrics")
    async with probes.serve(
        metrics=Metrics(), probes=probes.Probes(), metrics_at=first, health_at=None
    ) as served:
        assert served.metrics == first


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: a\r\n", id="half a head"),
        pytest.param(
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", id="half a body"
        ),
    ],
)
async def test_a_connection_that_sends_no_complete_request_ends(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "LIMITS", dataclasses.replace(probes.LIMITS, seconds=0.3))
    async with probes.serve(
        metrics=Metrics(), probes=probes.Probes(), metrics_at=ANY, health_at=None
    ) as served:
        assert served.metrics is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", served.metrics.port)
        writer.write(sent)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()


async def test_a_connection_carries_one_request() -> None:
    async with probes.serve(
        metrics=Metrics(), probes=probes.Probes(), metrics_at=ANY, health_at=None
    ) as served:
        assert served.metrics is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", served.metrics.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert answer.count(b"HTTP/1.1 200 OK") == 1
        assert b"Connection: close" in answer
        writer.close()
