"""How farlet starts, refuses to start, waits for API servers, and stops."""

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
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.takes(170)]

ENDS_SECONDS = 90.0
SOON_SECONDS = 18.0  # less than --shutdown-grace-period


@dataclasses.dataclass(frozen=True)
class Wrong:
    """Invalid flags (a function of a folder and the clusters), and the expected error."""

    flags: Callable[[Path, pair.Clusters], Mapping[str, str]]
    code: int
    expected: tuple[str, ...]


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
    "a missing kubeconfig": Wrong(
        lambda folder, _: {"foreign-kubeconfig": str(folder / "none")},
        2,
        ("--foreign-kubeconfig", "No such file"),
    ),
    "a missing home kubeconfig": Wrong(
        lambda folder, _: {"home-kubeconfig": str(folder / "none")},
        2,
        ("--home-kubeconfig", "No such file"),
    ),
    "a kubeconfig of garbage": Wrong(
        lambda folder, _: {"foreign-kubeconfig": _file(folder, "}{ no yaml")},
        1,
        ("foreign", "wrong.kubeconfig", "--foreign-kubeconfig"),
    ),
    "a YAML file that is not a kubeconfig": Wrong(
        lambda folder, _: {"home-kubeconfig": _file(folder, "- 1\n- 2\n")},
        1,
        ("home", "wrong.kubeconfig", "--home-kubeconfig"),
    ),
    "an empty kubeconfig": Wrong(
        lambda folder, _: {"foreign-kubeconfig": _file(folder, "")},
        1,
        ("foreign", "wrong.kubeconfig"),
    ),
    "an unknown context": Wrong(
        lambda _, clusters: {"foreign-context": "nowhere"}, 1, ("nowhere", "foreign")
    ),
    "an invalid home token": Wrong(
        lambda folder, clusters: {
            "home-kubeconfig": _edited(folder, clusters.home.kubeconfig, token="wrong")
        },
        1,
        ("home", "401"),
    ),
    "an invalid foreign token": Wrong(
        lambda folder, clusters: {
            "foreign-kubeconfig": _edited(folder, clusters.foreign.kubeconfig, token="wrong")
        },
        1,
        ("foreign", "401"),
    ),
    "a foreign user without permissions": Wrong(
        lambda _, clusters: {"foreign-kubeconfig": str(clusters.foreign.login("no-permissions"))},
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
    "an invalid node name": Wrong(
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
    "an invalid port": Wrong(
        lambda *_: {"home-api-server-port": "65536"}, 2, ("--home-api-server-port", "65535")
    ),
    "a CA file without certificates": Wrong(
        lambda folder, _: {"home-api-server-ca-file": _file(folder, "nothing")},
        2,
        ("--home-api-server-ca-file", "no PEM certificate"),
    ),
}


@pytest.mark.parametrize("wrong", [pytest.param(wrong, id=name) for name, wrong in WRONG.items()])
async def test_an_invalid_start_ends_with_one_line_that_names_the_problem(
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
        raise AssertionError(f"farlet did not exit: {error.stderr!r}") from None
    assert answer.returncode == wrong.code, answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    for words in wrong.expected:
        assert words in last, answer.stderr


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
@pytest.mark.parametrize("way", farlets.Way, ids=lambda way: way.name)
async def test_a_signal_ends_farlet_gracefully_and_mirrors_stay(
    env: Environment, start_farlet: StartFarlet, way: farlets.Way, sign: signal.Signals
) -> None:
    farlet = await start_farlet(env.node, way=way)
    await env.create(env.pod("stays", restart="Never"))
    before = await env.settled()
    farlet.process.signal(sign)
    assert await asyncio.to_thread(farlet.process.wait, seconds=SOON_SECONDS) == 0
    assert "Traceback" not in farlet.log
    after = await env.observe()
    assert [manifests.uid(one) for one in after.mirrors] == [
        manifests.uid(one) for one in before.mirrors
    ]


@pytest.mark.parametrize("side", ["home", "foreign"])
async def test_farlet_waits_for_an_api_server_that_is_down_at_the_start(
    env: Environment, start_farlet: StartFarlet, side: str
) -> None:
    cluster = getattr(env.clusters, side)
    login = (
        env.identity.login(cluster, env.node) if side == "home" else cluster.login(workspaces.USER)
    )
    (port,) = ports.free(1)
    fault_proxy = proxy.Proxy(cluster, port=port)
    farlet = await start_farlet(
        env.node,
        home_login=fault_proxy.login(login) if side == "home" else None,
        foreign_login=fault_proxy.login(login) if side == "foreign" else None,
        ready=False,
    )
    await env.create(env.pod("waits"))
    code, text = await _readyz(farlet)
    assert code == 500
    assert f"{side} API server" in text
    if side == "foreign":
        waiting = await env.seen("waits", rest.reason("ForeignUnreachable"))
        assert "farlet keeps trying" in waiting["status"]["message"]
    async with fault_proxy:
        await farlet.ready()
        await env.seen("waits", rest.phase("Running"))
        await env.settled()
        assert (await _readyz(farlet))[0] == 200
        await farlet.stop()


async def test_farlet_can_be_stopped_while_it_waits_for_the_home_api_server(
    env: Environment, start_farlet: StartFarlet
) -> None:
    fault_proxy = proxy.Proxy(env.clusters.home)  # never opened
    login = env.identity.login(env.clusters.home, env.node)
    farlet = await start_farlet(env.node, home_login=fault_proxy.login(login), ready=False)
    assert (await _readyz(farlet))[0] == 500
    assert await farlet.stop() == 0


async def _readyz(farlet: farlets.Farlet) -> tuple[int, str]:
    """Code and text of the probe, once it responds and the first attempt has finished."""
    deadline = time.monotonic() + ENDS_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://{farlet.health_address}/readyz?verbose") as answer:
                    text = await answer.text()
                    if answer.status == 200 or "API server" in text:
                        return answer.status, text
            except aiohttp.ClientError:
                text = "no response"
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.1)


# --- the address of the home API -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("preflight", "runs"),
    [pytest.param("warn", True, id="warns"), pytest.param("require", False, id="waits")],
)
async def test_an_address_that_farlet_itself_cannot_reach_is_used_with_a_warning(
    env: Environment, start_farlet: StartFarlet, preflight: str, runs: bool
) -> None:
    (closed,) = ports.free(1)
    farlet = await start_farlet(
        env.node,
        settings={
            "home-api-server-host": "127.0.0.1",
            "home-api-server-port": str(closed),
            "home-api-preflight": preflight,
        },
    )
    await env.create(env.pod("one"))
    if runs:
        seen = await env.seen("one", rest.phase("Running"))
        conditions = {one["type"]: one for one in seen["status"]["conditions"]}
        assert conditions["farlet.io/HomeAPIVerified"]["status"] == "False"
        assert conditions["farlet.io/HomeAPIVerified"]["reason"] == "HomeAPIUnverified"
        assert "failed to verify home API address for pods" in farlet.log
    else:
        waiting = await env.seen("one", rest.reason("HomeAPIUnverified"))
        assert f"127.0.0.1:{closed}" in waiting["status"]["message"]
        assert "--home-api-preflight" in waiting["status"]["message"]
        assert (await env.observe()).mirrors == []
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", closed)) != 0


async def test_pods_of_mode_home_wait_if_no_address_is_configured(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(
        env.node, settings={"home-api-server-host": None, "home-api-server-port": None}
    )
    await env.create(env.pod("home"), env.pod("disabled", annotations=manifests.access("disabled")))
    waiting = await env.seen("home", rest.reason("HomeAPINotConfigured"))
    assert "--home-api-server-host" in waiting["status"]["message"]
    await env.seen("disabled", rest.phase("Running"))
