"""A watch through the gateway is idle for ten minutes, and then delivers an event.

In the meantime its token is replaced, because it expires; the client does not notice. The client's
sockets and home's audit log show that the connection stayed the same.
"""

import asyncio
import base64
import datetime
import time
from pathlib import Path

import pytest

from bench import report
from clusters import connections, gateway, pair, rest
from clusters import workspace as workspaces
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.soak]

IDLE_SECONDS = 640
LIFETIME = 600  # the shortest that an API server grants
WATCHER = "watcher"
RESULTS = Path(__file__).parents[2] / "docs" / "soak"


async def test_a_watch_that_is_idle_for_ten_minutes_delivers_on_the_same_connection(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    account = f"system:serviceaccount:{workspace.home}:default"
    async with gateway.installed(clusters) as made:
        farlet = await start_farlet(
            node, settings={**made.settings, "home-token-lifetime": str(LIFETIME)}
        )
        await made.linked()
        await workspaces.allow_listing_pods(home, namespace=workspace.home)
        mark = clusters.home.audit_mark()
        pod = realpods.pod(WATCHER, "kubectl", "get", "pods", "--watch", "--output=name")
        await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)
        await home.until("pods", rest.ready, name=WATCHER, namespace=workspace.home, seconds=180)
        mirror = await foreign.get("pods", name=WATCHER, namespace=workspace.foreign)
        address = (await made.address(), 443)

        def connected() -> set[int]:
            return connections.established(mirror["metadata"]["uid"], to=address)

        await _printed(foreign, workspace, f"pod/{WATCHER}\n")
        before, tokens = connected(), {await _token(foreign, workspace)}
        assert len(before) == 1
        began = time.monotonic()
        while time.monotonic() < began + IDLE_SECONDS:
            await asyncio.sleep(20)
            assert connected() == before
            tokens.add(await _token(foreign, workspace))

        silent = await foreign.logs(WATCHER, namespace=workspace.foreign)
        asked = time.monotonic()
        spec = {"schedulerName": "none", "containers": [{"name": "main", "image": "none"}]}
        late = {"metadata": {"name": "late"}, "spec": spec}
        await home.create("pods", late, namespace=workspace.home)
        printed = await _printed(foreign, workspace, "pod/late\n")
        took = time.monotonic() - asked
        assert printed.removeprefix(silent).count("\n") == 1
        assert connected() == before
        watches = clusters.home.audit(
            since=mark, user=account, verb="watch", stage="ResponseStarted"
        )
        assert len(list(watches)) == 1
        assert not list(clusters.home.audit(since=mark, user=account, verb="watch"))
        assert len(tokens) >= 2
        assert "farlet disconnected" not in await made.diagnostics()
        mib = farlet.usage().rss_bytes / 2**20
        _write(tokens=len(tokens), took=took, mib=mib)


async def _printed(foreign: rest.Api, workspace: Workspace, wanted: str) -> str:
    """The output of the watcher, once it contains `wanted`."""
    until = time.monotonic() + 60
    while wanted not in (output := await foreign.logs(WATCHER, namespace=workspace.foreign)):
        assert time.monotonic() < until, output
        await asyncio.sleep(0.05)
    return output


async def _token(foreign: rest.Api, workspace: Workspace) -> bytes:
    """The token that farlet delivered last."""
    (secret,) = await foreign.list("secrets", namespace=workspace.foreign)
    return base64.b64decode(secret["data"]["token"])


def _write(*, tokens: int, took: float, mib: float) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    machine = (
        f"`make soak` on {report.machine_text(report.machine())}; `kubectl get pods --watch` in a "
        "container on the real node of the foreign cluster, through a gateway pod and the "
        "port-forward of the foreign API server."
    )
    lines = [
        f"# Idle watch through the gateway, {today}",
        "",
        "Purpose: check that a watch through the gateway survives ten minutes without traffic.",
        "",
        machine,
        "",
        "| | |",
        "|---|---|",
        f"| time without an event | {IDLE_SECONDS / 60:.1f} minutes |",
        f"| tokens that the pod received in turn, each valid for {LIFETIME} s | {tokens} |",
        "| connections of the client, and watches in home's audit log | 1 and 1 |",
        f"| from the creation of a home pod until kubectl had printed it | {took:.2f} s |",
        f"| RSS of farlet at the end | {mib:.0f} MiB |",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{today}-gateway-idle.md").write_text("\n".join(lines) + "\n")
