"""How farlet starts, refuses to start, waits for what is not there yet, and stops."""

import asyncio
import dataclasses
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import pytest
import yaml

from clusters import farlet as farlets
from clusters import pair, ports, rest
from clusters import workspace as workspaces
from conftest import StartFarlet
from faults import manifests, proxy
from faults.stage import Stage

pytestmark = pytest.mark.clusters

ENDS_SECONDS = 90.0
SOON_SECONDS = 18.0  # sooner than what has begun is given up (--shutdown-grace)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """Flags that are wrong (a function of a folder and the clusters), and what is said of it."""

    flags: Callable[[Path, pair.Clusters], Mapping[str, str]]
    code: int
    told: tuple[str, ...]


def _file(folder: Path, content: str) -> str:
    path = folder / "wrong.kubeconfig"
    path.write_text(content)
    return str(path)


def _edited(folder: Path, original: Path, **user: str) -> str:
    """The same kubeconfig with another user."""
    content = yaml.safe_load(original.read_text())
    content["users"][0]["user"] = user
    return _file(folder, json.dumps(content))


def _busy(folder: Path, clusters: pair.Clusters) -> Mapping[str, str]:
    host, port = clusters.home.address
    return {"metrics-bind-address": f"{host}:{port}"}


WRONG = {
    "a kubeconfig that is not there": Wrong(
        lambda folder, _: {"foreign-kubeconfig": str(folder / "none")},
        2,
        ("--foreign-kubeconfig", "No such file"),
    ),
    "a home kubeconfig that is not there": Wrong(
        lambda folder, _: {"home-kubeconfig": str(folder / "none")},
        2,
        ("--home-kubeconfig", "No such file"),
    ),
    "a kubeconfig of garbage": Wrong(
        lambda folder, _: {"foreign-kubeconfig": _file(folder, "}{ no yaml")},
        1,
        ("foreign", "wrong.kubeconfig", "--foreign-kubeconfig"),
    ),
    "a kubeconfig that is some other YAML": Wrong(
        lambda folder, _: {"home-kubeconfig": _file(folder, "- 1\n- 2\n")},
        1,
        ("home", "wrong.kubeconfig", "--home-kubeconfig"),
    ),
    "an empty kubeconfig": Wrong(
        lambda folder, _: {"foreign-kubeconfig": _file(folder, "")},
        1,
        ("foreign", "wrong.kubeconfig"),
    ),
    "a context that is not in it": Wrong(
        lambda _, clusters: {"foreign-context": "nowhere"}, 1, ("nowhere", "foreign")
    ),
    "a home token that is not valid": Wrong(
        lambda folder, clusters: {
            "home-kubeconfig": _edited(folder, clusters.home.kubeconfig, token="wrong")
        },
        1,
        ("home", "401"),
    ),
    "a foreign token that is not valid": Wrong(
        lambda folder, clusters: {
            "foreign-kubeconfig": _edited(folder, clusters.foreign.kubeconfig, token="wrong")
        },
        1,
        ("foreign", "401"),
    ),
    "a foreign user without rights": Wrong(
        lambda _, clusters: {"foreign-kubeconfig": str(clusters.foreign.login("nobody"))},
        1,
        ("foreign", "farlet", "manifests/foreign", "--foreign-system-namespace"),
    ),
    "the same credentials for both": Wrong(
        lambda _, clusters: {
            "home-kubeconfig": str(clusters.home.kubeconfig),
            "foreign-kubeconfig": str(clusters.home.kubeconfig),
        },
        2,
        ("--foreign-kubeconfig", "same"),
    ),
    "a node name that is none": Wrong(
        lambda *_: {"nodename": "Not_A_Name"}, 2, ("--nodename", "Not_A_Name")
    ),
    "a busy port": Wrong(_busy, 1, ("metrics-bind-address", "another process listens")),
    "half a pair of namespaces": Wrong(
        lambda *_: {"namespace-map": "alone"}, 2, ("--namespace-map", "HOME=FOREIGN")
    ),
    "two pairs into one namespace": Wrong(
        lambda *_: {"namespace-map": "a=x,b=x"}, 2, ("--namespace-map", "one pair only")
    ),
    "a pair into farlet's own namespace": Wrong(
        lambda *_: {"namespace-map": f"a={workspaces.FARLET_NAMESPACE}"}, 2, ("--namespace-map",)
    ),
    "an unknown flag": Wrong(lambda *_: {"home-kubconfig": "x"}, 2, ("--home-kubconfig",)),
    "a URL for a host": Wrong(
        lambda *_: {"home-api-server-host": "https://home"}, 2, ("--home-api-server-host", "URL")
    ),
    "a host with a port": Wrong(
        lambda *_: {"home-api-server-host": "10.0.0.1:6443"},
        2,
        ("--home-api-server-host", "--home-api-server-port"),
    ),
    "a port that is none": Wrong(
        lambda *_: {"home-api-server-port": "65536"}, 2, ("--home-api-server-port", "65535")
    ),
    "a file of certificates that holds none": Wrong(
        lambda folder, _: {"home-api-server-ca-file": _file(folder, "nothing")},
        2,
        ("--home-api-server-ca-file", "no PEM certificate"),
    ),
}


