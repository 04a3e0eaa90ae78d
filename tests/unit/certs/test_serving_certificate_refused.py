"""A serving certificate that is not granted is asked for again, also after an outage."""

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
from unit.certs.serving_scene import CA, Scene, play

# --- by the signer ----------------------------------------------------------------------------


def _denied(scene: Scene) -> None:
    scene.home.decide("csr-0", "Denied")


def _failed(scene: Scene) -> None:
    scene.home.decide("csr-0", "Failed")


def _removed(scene: Scene) -> None:
    scene.home.remove(f"{CSRS}/csr-0")


def _for_another(scene: Scene) -> None:
    """A signer that does as it likes."""
    path = f"{CSRS}/csr-0"
    pem = certificates.issue(CA, user="system:node:near", uses=[SERVER]).pem
    status = {
        "conditions": [{"type": "Approved"}],
        "certificate": base64.b64encode(pem.encode()).decode(),
    }
    scene.home.put(path, {**scene.home.objects[path], "status": status})


def _garbage(scene: Scene) -> None:
    path = f"{CSRS}/csr-0"
    status = {"conditions": [{"type": "Approved"}], "certificate": "%%%"}
    scene.home.put(path, {**scene.home.objects[path], "status": status})


def _nearly_over(scene: Scene) -> None:
    scene.grant("csr-0", life=timedelta(minutes=6))


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(_denied, id="is denied"),
        pytest.param(_failed, id="fails"),
        pytest.param(_removed, id="is removed"),
        pytest.param(_for_another, id="brings another's certificate"),
        pytest.param(_garbage, id="brings no certificate"),
        pytest.param(_nearly_over, id="brings one that is nearly over"),
    ],
)
def test_a_request_is_made_again_after_a_while_when_it(
    happens: Callable[[Scene], None],
) -> None:
    async def story(scene: Scene) -> None:
        happens(scene)
        await asyncio.sleep(signing_requests.DENIED_SECONDS - 60.0)
        assert not scene.signed()
        assert scene.home.count("POST", CSRS) == 1
        await asyncio.sleep(120.0)
        assert scene.home.count("POST", CSRS) == 2
        scene.grant(scene.home.requests[-1]["metadata"]["name"])
        await asyncio.sleep(1.0)
        assert scene.signed()

    warnings = [line for line in play(story) if line["log_level"] == "warning"]
    assert any(line["event"] == "certificate was not granted" for line in warnings)


# --- by an API server that is away ------------------------------------------------------------


def test_a_request_that_was_removed_during_an_outage_is_made_again() -> None:
    async def story(scene: Scene) -> None:
        scene.home.fail(home.unreachable)
        await asyncio.sleep(60.0)
        scene.home.objects.clear()
        scene.home.fail(None)
        await asyncio.sleep(signing_requests.DENIED_SECONDS + 60.0)
        assert scene.home.count("POST", CSRS) == 2

    play(story)


def test_an_approval_during_an_outage_is_seen_after_it() -> None:
    async def story(scene: Scene) -> None:
        scene.home.fail(home.unreachable)
        await asyncio.sleep(60.0)
        scene.grant("csr-0")
        scene.home.fail(None)
        await asyncio.sleep(signing_requests.LOST_SECONDS + 1)
        assert scene.signed()
        assert scene.home.count("POST", CSRS) == 1

    play(story)


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(home.unreachable, id="does not answer"),
        pytest.param(lambda: home.refusal(403), id="does not let farlet ask"),
    ],
)
def test_it_asks_on_where_home(failing: Callable[[], errors.FarletError]) -> None:
    async def main() -> None:
        scene = Scene(None)
        scene.home.fail(failing)
        scene.keeper.prepare()
        running = asyncio.create_task(scene.keeper.run())
        await asyncio.sleep(3600.0)
        assert 20 <= scene.home.count("POST", CSRS) <= 60
        scene.home.fail(None)
        await asyncio.sleep(signing_requests.AGAIN_SECONDS[1])
        scene.grant("csr-0")
        await asyncio.sleep(1.0)
        assert scene.signed()
        running.cancel()
        await asyncio.wait([running])

    faketime.run(main())
