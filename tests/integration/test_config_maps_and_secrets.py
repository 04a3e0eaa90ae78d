"""ConfigMaps and Secrets that pods refer to, from the home cluster to a container and back.

Containers run on the real node; what only concerns copies uses fake nodes.
"""

import asyncio
import base64
import secrets as randomness
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from clusters import auditlog, kwok, pair, rest
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(120)]

KEPT = "farlet.io/keep-at-home"
HOME_NAME = "farlet.io/home-name"
SOON_SECONDS = 2.0
"""From a change at home until the copy has it, at most."""

PRINT = """
import json, os, pathlib
print(json.dumps({
    "variables": {k: os.environ.get(k) for k in ("MODE", "PASSWORD", "EXTRA", "PREFIX_mode")},
    "files": {
        str(path): path.read_bytes().hex()
        for path in sorted(pathlib.Path("/files").glob("*/[!.]*"))
    },
}))
"""


def reader() -> rest.Object:
    """A pod that prints what it gets of its ConfigMaps and Secrets."""
    mounts = [{"name": name, "mountPath": f"/files/{name}"} for name in ("config", "login", "both")]
    variable = {"name": "app", "key": "mode"}
    env = [
        {"name": "MODE", "valueFrom": {"configMapKeyRef": variable}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {
            "name": "EXTRA",
            "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}},
        },
    ]
    main = realpods.container("main", "python3", "-c", PRINT, env=env, volumeMounts=mounts)
    main["envFrom"] = [{"prefix": "PREFIX_", "configMapRef": {"name": "app"}}]
    return realpods.pod(
        "reader",
        containers=[main],
        imagePullSecrets=[{"name": "pull"}],
        volumes=[
            {"name": "config", "configMap": {"name": "app"}},
            {"name": "login", "secret": {"secretName": "login"}},
            {
                "name": "both",
                "projected": {
                    "sources": [
                        {"configMap": {"name": "app", "items": [{"key": "mode", "path": "m"}]}},
                        {"secret": {"name": "absent", "optional": True}},
                    ]
                },
            },
        ],
    )


def user(name: str, node: str, *, config_map: str = "app", optional: bool = False) -> rest.Object:
    """A pod of a fake node that refers to a ConfigMap."""
    reference = {"name": config_map, **({"optional": True} if optional else {})}
    wanted = realpods.pod(name, "true", nodeSelector={kwok.LABEL: "fake"}, restartPolicy="Always")
    wanted["spec"]["containers"][0]["envFrom"] = [{"configMapRef": reference}]
    return realpods.bound(wanted, node)


async def put(
    api: rest.Api, workspace: Workspace, name: str, *, kind: str = "configmaps", **fields: Any
) -> rest.Object:
    metadata = {"name": name, "labels": fields.pop("labels", {})}
    return await api.create(kind, {"metadata": metadata, **fields}, namespace=workspace.home)


async def copies(
    foreign: rest.Api, workspace: Workspace, kind: str = "configmaps"
) -> dict[str, Any]:
    """By the name of the home object."""
    found = await foreign.list(kind, namespace=workspace.foreign)
    return {
        one["metadata"]["annotations"][HOME_NAME]: one
        for one in found
        if "farlet.io/home-version" in one["metadata"].get("annotations", {})
    }


async def until(check: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_copies(foreign: rest.Api, workspace: Workspace, data: dict[str, Any]) -> None:
    """Until exactly these ConfigMaps have copies with this data."""

    async def as_expected() -> bool:
        found = await copies(foreign, workspace)
        return {name: one.get("data") for name, one in found.items()} == data

    await until(as_expected)


async def running(home: rest.Api, workspace: Workspace, name: str) -> rest.Object:
    return await home.until("pods", rest.phase("Running"), name=name, namespace=workspace.home)


async def delete(home: rest.Api, workspace: Workspace, *names: str) -> None:
    for name in names:
        await home.delete("pods", name=name, namespace=workspace.home)
    for name in names:
        await home.until("pods", rest.gone, name=name, namespace=workspace.home)


@pytest.mark.both_identities
async def test_a_container_reads_what_the_home_cluster_has(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    began = clusters.home.audit_mark()
    await put(home, workspace, "app", data={"mode": "fast"}, binaryData={"raw": "AP8="})
    secret = {"password": base64.b64encode(b"password").decode()}
    await put(home, workspace, "login", kind="secrets", data=secret, immutable=True)
    pull = {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()}
    await put(
        home, workspace, "pull", kind="secrets", data=pull, type="kubernetes.io/dockerconfigjson"
    )
    await start_farlet(node)

    await home.create("pods", realpods.bound(reader(), node), namespace=workspace.home)
    ended = await home.until(
        "pods", realpods.ENDED, name="reader", namespace=workspace.home, seconds=300
    )
    assert ended["status"]["phase"] == "Succeeded", ended["status"]
    (line,) = realpods.lines(await foreign.logs("reader", namespace=workspace.foreign))
    assert line == {
        "variables": {
            "MODE": "fast", "PASSWORD": "password", "EXTRA": None, "PREFIX_mode": "fast",
        },
        "files": {
            "/files/both/m": b"fast".hex(),
            "/files/config/mode": b"fast".hex(),
            "/files/config/raw": "00ff",
            "/files/login/password": b"password".hex(),
        },
    }  # fmt: skip

    # The pod has ended: the home API server lets its node read them no more.
    async def no_copy() -> bool:
        kinds = ("configmaps", "secrets")
        return not [name for kind in kinds for name in await copies(foreign, workspace, kind)]

    await until(no_copy)
    assert _secrets_read(clusters.home.audit(since=began, user_agent="farlet/"), workspace) == {
        "login", "pull", "absent",
    }  # fmt: skip


def _secrets_read(entries: Iterable[auditlog.Entry], workspace: Workspace) -> set[str]:
    """The names of Secrets of the home namespace that farlet asked for."""
    return {
        entry.name
        for entry in entries
        if entry.resource == "secrets" and entry.namespace == workspace.home
    }


async def test_copies_follow_the_home_objects_and_end_with_the_last_pod(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    farlet = await start_farlet(node)
    await put(home, workspace, "app", data={"mode": "1", "old": "x"})
    await home.create("pods", user("one", node), namespace=workspace.home)
    await running(home, workspace, "one")
    await until_copies(foreign, workspace, {"app": {"mode": "1", "old": "x"}})

    mark = clusters.foreign.audit_mark()
    await home.create("pods", user("two", node), namespace=workspace.home)
    await running(home, workspace, "two")
    of_copies = [
        entry
        for entry in clusters.foreign.audit(since=mark, user_agent="farlet/")
        if entry.resource == "configmaps"
        and entry.verb != "watch"
        and entry.namespace == workspace.foreign
    ]
    assert of_copies == [], "a further pod costs nothing"

    changed = {"data": {"mode": "2", "old": None}}
    await home.patch("configmaps", changed, name="app", namespace=workspace.home)
    began = time.monotonic()
    await until_copies(foreign, workspace, {"app": {"mode": "2"}})
    assert time.monotonic() - began < SOON_SECONDS

    farlet.kill()
    await home.patch("configmaps", {"data": {"mode": "3"}}, name="app", namespace=workspace.home)
    await farlet.restart()
    await until_copies(foreign, workspace, {"app": {"mode": "3"}})

    await home.delete("configmaps", name="app", namespace=workspace.home)
    await until_copies(foreign, workspace, {})
    for mode in ("4", "5"):  # the second one replaces an immutable one
        await put(home, workspace, "app", data={"mode": mode}, immutable=True)
        await until_copies(foreign, workspace, {"app": {"mode": mode}})
        if mode == "4":
            await home.delete("configmaps", name="app", namespace=workspace.home)

    await delete(home, workspace, "one")
    await asyncio.sleep(1)
    assert set(await copies(foreign, workspace)) == {"app"}, "another pod uses it"
    await delete(home, workspace, "two")
    await until_copies(foreign, workspace, {})


async def test_a_missing_object_is_waited_for_as_at_home(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node)
    env = [{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "mode"}}}]
    main = realpods.container("main", "bash", "-c", "echo $MODE", env=env)
    wanted = realpods.pod("early", containers=[main])
    await home.create("pods", realpods.bound(wanted, node), namespace=workspace.home)

    def reported(seen: rest.Object | None) -> bool:
        (status,) = (seen or {}).get("status", {}).get("containerStatuses", [{}])
        waiting = status.get("state", {}).get("waiting", {})
        return bool(waiting.get("message") == 'configmap "late" not found')

    await home.until("pods", reported, name="early", namespace=workspace.home, seconds=90)
    await put(home, workspace, "late", data={"mode": "arrived"})
    await home.until(
        "pods", rest.phase("Succeeded"), name="early", namespace=workspace.home, seconds=120
    )
    assert (await foreign.logs("early", namespace=workspace.foreign)).strip() == "arrived"


async def test_an_object_that_is_kept_at_home_never_leaves(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node)
    await put(home, workspace, "app", data={"mode": "1"}, labels={KEPT: "true"})
    await home.create("pods", user("waits", node), namespace=workspace.home)
    seen = await home.until(
        "pods", rest.reason("KeptAtHome"), name="waits", namespace=workspace.home
    )
    assert f"ConfigMap {workspace.home}/app" in seen["status"]["message"]
    assert await copies(foreign, workspace) == {}
    free = {"metadata": {"labels": {KEPT: None}}}
    await home.patch("configmaps", free, name="app", namespace=workspace.home)
    await running(home, workspace, "waits")


async def test_the_last_of_two_virtual_nodes_deletes_a_copy(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    other = f"virtual-{randomness.token_hex(3)}"
    farlets = [await start_farlet(node), await start_farlet(other)]
    await put(home, workspace, "app", data={"mode": "1"})
    for name, where in (("one", node), ("two", other)):
        await home.create("pods", user(name, where), namespace=workspace.home)
        await running(home, workspace, name)
    (copy,) = (await copies(foreign, workspace)).values()
    assert len(copy["metadata"]["labels"]) == 2
    for farlet in farlets:
        await farlet.restart()
    await home.patch("configmaps", {"data": {"mode": "2"}}, name="app", namespace=workspace.home)
    await until_copies(foreign, workspace, {"app": {"mode": "2"}})

    await delete(home, workspace, "one")

    async def unmarked() -> bool:
        return len((await copies(foreign, workspace))["app"]["metadata"]["labels"]) == 1

    await until(unmarked)
    await delete(home, workspace, "two")
    await until_copies(foreign, workspace, {})
    await home.delete("nodes", name=other)
