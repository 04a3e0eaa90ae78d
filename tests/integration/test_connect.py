"""`farlet connect` and `farlet disconnect` with the real image, between two real clusters.

One scenario, as administrators live it: connect, killed on its way and continued; a pod that
reaches the home API server through the gateway; a second virtual node, as a ServiceAccount; the
first one removed; the last one removed, killed on its way and continued. Then both clusters are as
they were before.
"""

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from clusters import farletimage, pair, rest
from clusters import workspace as workspaces
from integration import emptied, everything, realpods
from integration.emptied import SPACE

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.takes(350),
]

FOREIGN_SPACE = "shop-home"
KILLED = -9
STAYS = "stays"


@dataclasses.dataclass(frozen=True)
class Administrator:
    """Who runs the commands, with access to both clusters."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api

    async def connect(self, node: str, *flags: str, until: str = "") -> str:
        """Run it, or kill it once it has printed `until`. Returns what it printed."""
        host, port = self.clusters.foreign_api_in_home
        server = f"--foreign-server=https://{host}:{port}"
        image = f"--image={farletimage.NAME}"
        return await self._run("connect", node, server, image, f"-n{SPACE}", *flags, until=until)

    async def connect_again(self, node: str, *flags: str, code: int = 0) -> str:
        """Run it with these flags only, as a text of farlet advises it."""
        return await self._run("connect", node, *flags, until="", code=code)

    async def disconnect(self, node: str, *, until: str = "") -> str:
        """The same for `farlet disconnect`, with pods that no controller creates again."""
        return await self._run("disconnect", node, "--force", until=until)

    async def apply_dry_run(self, node: str) -> None:
        """Let both API servers judge what `--dry-run` prints, as a GitOps tool would apply it."""
        for cluster in (self.clusters.home, self.clusters.foreign):
            arguments = [f"--image={farletimage.NAME}", f"-n{SPACE}", f"--dry-run={cluster.name}"]
            printed = await self._run("connect", node, *arguments, until="")
            apply = ("apply", "--server-side", "--dry-run=server", "-f", "-")
            fields = ("--field-manager=gitops", "--force-conflicts")
            await asyncio.to_thread(cluster.kubectl, *apply, *fields, content=printed)

    async def check(self, node: str, namespace: str, *, code: int) -> dict[str, dict[str, str]]:
        """What `farlet check` finds, by check."""
        flags = (f"-n{namespace}", "-o", "json")
        printed = await self._run("check", node, *flags, until="", code=code)
        return {one["what"]: one for one in json.loads(printed)["checks"]}

    async def _run(
        self, command: str, node: str, *arguments: str, until: str, code: int = 0
    ) -> str:
        files = [
            f"--{side}-kubeconfig={cluster.kubeconfig}"
            for side, cluster in (("home", self.clusters.home), ("foreign", self.clusters.foreign))
        ]
        if command != "check":
            arguments = ("--timeout=4m", *arguments)
        program = str(Path(sys.executable).parent / "farlet")
        process = await asyncio.create_subprocess_exec(
            *(program, command, f"--node={node}", *files, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        printed = ""
        async for line in process.stdout:
            printed += line.decode()
            if until and until in printed:
                process.kill()
        ended = await process.wait()
        print(printed)
        assert ended == (KILLED if until else code), printed
        return printed


@pytest_asyncio.fixture(loop_scope="module")
async def administrator(clusters: pair.Clusters) -> AsyncIterator[Administrator]:
    async with emptied.emptied(clusters) as (home, foreign):
        await home.create("namespaces", {"metadata": {"name": SPACE}})
        await home.until("serviceaccounts", rest.exists, name="default", namespace=SPACE)
        await home.until("configmaps", rest.exists, name="kube-root-ca.crt", namespace=SPACE)
        await workspaces.allow_listing_pods(home, namespace=SPACE)
        yield Administrator(clusters, home, foreign)


async def test_both_clusters_are_as_before_once_the_last_node_is_disconnected(
    administrator: Administrator,
) -> None:
    home, foreign = administrator.home, administrator.foreign
    before = await everything.listed(home), await everything.listed(foreign)
    without_far = await _names(home, "far"), await _names(foreign, "far")

    await administrator.connect("far", until="[5/9]")
    printed = await administrator.connect("far")
    assert "keys reused" in printed
    assert "approved the client certificate of far" in printed
    assert "run hello -n shop" in printed

    line = await _run_client(administrator, "far")
    assert line["username"] == f"system:serviceaccount:{SPACE}:default"
    assert line["error"] is None

    await administrator.apply_dry_run("far")
    await _is_checked_by_its_own_identity(administrator)
    await _leaves_and_gets_back_its_foreign_server(administrator)

    await administrator.connect("near", "--identity=service-account")
    with_near = await _names(home, "near"), await _names(foreign, "near")
    await home.create(
        "pods", realpods.bound(realpods.pod(STAYS, "client-watch", "3600"), "far"), namespace=SPACE
    )
    await home.until("pods", rest.phase("Running"), name=STAYS, namespace=SPACE)

    printed = await administrator.disconnect("far")
    (bare,) = (line for line in printed.splitlines() if "deletes" in line)
    assert f"{SPACE}/{STAYS}" in bare
    assert "the client certificate of system:node:far, valid until" in printed
    assert await foreign.find("pods", name=STAYS, namespace=FOREIGN_SPACE) is None
    assert (await _names(home, "near"), await _names(foreign, "near")) == with_near
    assert (await _names(home, "far"), await _names(foreign, "far")) == without_far
    line = await _run_client(administrator, "near")
    assert line["error"] is None

    await administrator.disconnect("near", until="[3/8]")
    printed = await administrator.disconnect("near")
    assert "[8/8] manager: deleted" in printed
    await everything.until_as(home, before[0])
    await everything.until_as(foreign, before[1])


async def _is_checked_by_its_own_identity(administrator: Administrator) -> None:
    """In a foreign namespace without the Role, the administrator has all permissions."""
    account = "system:serviceaccount:farlet-far:farlet"
    found = await administrator.check("far", SPACE, code=0)
    assert found["foreign credentials"]["seen"] == f"a token of {account}"
    assert "reviewed for system:node:far" in found["home permissions"]["seen"]
    assert found["VirtualNode Ready"]["outcome"] == "ok"
    await administrator.foreign.create("namespaces", {"metadata": {"name": "kube-public-home"}})
    found = await administrator.check("far", "kube-public", code=1)
    wrong = {what for what, one in found.items() if one["outcome"] == "failed"}
    assert wrong == {"foreign namespace of kube-public"}
    seen = found["foreign namespace of kube-public"]["seen"]
    assert seen.startswith(f"kube-public-home: {account} is not allowed to get, list, watch")
    await administrator.foreign.delete("namespaces", name="kube-public-home")


async def _leaves_and_gets_back_its_foreign_server(administrator: Administrator) -> None:
    host, port = administrator.clusters.foreign_api_in_home
    wrong, right = f"--foreign-server=https://{host}:1", f"--foreign-server=https://{host}:{port}"
    printed = await administrator.connect_again("far", wrong, "--timeout=10s", code=1)
    assert f"(now https://{host}:1; before https://{host}:{port})" in printed
    printed = await administrator.connect_again("far", right)
    assert "ready: pods of the node far run in the foreign cluster" in printed
    printed = await administrator.connect_again("far", f"-n{SPACE}")
    assert f"keeps, from the last run: --foreign-server https://{host}:{port}" in printed
    assert "reused" in printed
    found = await administrator.check("far", SPACE, code=0)
    assert found["VirtualNode Ready"]["outcome"] == "ok"


async def _run_client(administrator: Administrator, node: str) -> realpods.OutputLine:
    """What a client in a pod of the node prints about the API that it reaches."""
    wanted = realpods.bound(realpods.pod(f"client-{node}", "client-go"), node)
    await administrator.home.create("pods", wanted, namespace=SPACE)
    where = [(FOREIGN_SPACE, f"client-{node}")]
    ((_, output),) = await realpods.outputs(administrator.foreign, where, seconds=90)
    (line,) = realpods.lines(output)
    return line


async def _names(api: rest.Api, node: str) -> set[tuple[str, str, str]]:
    """The objects of a node: it is part of their name or namespace."""
    found = await everything.listed(api)
    mark = f"farlet-{node}"
    return {key for key in found if key[2] == node or mark in key[1] or mark in key[2]}
