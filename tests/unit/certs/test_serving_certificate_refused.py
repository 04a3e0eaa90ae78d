"""A serving certificate that is not granted is requested again, also after an outage."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from datetime import timedelta

import pytest

from farlet import errors
from farlet.certs import signing_requests
from unit import certificates, faketime
from unit.certificates import SERVER
from unit.certs import home_server as home
from unit.certs.home_server import CSRS
from unit.certs.serving_harness import CA, Harness, run

# --- by the signer ----------------------------------------------------------------------------


def _denied(harness: Harness) -> None:
    harness.home.decide("csr-0", "Denied")


def _failed(harness: Harness) -> None:
    harness.home.decide("csr-0", "Failed")


def _deleted(harness: Harness) -> None:
    harness.home.remove(f"{CSRS}/csr-0")


def _of_another_node(harness: Harness) -> None:
    """A signer that ignores the request."""
    path = f"{CSRS}/csr-0"
    pem = certificates.issue(CA, user="system:node:near", uses=[SERVER]).pem
    status = {
        "conditions": [{"type": "Approved", "status": "True"}],
        "certificate": base64.b64encode(pem.encode()).decode(),
    }
    harness.home.put(path, {**harness.home.objects[path], "status": status})


def _invalid(harness: Harness) -> None:
    path = f"{CSRS}/csr-0"
    status = {"conditions": [{"type": "Approved", "status": "True"}], "certificate": "%%%"}
    harness.home.put(path, {**harness.home.objects[path], "status": status})


def _expiring_soon(harness: Harness) -> None:
    harness.grant("csr-0", lifetime=timedelta(minutes=6))


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(_denied, id="is denied"),
        pytest.param(_failed, id="fails"),
        pytest.param(_deleted, id="is deleted"),
        pytest.param(_of_another_node, id="returns a certificate of another node"),
        pytest.param(_invalid, id="returns an invalid certificate"),
        pytest.param(_expiring_soon, id="returns a certificate that expires soon"),
    ],
)
def test_a_new_request_follows_after_a_pause_when_it(
    happens: Callable[[Harness], None],
) -> None:
    async def scenario(harness: Harness) -> None:
        happens(harness)
        await asyncio.sleep(signing_requests.DENIED_SECONDS - 60.0)
        assert not harness.signed()
        assert harness.home.count("POST", CSRS) == 1
        await asyncio.sleep(120.0)
        assert harness.home.count("POST", CSRS) == 2
        harness.grant(harness.home.requests[-1]["metadata"]["name"])
        await asyncio.sleep(1.0)
        assert harness.signed()

    warnings = [line for line in run(scenario) if line["log_level"] == "warning"]
    assert any(line["event"] == "failed to obtain certificate" for line in warnings)


# --- by an unreachable API server -------------------------------------------------------------


def test_a_request_deleted_during_an_outage_is_followed_by_a_new_one() -> None:
    async def scenario(harness: Harness) -> None:
        harness.home.fail(home.unreachable)
        await asyncio.sleep(60.0)
        harness.home.objects.clear()
        harness.home.fail(None)
        await asyncio.sleep(signing_requests.DENIED_SECONDS + 60.0)
        assert harness.home.count("POST", CSRS) == 2

    run(scenario)


def test_an_approval_during_an_outage_is_noticed_after_it() -> None:
    async def scenario(harness: Harness) -> None:
        harness.home.fail(home.unreachable)
        await asyncio.sleep(60.0)
        harness.grant("csr-0")
        harness.home.fail(None)
        await asyncio.sleep(signing_requests.UNREACHABLE_SECONDS + 1)
        assert harness.signed()
        assert harness.home.count("POST", CSRS) == 1

    run(scenario)


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(home.unreachable, id="does not answer"),
        pytest.param(lambda: home.refusal(403), id="does not allow the request"),
    ],
)
def test_requests_are_retried_when_home(failing: Callable[[], errors.FarletError]) -> None:
    async def main() -> None:
        harness = Harness(None)
        harness.home.fail(failing)
        harness.manager.prepare()
        running = asyncio.create_task(harness.manager.run())
        await asyncio.sleep(3600.0)
        assert 20 <= harness.home.count("POST", CSRS) <= 60
        harness.home.fail(None)
        await asyncio.sleep(signing_requests.RETRY_SECONDS[1])
        harness.grant("csr-0")
        await asyncio.sleep(1.0)
        assert harness.signed()
        running.cancel()
        await asyncio.wait([running])

    faketime.run(main())
