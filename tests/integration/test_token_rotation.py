"""A client that never restarts keeps working while its home tokens are replaced.

API servers grant tokens for ten minutes or more, so half of a lifetime takes too long for a test.
A farlet that starts reads from an annotation of the mirror when a token was issued and when it
expires: older times there make the token due, and everything that follows is real. The soak test
shows the same without changed times.
"""

import asyncio
import base64
import datetime
import hashlib
import json
import time
from collections.abc import Callable

import pytest

from clusters import auditlog, pair, rest
from clusters import workspace as workspaces
from clusters.cluster import Cluster
from clusters.identity import Identity
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(130)]

POD = "watch"
LIFETIME = 600  # the shortest that an API server grants
REACHES_CONTAINER = 20.0
CLIENT_READS_AGAIN = 60.0  # as in the Python client
SLACK = 120.0


@pytest.mark.both_identities
async def test_a_running_client_gets_each_new_token_within_seconds_and_uses_it(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
    identity: Identity,
) -> None:
    farlet = await start_farlet(node, settings={"home-token-lifetime": str(LIFETIME)})
    await home.create(
        "pods",
        realpods.bound(realpods.pod(POD, "client-watch", "0.5"), node),
        namespace=workspace.home,
    )
    await home.until("pods", rest.ready, name=POD, namespace=workspace.home, seconds=180)
    (first, *_) = await _until_printed(
        foreign, workspace, lambda lines: len(lines) > 0, seconds=SLACK
    )
    tokens = [first["token_file"]]
    assert first["token_used"] == tokens[0]

    for _ in range(3):
        marks = clusters.home.audit_mark(), clusters.foreign.audit_mark()
        await _make_due(foreign, workspace)
        await farlet.restart()
        lines = await _until_printed(
            foreign, workspace, lambda lines: lines[-1]["token_file"] not in tokens, seconds=SLACK
        )
        tokens.append(lines[-1]["token_file"])
        assert tokens[-1] == await _token_in_secret(foreign, workspace)

        await asyncio.sleep(1)  # time in which an extra request would appear
        at_home = _writes(
            clusters.home, since=marks[0], user=identity.user(node), namespace=workspace.home
        )
        foreign_writes = _writes(
            clusters.foreign,
            since=marks[1],
            user=workspaces.USER,
            namespace=workspace.foreign,
        )
        assert [_what(one) for one in at_home] == ["create serviceaccounts/token"]
        assert [_what(one) for one in foreign_writes] == ["patch secrets", "patch pods"]
        seen = next(one for one in lines if one["token_file"] == tokens[-1])
        took = datetime.datetime.fromisoformat(seen["time"]) - foreign_writes[0].time
        print(f"the container saw the new token {took.total_seconds():.1f} s after the Secret")
        assert took.total_seconds() < REACHES_CONTAINER

    assert len(set(tokens)) == 4
    lines = await _until_printed(
        foreign,
        workspace,
        lambda lines: lines[-1]["token_used"] == tokens[-1],
        seconds=CLIENT_READS_AGAIN + SLACK,
    )
    account = f"system:serviceaccount:{workspace.home}:default"
    assert {(one["error"], one["username"]) for one in lines} == {(None, account)}
    running = await home.get("pods", name=POD, namespace=workspace.home)
    (container,) = running["status"]["containerStatuses"]
    assert container["restartCount"] == 0


@pytest.mark.soak
async def test_a_running_client_outlives_four_tokens(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings={"home-token-lifetime": str(LIFETIME)})
    await home.create(
        "pods",
        realpods.bound(realpods.pod(POD, "client-watch", "5"), node),
        namespace=workspace.home,
    )
    await home.until("pods", rest.ready, name=POD, namespace=workspace.home, seconds=180)
    await asyncio.sleep(4 * LIFETIME + 60)
    lines = await _until_printed(foreign, workspace, lambda lines: len(lines) > 0, seconds=SLACK)
    assert {one["error"] for one in lines} == {None}
    assert len({one["token_file"] for one in lines}) >= 8  # refreshed after half of their lifetime
    assert lines[-1]["token_used"] != lines[0]["token_used"]


async def _make_due(foreign: rest.Api, workspace: Workspace) -> None:
    """Change the mirror's annotation so that two thirds of its token's lifetime are over."""
    now = int(time.time())
    times = {"token": [now - 2 * LIFETIME // 3, now + LIFETIME // 3]}
    body = {"metadata": {"annotations": {realpods.TOKENS: json.dumps(times)}}}
    await foreign.patch("pods", body, name=POD, namespace=workspace.foreign)


async def _until_printed(
    foreign: rest.Api,
    workspace: Workspace,
    condition: Callable[[list[realpods.OutputLine]], bool],
    *,
    seconds: float,
) -> list[realpods.OutputLine]:
    """All lines of the client, once `condition` holds for them."""
    deadline = time.monotonic() + seconds
    while True:
        output = await foreign.logs(POD, namespace=workspace.foreign)
        lines = realpods.lines(output[: output.rfind("\n") + 1])
        if lines and condition(lines):
            return lines
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {lines[-3:]}"
        await asyncio.sleep(0.25)


async def _token_in_secret(foreign: rest.Api, workspace: Workspace) -> str:
    """The hash of the last delivered token, as the client prints it."""
    (secret,) = await foreign.list("secrets", namespace=workspace.foreign)
    token = base64.b64decode(secret["data"]["token"])
    payload = token.split(b".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    assert claims["exp"] - claims["iat"] == LIFETIME
    return hashlib.sha256(token).hexdigest()[:16]


def _writes(
    cluster: Cluster, *, since: auditlog.Mark, user: str, namespace: str
) -> list[auditlog.Entry]:
    """farlet's writes for pods, without heartbeats.

    And without Events: those of the foreign kubelet appear at home some time after they happened.
    """
    found = cluster.audit(since=since, user=user, namespace=namespace)
    reads = {"get", "list", "watch"}
    return [one for one in found if one.verb not in reads and one.resource != "events"]


def _what(entry: auditlog.Entry) -> str:
    resource = f"{entry.resource}/{entry.subresource}" if entry.subresource else entry.resource
    return f"{entry.verb} {resource}"
