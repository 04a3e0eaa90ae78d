"""A node waits for the approval of its certificate request, even if connections fail meanwhile."""

import asyncio

import pytest

from clusters import processes, rest
from faults import failures, proxy
from faults.environment import Environment
from faults.fixtures import StartProxied

pytestmark = pytest.mark.clusters

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
GRANTED = "serving certificate granted"


async def test_a_certificate_issued_while_the_home_api_server_is_unreachable_is_found(
    env: Environment, start_proxied: StartProxied, home_proxy: proxy.Proxy
) -> None:
    begun = await env.home.request("GET", REQUESTS)
    farlet = await start_proxied(
        env.node, settings={"tls-cert-file": None, "tls-private-key-file": None}
    )
    asked = await _asked(env, since=begun["metadata"]["resourceVersion"])
    await home_proxy.watched(_about_certificates)
    assert home_proxy.cut_watches(_about_certificates) == 1
    lost = home_proxy.on(_about_certificates, failures.cut())
    await asyncio.to_thread(
        env.clusters.home.kubectl, "certificate", "approve", asked["metadata"]["name"]
    )
    await lost.hit()
    assert GRANTED not in farlet.log
    home_proxy.heal()
    await asyncio.to_thread(
        processes.wait_for, "the certificate", lambda: GRANTED in farlet.log, seconds=180
    )


def _about_certificates(request: proxy.Request) -> bool:
    return request.path.startswith(REQUESTS)


async def _asked(env: Environment, *, since: str) -> rest.Object:
    """The request of this node for a serving certificate."""
    async with asyncio.timeout(rest.PATIENCE):
        async for _, found in env.home.watch("certificatesigningrequests", resourceVersion=since):
            if found["spec"]["username"] == env.user:
                return found
    raise AssertionError("the watch ended before a request was created")
