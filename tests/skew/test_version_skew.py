"""Clusters of different versions of Kubernetes: pods converge, and no field is lost silently."""

import datetime
from pathlib import Path

import pytest

import idling
from bench import report
from clusters import binaries, rest
from clusters import workspace as workspaces
from conftest import StartFarlet
from farlet.forge import dropped, fields, status_fields
from faults import manifests
from faults.environment import Environment
from integration import realpods
from skew import versions
from skew.versions import Skew

pytestmark = [pytest.mark.clusters, pytest.mark.skew]

IDLE_SECONDS = 60
RESULTS = Path(__file__).parents[2] / "docs" / "soak"
CORE = "io.k8s.api.core.v1."
POD_LEVEL = {
    "requests": {"cpu": "50m", "memory": "96Mi"},
    "limits": {"cpu": "500m", "memory": "128Mi"},
}
SIZES = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
RESIZED = {"requests": {"cpu": "5m"}, "limits": {"cpu": "150m"}}

PAGE = """\
# Version skew, {today}

Purpose: check that farlet works between clusters of different versions of Kubernetes.

`make skew` on {machine}. Each pair ran pods of
all access modes, one with a real client, one with pod-level resources, one resized in place, and
one with the newest fields that its home API server knows. All of them converged. *Dropped* are the
fields that the foreign API server did not keep; Events of the home pods named each of them.

| home | foreign | farlet's writes while idle | dropped |
|---|---|---|---|
"""


async def _schema(api: rest.Api, kind: str) -> set[str]:
    document = await api.request("GET", "/openapi/v3/api/v1")
    return set(document["components"]["schemas"][CORE + kind]["properties"])


async def test_the_tables_have_all_fields_of_both_versions(
    skew: Skew, home: rest.Api, foreign: rest.Api
) -> None:
    for api, minor in ((home, skew.home), (foreign, skew.foreign)):
        assert (await api.request("GET", "/version"))["gitVersion"].startswith(f"v{minor}.")
        assert await _schema(api, "PodSpec") <= fields.FIELDS.keys()
        assert await _schema(api, "PodStatus") <= status_fields.POD_STATUS.keys()
        assert await _schema(api, "ContainerStatus") <= status_fields.CONTAINER_STATUS.keys()
    if skew == Skew("1.35", "1.37"):
        both = await _schema(home, "PodSpec") | await _schema(foreign, "PodSpec")
        assert both == fields.FIELDS.keys()


async def test_pods_converge_and_then_farlet_writes_nothing(
    skew: Skew, env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node)
    await workspaces.allow_listing_pods(env.home, namespace=env.workspace.home)
    new = env.pod(
        "new",
        annotations=manifests.access("disabled"),
        spec={"automountServiceAccountToken": False, **versions.SPEC[skew.home]},
        container=versions.CONTAINER.get(skew.home),
    )
    client = realpods.pod("client", "client-go")
    await env.create(
        *(env.pod(mode, annotations=manifests.access(mode)) for mode in ("remote", "disabled")),
        env.pod("home"),
        env.pod("never", restart="Never"),
        env.pod("ends", restart="Never", annotations=manifests.finishing("Succeeded", after="1s")),
        new,
        env.pod("pod-level", on="real", spec={"resources": POD_LEVEL}),
        env.pod("resized", on="real", container={"resources": SIZES}),
        realpods.bound(client, env.node),
    )
    for name in ("remote", "disabled", "home", "never", "new", "pod-level", "resized"):
        await env.seen(name, rest.phase("Running"), seconds=240)
    for name in ("ends", "client"):
        await env.seen(name, rest.phase("Succeeded"), seconds=240)
    log = await env.foreign.logs("client", namespace=env.workspace.foreign)
    (line,) = realpods.lines(log)
    account = f"system:serviceaccount:{env.workspace.home}:default"
    assert (line["error"], line["username"]) == (None, account)

    await _nothing_is_lost_without_a_word(skew, env)
    await _statuses_of_resources_agree(env)
    await _a_resize_in_the_foreign_cluster_is_reflected(env)

    seen, idle = await idling.requests(env, seconds=IDLE_SECONDS)
    assert idling.writes(seen) == {}
    observed = await env.settled()
    await env.delete(*manifests.names(observed.pods))
    for name in manifests.names(observed.pods):
        await env.seen(name, rest.gone)
        await env.mirror(name, rest.gone)
    lines = [one for one in farlet.log.splitlines() if '"level": "error"' in one]
    assert lines == []
    _write(skew, idle=idle)


