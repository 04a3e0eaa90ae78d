"""`kopf run -A operator/main.py` serves a virtual node as `farlet run` does.

One pod per access mode, in real containers; all settings come from FARLET_* variables.
"""

import asyncio
import signal

import pytest

from clusters import farlet, pair, rest
from clusters import workspace as workspaces
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.core, pytest.mark.takes(90)]

MODES = ("home", "remote", "disabled")


@pytest.mark.both_identities
async def test_a_pod_of_each_access_mode_runs_and_is_deleted_under_kopf_run(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    for api, namespace in ((home, workspace.home), (foreign, workspace.foreign)):
        await workspaces.allow_listing_pods(api, namespace=namespace)
    process = await start_farlet(node, way=farlet.Way.KOPF)
    for mode in MODES:
        wanted = realpods.pod(mode, "client-go", annotations={realpods.ACCESS: mode})
        await home.create("pods", realpods.bound(wanted, node), namespace=workspace.home)

    ended = await realpods.outputs(foreign, [(workspace.foreign, mode) for mode in MODES])
    seen = {mode: realpods.lines(out)[0] for mode, (_, out) in zip(MODES, ended, strict=True)}
    account = "system:serviceaccount:{}:default"
    assert seen["home"]["username"] == account.format(workspace.home)
    assert seen["remote"]["username"] == account.format(workspace.foreign)
    assert "unable to load in-cluster configuration" in seen["disabled"]["error"]
    for mode, phase in zip(MODES, ("Succeeded", "Succeeded", "Failed"), strict=True):
        pod = await home.until("pods", realpods.ENDED, name=mode, namespace=workspace.home)
        assert pod["status"]["phase"] == phase

    await asyncio.gather(
        *(home.delete("pods", name=mode, namespace=workspace.home) for mode in MODES)
    )
    for mode in MODES:
        await home.until("pods", rest.gone, name=mode, namespace=workspace.home)
        await foreign.until("pods", rest.gone, name=mode, namespace=workspace.foreign)
    assert await process.stop() == 0


async def test_a_second_ctrl_c_ends_kopf_run_without_a_traceback(
    node: str, start_farlet: StartFarlet
) -> None:
    process = await start_farlet(node, way=farlet.Way.KOPF)
    for _ in range(2):
        process.process.signal(signal.SIGINT)
        await asyncio.sleep(0.005)
    assert await asyncio.to_thread(process.process.wait, seconds=120) == 0
    assert "Traceback" not in process.log


async def test_an_invalid_setting_ends_kopf_run_with_one_line_that_names_it(
    node: str, start_farlet: StartFarlet
) -> None:
    process = await start_farlet(
        node,
        way=farlet.Way.KOPF,
        settings={"home-api-server-port": "lots"},
        ready=False,
    )
    assert await asyncio.to_thread(process.process.wait, seconds=120) == 2
    (line,) = process.log.splitlines()
    assert line.startswith(
        "farlet: --home-api-server-port (FARLET_HOME_API_SERVER_PORT): 'lots' is not "
    )