@pytest.mark.parametrize("wrong", [pytest.param(wrong, id=name) for name, wrong in WRONG.items()])
async def test_a_wrong_start_ends_with_one_line_that_says_what_is_wrong(
    clusters: pair.Clusters, foreign: rest.Api, tmp_path: Path, wrong: Wrong
) -> None:
    await workspaces.create_farlet_namespace(foreign)
    settings = dict(wrong.flags(tmp_path, clusters))
    made = farlets.create(
        clusters, node="virtual-wrong", settings={**settings, "log-level": "error"}
    )
    try:
        answer = await asyncio.to_thread(
            subprocess.run,
            made.process.command,
            capture_output=True,
            text=True,
            timeout=ENDS_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"farlet goes on: {error.stderr!r}") from None
    assert answer.returncode == wrong.code, answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    for words in wrong.told:
        assert words in last, answer.stderr


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
@pytest.mark.parametrize("way", farlets.Way, ids=lambda way: way.name)
async def test_a_signal_ends_farlet_in_order_and_mirrors_stay(
    stage: Stage, start_farlet: StartFarlet, way: farlets.Way, sign: signal.Signals
) -> None:
    farlet = await start_farlet(stage.node, way=way)
    await stage.create(stage.pod("stays", restart="Never"))
    before = await stage.settled()
    farlet.process.signal(sign)
    assert await asyncio.to_thread(farlet.process.wait, seconds=SOON_SECONDS) == 0
    assert "Traceback" not in farlet.log
    after = await stage.sight()
    assert [manifests.uid(one) for one in after.mirrors] == [
        manifests.uid(one) for one in before.mirrors
    ]


@pytest.mark.parametrize("side", ["home", "foreign"])
async def test_an_api_server_that_is_not_there_at_the_start_is_waited_for(
    stage: Stage, start_farlet: StartFarlet, side: str
) -> None:
    cluster = getattr(stage.clusters, side)
    login = (
        stage.identity.login(cluster, stage.node)
        if side == "home"
        else cluster.login(workspaces.USER)
    )
    (port,) = ports.free(1)
    door = proxy.Proxy(cluster, port=port)
    farlet = await start_farlet(
        stage.node,
        home_login=door.login(login) if side == "home" else None,
        foreign_login=door.login(login) if side == "foreign" else None,
        ready=False,
    )
    await stage.create(stage.pod("waits"))
    code, text = await _readyz(farlet)
    assert code == 500
    assert f"{side} API server" in text
    if side == "foreign":
        waiting = await stage.seen("waits", rest.reason("ForeignUnreachable"))
        assert "farlet keeps trying" in waiting["status"]["message"]
    async with door:
        await farlet.ready()
        await stage.seen("waits", rest.phase("Running"))
        await stage.settled()
        assert (await _readyz(farlet))[0] == 200
        await farlet.stop()


async def test_a_stop_while_farlet_waits_for_home_is_obeyed(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    door = proxy.Proxy(stage.clusters.home)  # never opened
    login = stage.identity.login(stage.clusters.home, stage.node)
    farlet = await start_farlet(stage.node, home_login=door.login(login), ready=False)
    assert (await _readyz(farlet))[0] == 500
    assert await farlet.stop() == 0


async def _readyz(farlet: farlets.Farlet) -> tuple[int, str]:
    """Code and text, once anybody answers and the first attempt has failed or gone well."""
    deadline = time.monotonic() + ENDS_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://{farlet.health_address}/readyz?verbose") as answer:
                    text = await answer.text()
                    if answer.status == 200 or "API server" in text:
                        return answer.status, text
            except aiohttp.ClientError:
                text = "nobody answers"
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.1)


# --- the address of the home API -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("preflight", "runs"),
    [pytest.param("warn", True, id="warns"), pytest.param("require", False, id="waits")],
)
async def test_an_address_that_farlet_cannot_reach_itself(
    stage: Stage, start_farlet: StartFarlet, preflight: str, runs: bool
) -> None:
    (nobody,) = ports.free(1)
    farlet = await start_farlet(
        stage.node,
        settings={
            "home-api-server-host": "127.0.0.1",
            "home-api-server-port": str(nobody),
            "home-api-preflight": preflight,
        },
    )
    await stage.create(stage.pod("one"))
    if runs:
        seen = await stage.seen("one", rest.phase("Running"))
        conditions = {one["type"]: one for one in seen["status"]["conditions"]}
        assert conditions["farlet.io/HomeAPIVerified"]["status"] == "False"
        assert conditions["farlet.io/HomeAPIVerified"]["reason"] == "HomeAPIUnverified"
        assert "home API address was not verified" in farlet.log
    else:
        waiting = await stage.seen("one", rest.reason("HomeAPIUnverified"))
        assert f"127.0.0.1:{nobody}" in waiting["status"]["message"]
        assert "--home-api-preflight" in waiting["status"]["message"]
        assert (await stage.sight()).mirrors == []
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", nobody)) != 0


async def test_pods_that_want_home_wait_where_nothing_was_said_of_its_address(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(
        stage.node, settings={"home-api-server-host": None, "home-api-server-port": None}
    )
    await stage.create(
        stage.pod("home"), stage.pod("disabled", annotations=manifests.access("disabled"))
    )
    waiting = await stage.seen("home", rest.reason("HomeAPINotConfigured"))
    assert "--home-api-server-host" in waiting["status"]["message"]
    await stage.seen("disabled", rest.phase("Running"))
