"""The etcd of either cluster is restored from a backup while farlet runs.

All components of the restored cluster are restarted, as Kubernetes requires; farlet is not. Its
watches then continue from versions that the API server has not reached, which shows nothing.
"""

import asyncio
import secrets
from collections.abc import Iterator

import pytest

import lending
from clusters import backups, pair, rest
from clusters.cluster import Spec
from conftest import StartFarlet
from faults.environment import Environment

pytestmark = pytest.mark.clusters

WRITES = 400  # an API server writes at its start, too
_LATER = {"metadata": {"annotations": {"example.org/later": "yes"}}}
"""farlet sees the version of this write: between bookmarks, it does not see those of others."""
NOTICED_SECONDS = 120.0


@pytest.fixture(scope="module")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Clusters of their own: no other test may lose its objects."""
    both = pair.start(home=Spec("home"), foreign=Spec("foreign", number=2))
    with lending.lent(both, request.config):
        yield both


async def _write_much(api: rest.Api, namespace: str) -> None:
    name = f"count-{secrets.token_hex(3)}"
    await api.create("configmaps", {"metadata": {"name": name}}, namespace=namespace)
    for number in range(WRITES):
        body = {"data": {"number": str(number)}}
        await api.patch("configmaps", body, name=name, namespace=namespace)


async def _works(env: Environment, name: str) -> None:
    """A new pod runs, and ends when it is deleted."""
    await env.create(env.pod(name))
    await env.seen(name, rest.phase("Running"), seconds=NOTICED_SECONDS)
    await env.delete(name)
    await env.seen(name, rest.gone)


async def test_pods_lost_by_a_restore_of_the_foreign_cluster_are_replaced_or_failed(
    env: Environment, start_farlet: StartFarlet
) -> None:
    foreign = env.clusters.foreign
    farlet = await start_farlet(env.node)
    await env.create(env.pod("kept"))
    kept = (await env.settled()).mirrors[0]
    backup = await asyncio.to_thread(backups.take, foreign)
    await env.create(env.pod("once", restart="Never"), env.pod("again"))
    await env.settled()
    before = await env.mirror("again", rest.phase("Running"))
    await _write_much(env.foreign, env.workspace.foreign)
    await env.foreign.patch("pods", _LATER, name="kept", namespace=env.workspace.foreign)
    await asyncio.to_thread(backups.restore, foreign, backup)

    failed = await env.seen("once", rest.reason("MirrorLost"), seconds=NOTICED_SECONDS)
    assert failed["status"]["phase"] == "Failed"
    after = await env.mirror("again", rest.phase("Running"), seconds=NOTICED_SECONDS)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    now = await env.mirror("kept", rest.phase("Running"))
    assert now["metadata"]["uid"] == kept["metadata"]["uid"]
    await env.delete("once")
    await _works(env, "late")
    await env.settled()
    assert farlet.process.alive


async def test_mirrors_of_pods_that_a_restored_home_cluster_lacks_end(
    env: Environment, start_farlet: StartFarlet
) -> None:
    home = env.clusters.home
    farlet = await start_farlet(env.node)
    await env.create(env.pod("kept"), env.pod("back"))
    await env.settled()
    backup = await asyncio.to_thread(backups.take, home)
    await env.create(env.pod("lost"))
    await env.settled()
    await env.delete("back")
    await env.seen("back", rest.gone)
    await _write_much(env.home, env.workspace.home)
    await env.home.patch("nodes", _LATER, name=env.node)
    await env.home.patch("pods", _LATER, name="kept", namespace=env.workspace.home)
    await asyncio.to_thread(backups.restore, home, backup)

    await env.mirror("lost", rest.gone, seconds=NOTICED_SECONDS)
    await env.mirror("back", rest.phase("Running"), seconds=NOTICED_SECONDS)
    await env.seen("kept", rest.phase("Running"))
    await _works(env, "late")
    await env.settled()
    assert farlet.process.alive
