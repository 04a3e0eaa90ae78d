"""`farlet explain` and `farlet status` on real clusters, with the credentials of administrators."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusters import kwok, pair, rest
from clusters import workspace as workspaces
from clusters.workspace import Workspace
from conftest import StartFarlet
from faults import manifests
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(30)]

SETTINGS = {"foreign-node-labels": kwok.LABEL}


async def _farlet(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "farlet"), *words]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_waiting_pod_is_explained_from_both_clusters_and_shown_in_the_status(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    farlet = await start_farlet(node, settings=SETTINGS)
    secret = {"name": "missing", "secret": {"secretName": "not-there"}}
    mounts = [{"name": "missing", "mountPath": "/missing"}]
    pod = realpods.pod(
        "web",
        annotations=manifests.access("disabled"),
        volumes=[secret],
        containers=[realpods.container("main", "sleep", "inf", volumeMounts=mounts)],
    )
    await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)
    await realpods.event(home, "web", namespace=workspace.home, reason="FailedMount")

    key = f"{workspace.home}/web"
    admin = ("--home-kubeconfig", str(clusters.home.kubeconfig))
    foreign = ("--foreign-kubeconfig", str(clusters.foreign.kubeconfig))
    names = ("--home-name", workspaces.HOME_NAME)
    found = await _explained(key, *admin, *foreign, *names)
    (needs,) = found["requirements"]
    assert (needs["kind"], needs["name"], needs["state"]) == ("Secret", "not-there", "missing")
    assert found["mirror"]["node"] == clusters.foreign.real_node
    assert {("FailedMount", "foreign"), ("Scheduled", "foreign")} <= {
        (one["reason"], one["cluster"]) for one in found["events"]
    }
    assert ("FailedMount", "home") not in {
        (one["reason"], one["cluster"]) for one in found["events"]
    }
    assert any("Create Secret not-there" in line for line in found["advice"])
    assert found["not_read"] == []
    shown = await _farlet("explain", key, *admin, *foreign, *names)
    assert shown.returncode == 0, shown.stderr
    assert "missing  Secret not-there" in shown.stdout

    # Only the foreign side, as farlet's own user: what it is not allowed to read is said.
    words = [str(word) for word in farlet.process.command]
    own = words[words.index("--foreign-kubeconfig") + 1]
    limited = await _explained(key, *admin, "--foreign-kubeconfig", own, *names)
    assert limited["mirror"]["pod"] == "web"

    status = await _farlet("status", "--nodename", node, *admin, "-o", "json")
    assert status.returncode == 0, status.stdout + status.stderr
    (one,) = json.loads(status.stdout)["nodes"]
    assert one["ready"]
    assert [pod["pod"] for pod in one["waiting_pods"]] == [key]
    assert one["leader"]
    assert "no pod in the namespace farlet leads" in one["not_read"][0]


async def _explained(*words: str) -> Any:
    answer = await _farlet("explain", *words, "-o", "json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)