async def _nothing_is_lost_without_a_word(skew: Skew, env: Environment) -> None:
    """What of the newest fields does not reach the mirror is named in an Event."""
    home = await env.home.get("pods", name="new", namespace=env.workspace.home)
    mirror = await env.foreign.get("pods", name="new", namespace=env.workspace.foreign)
    lost = set(dropped.dropped(home["spec"], mirror["spec"], "spec"))
    by_farlet = versions.BY_FARLET.get(skew.home, set())
    by_server = versions.BY_SERVER.get(skew, set())
    assert lost == by_farlet | by_server
    for reason, paths in (("SpecAdjusted", by_farlet), ("SpecFieldsDropped", by_server)):
        if paths:
            event = await realpods.event(
                env.home, "new", namespace=env.workspace.home, reason=reason
            )
            assert all(path in event["message"] for path in paths), event["message"]
    found = await env.home.list(
        "events", namespace=env.workspace.home, fieldSelector="reason=SpecFieldsDropped"
    )
    others = [one for one in found if not by_server or one["involvedObject"]["name"] != "new"]
    assert [one["message"] for one in others] == []


async def _statuses_of_resources_agree(env: Environment) -> None:
    """Home shows the resources in force, as far as its version knows the fields."""
    known = await _schema(env.home, "PodStatus")

    def agree(home: rest.Object | None) -> bool:
        assert home is not None
        shown = {k: home["status"].get(k) for k in ("resources", "allocatedResources")}
        return shown == {k: mirror["status"].get(k) if k in known else None for k in shown}

    mirror = await env.mirror("pod-level", rest.ready)
    assert mirror["spec"]["resources"] == POD_LEVEL
    await env.seen("pod-level", agree, seconds=30)


async def _a_resize_in_the_foreign_cluster_is_reflected(env: Environment) -> None:
    await env.foreign.patch(
        "pods",
        {"spec": {"containers": [{"name": "main", "resources": RESIZED}]}},
        name="resized",
        namespace=env.workspace.foreign,
        subresource="resize",
        kind="strategic",
    )

    def in_force(seen: rest.Object | None) -> bool:
        assert seen is not None
        (status,) = seen["status"]["containerStatuses"]
        return bool(status.get("resources", {}).get("limits", {}).get("cpu") == "150m")

    await env.mirror("resized", in_force)
    await env.seen("resized", in_force, seconds=30)


def _write(skew: Skew, *, idle: float) -> None:
    """Add this pair to the page of today."""
    today = datetime.datetime.now(datetime.UTC).date()
    page = RESULTS / f"{today}-version-skew.md"
    old = page.read_text().splitlines() if page.exists() else []
    home, foreign = (_version(minor) for minor in (skew.home, skew.foreign))
    start = f"| {home} | {foreign} |"
    rows = {line for line in old if line.startswith("| v1.") and not line.startswith(start)}
    lost = sorted(versions.BY_SERVER.get(skew, ()))
    rows.add(f"{start} 0 in {idle:.0f} s | {', '.join(f'`{path}`' for path in lost) or 'none'} |")
    text = PAGE.format(today=today, machine=report.machine_text(report.machine()))
    page.write_text(text + "".join(f"{row}\n" for row in sorted(rows)))


def _version(minor: str) -> str:
    return binaries.OTHERS.get(minor, binaries.KUBERNETES)
