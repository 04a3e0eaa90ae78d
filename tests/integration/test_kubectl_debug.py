"""`kubectl debug` on a pod of the virtual node: ephemeral containers on a real kubelet."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from clusters import images, rest
from clusters.kubectl import Kubectl
from conftest import StartFarlet
from faults.environment import Environment
from integration import realpods, streaming
from integration.streaming import Far

pytestmark = [pytest.mark.clusters, pytest.mark.takes(90)]

SHELL = ("bash", "--norc", "--noediting")
REJECTED = "EphemeralContainerRejected"
CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the level `restricted` requires of a container, beside the user of the pod."""
SYS_PTRACE = 1 << 19


async def test_debugging_is_as_at_home(far: Far, foreign: rest.Api, tmp_path: Path) -> None:
    """A shell beside the program, a second container, and two that are not allowed."""
    data = {"metadata": {"name": "app"}, "data": {"mode": "1"}}
    await far.home.create("configmaps", data, namespace=far.workspace.home)
    await far.pod("web")
    custom = tmp_path / "custom.json"
    custom.write_text(json.dumps({"envFrom": [{"configMapRef": {"name": "app"}}]}))
    async with far.kubectl().on_terminal(
        *_debug("shell", "-it", "--target=main", "--profile=baseline", f"--custom={custom}"),
        *("--", *SHELL),
    ) as terminal:
        terminal.type("echo [$(hostname)] [$mode] [$KUBERNETES_SERVICE_HOST]\n")
        await terminal.shows(r"\[web\] \[1\] \[\]")
        terminal.type("tr '\\0' ' ' < /proc/1/cmdline\n")
        await terminal.shows("trap 'exit 0' TERM")
        terminal.type("exit 3\n")
    await _until(far, "shell", "terminated", exitCode=3)

    kubectl = far.kubectl()
    prints = ("--", "bash", "-c", "echo here; sleep inf")
    await _run(kubectl, *_debug("second", "--profile=baseline"), *prints)
    await _until(far, "second", "running")
    await far.prints("web", "here", container="second")
    assert await _run(kubectl, "exec", "web", "-c", "second", "--", "hostname") == b"web\n"

    for name in ("third", "fourth"):
        rejected = await kubectl.run(*_debug(name, "-i"), "--", *SHELL)
        assert f'container "{name}" in pod "web" is terminated' in rejected.err
        assert "--allow-pod-feature=debug-tracing" in rejected.err
        await _until(far, name, "terminated", reason=REJECTED, exitCode=128)
    await _rejections(far, "third", "fourth")
    assert rest.ready(await far.home.get("pods", name="web", namespace=far.workspace.home))
    mirror = await foreign.get("pods", name="web", namespace=far.workspace.foreign)
    added = [one["name"] for one in mirror["spec"]["ephemeralContainers"]]
    assert sorted(added) == ["second", "shell"]


@pytest.mark.refused("foreign")
async def test_what_pod_security_rejects_is_reported_with_the_profile_that_helps(
    far: Far, foreign: rest.Api
) -> None:
    main = realpods.container("main", *streaming.STAYS, securityContext=CONFINED)
    user = {"runAsUser": 1000, "runAsNonRoot": True}
    await far.pod("web", containers=[main], securityContext=user)
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await foreign.patch("namespaces", level, name=far.workspace.foreign)
    kubectl, prints = far.kubectl(), ("--", "bash", "-c", "echo here")
    rejected = await kubectl.run(*_debug("rejected", "-i", "--profile=baseline"), *prints)
    assert 'violates PodSecurity "restricted:latest"' in rejected.err
    state = await _until(far, "rejected", "terminated", reason=REJECTED)
    assert state["message"].endswith(". Add one with kubectl debug --profile=restricted")
    await _rejections(far, "rejected")
    await _run(kubectl, *_debug("taken", "--profile=restricted"), *prints)
    await _until(far, "taken", "terminated", exitCode=0)
    assert await _run(kubectl, "logs", "web", "-c", "taken") == b"here\n"


@pytest.mark.both_identities
async def test_the_default_profile_traces_where_that_is_allowed(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings={"allow-pod-feature": "debug-tracing"})
    far = Far(env.clusters, env.home, env.workspace, env.node, farlet)
    await far.pod("web")
    await _run(far.kubectl(), *_debug("tracer"), "--", *streaming.STAYS)
    await _until(far, "tracer", "running")
    reads = ("sed", "-n", "s/CapEff:\t//p", "/proc/1/status")
    printed = await _run(far.kubectl(), "exec", "web", "-c", "tracer", "--", *reads)
    assert int(printed, 16) & SYS_PTRACE


def _debug(name: str, *options: str) -> tuple[str, ...]:
    return ("debug", "web", f"--image={images.CLIENTS}", "-c", name, *options)


async def _run(kubectl: Kubectl, *arguments: str) -> bytes:
    done = await kubectl.run(*arguments)
    assert done.code == 0, done.err
    return done.out


async def _until(far: Far, name: str, state: str, **fields: Any) -> rest.Object:
    """The state of an ephemeral container, once it is this one."""

    def found(pod: rest.Object | None) -> rest.Object:
        rows = (pod or {}).get("status", {}).get("ephemeralContainerStatuses", ())
        found: rest.Object = next((r["state"] for r in rows if r["name"] == name), {})
        return found

    pod = await far.home.until(
        "pods", lambda pod: state in found(pod), name="web", namespace=far.workspace.home
    )
    shown: rest.Object = found(pod)[state]
    assert {key: shown.get(key) for key in fields} == fields
    return shown


async def _rejections(far: Far, *containers: str) -> None:
    """Each of these containers has exactly one Event."""
    selector = f"involvedObject.name=web,reason={REJECTED}"
    namespace = far.workspace.home
    seen = []
    async with asyncio.timeout(60):
        async for _, event in far.home.watch(
            "events", namespace=namespace, fieldSelector=selector, resourceVersion="0"
        ):
            seen.append(event["message"])
            if len(seen) == len(containers):
                break
    found = await far.home.list("events", namespace=namespace, fieldSelector=selector)
    messages = sorted(event["message"] for event in found)
    assert len(messages) == len(containers), messages
    for container in containers:
        assert any(f"ephemeral container {container}" in message for message in messages)
