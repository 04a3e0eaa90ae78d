"""On a port other than 443, clients that use the DNS name fail, and an Event reports it."""

import pytest

from clusters import images, pair, rest
from clusters import workspace as workspaces
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = pytest.mark.clusters


async def test_clients_that_use_the_dns_name_fail_on_another_port_and_an_event_reports_it(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    _, port = clusters.home_api_on_other_port
    await workspaces.allow_listing_pods(home, namespace=workspace.home)
    await start_farlet(node, settings={"home-api-server-port": str(port)})
    wanted = realpods.bound(realpods.pod("who", "client-all"), node)
    with clusters.without_home_door():
        await home.create("pods", wanted, namespace=workspace.home)
        ((_, output),) = await realpods.outputs(foreign, [(workspace.foreign, "who")])
    failed = {line["client"] for line in realpods.lines(output) if line["error"] is not None}
    assert failed == images.DIAL_BY_NAME
    event = await realpods.event(home, "who", namespace=workspace.home, reason="SpecAdjusted")
    assert f"listens on port {port}: clients that" in event["message"]
    assert "https://kubernetes.default.svc" in event["message"]
