"""A node waits for its certificate until somebody has decided, whatever fails meanwhile."""

import asyncio

import pytest

from clusters import processes, rest
from faults import failures, proxy
from faults.fixtures import StartProxied
from faults.stage import Stage

pytestmark = pytest.mark.clusters

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
GRANTED = "serving certificate granted"


async def test_a_certificate_that_is_granted_while_home_is_lost_is_found(
    stage: Stage, start_proxied: StartProxied, home_door: proxy.Proxy
) -> None:
    begun = await stage.home.request("GET", REQUESTS)
    farlet = await start_proxied(
        stage.node, settings={"tls-cert-file": None, "tls-private-key-file": None}
    )
    asked = await _asked(stage, since=begun["metadata"]["resourceVersion"])
    await home_door.watched(_about_certificates)
    assert home_door.cut_watches(_about_certificates) == 1
    lost = home_door.on(_about_certificates, failures.cut())
    await asyncio.to_thread(
        stage.clusters.home.kubectl, "certificate", "approve", asked["metadata"]["name"]
    )
    await lost.hit()
    assert GRANTED not in farlet.log
    home_door.heal()
    await asyncio.to_thread(
        processes.wait_for, "the certificate", lambda: GRANTED in farlet.log, seconds=180
    )


def _about_certificates(request: proxy.Request) -> bool:
    return request.path.startswith(REQUESTS)


async def _asked(stage: Stage, *, since: str) -> rest.Object:
    """The request of this stage's node for a serving certificate."""
    async with asyncio.timeout(rest.PATIENCE):
        async for _, found in stage.home.watch("certificatesigningrequests", resourceVersion=since):
            if found["spec"]["username"] == stage.user:
                return found
    raise AssertionError("the watch ended before there was a request")
