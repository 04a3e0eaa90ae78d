"""Pods that cannot run in the foreign cluster, and names in use, are reported and harmless."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from clusters import rest
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(70)]

SUPPORT, ACCOUNT = manifests.SUPPORT, manifests.ACCOUNT
INVALID_SUPPORT, INVALID_ACCOUNT = "InvalidAPIServerSupport", "InvalidRemoteServiceAccount"
EVERY_MODE = ("disabled", "home", "remote", SUPPORT)


@dataclasses.dataclass(frozen=True)
class BadPod:
    """An invalid pod, and the expected reason and message."""

    reason: str
    expected: tuple[str, ...]
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _mode(value: str) -> BadPod:
    return BadPod(INVALID_SUPPORT, EVERY_MODE, {SUPPORT: value})


def _account(name: str, *expected: str) -> BadPod:
    return BadPod(INVALID_ACCOUNT, (ACCOUNT, *expected), {SUPPORT: "remote", ACCOUNT: name})


BAD = {
    "a misspelt mode": _mode("rmote"),
    "an empty mode": _mode(""),
    "a mode in capitals": _mode("Remote"),
    "a mode with a blank": _mode("remote "),
    "a mode of several lines": _mode("remote\nhome"),
    "a mode of non-ASCII letters": _mode("rémøte ☃"),
    "a very long mode": _mode("x" * 100_000),
    "the value true": _mode("true"),
    "an account without a mode": BadPod(INVALID_ACCOUNT, (ACCOUNT, "remote"), {ACCOUNT: "default"}),
    "an account with mode home": BadPod(
        INVALID_ACCOUNT, (ACCOUNT, "home"), {SUPPORT: "home", ACCOUNT: "default"}
    ),
    "an account with mode disabled": BadPod(
        INVALID_ACCOUNT, (ACCOUNT, "disabled"), {SUPPORT: "disabled", ACCOUNT: "default"}
    ),
    "an account without a name": _account(""),
    "an account in capitals": _account("Default", "Default"),
    "an account with a slash": _account("../default"),
    "an account of another namespace": _account("kube-system/default"),
    "an account with a too long name": _account("a" * 254, "253"),
    "an account that does not exist": BadPod(
        "ServiceAccountNotFound", ("missing", ACCOUNT), {SUPPORT: "remote", ACCOUNT: "missing"}
    ),
    "the host's network": BadPod(
        "PodFeatureNotAllowed", ("--allow-pod-feature", "host-network"), spec={"hostNetwork": True}
    ),
    "the host's processes": BadPod(
        "PodFeatureNotAllowed", ("--allow-pod-feature", "host-pid"), spec={"hostPID": True}
    ),
    "the host's files": BadPod(
        "PodFeatureNotAllowed",
        ("--allow-pod-feature", "host-path"),
        spec={"volumes": [{"name": "all", "hostPath": {"path": "/"}}]},
    ),
    "a priority above all others": BadPod(
        "PodFeatureNotAllowed",
        ("--allow-pod-feature", "critical-priority"),
        spec={"priorityClassName": "system-node-critical"},
    ),
}


async def test_invalid_pods_are_reported_once_and_nothing_is_sent_to_the_foreign_cluster(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    await env.create(env.pod("good", annotations=manifests.access("disabled")))
    await env.seen("good", rest.phase("Running"))
    marks = (env.clusters.home.audit_mark(), env.clusters.foreign.audit_mark())
    names = {f"bad-{number}": what for number, what in enumerate(BAD)}
    await env.create(
        *(
            env.pod(name, annotations=BAD[what].annotations, spec=BAD[what].spec)
            for name, what in names.items()
        )
    )
    wrong = {}
    for name, what in names.items():
        bad = BAD[what]
        status = (await env.seen(name, rest.reason(bad.reason)))["status"]
        missing = [words for words in bad.expected if words not in status["message"]]
        if status["phase"] != "Pending" or missing or len(status["message"]) > 1000:
            wrong[what] = status
    assert wrong == {}
    namespace = env.workspace.home
    for name, what in names.items():
        await realpods.event(env.home, name, namespace=namespace, reason=BAD[what].reason)
    await asyncio.sleep(2)  # time in which an extra Event would appear
    for name, what in names.items():
        events = await env.home.list(
            "events",
            namespace=namespace,
            fieldSelector=f"involvedObject.name={name}",
        )
        expected = [one["reason"] for one in events if one["source"]["component"] == "farlet"]
        assert expected == [BAD[what].reason], what

    tokens = [
        entry
        for entry in env.clusters.home.audit(since=marks[0], user_agent="farlet/")
        if entry.subresource == "token"
    ]
    written = [
        entry
        for entry in env.clusters.foreign.audit(since=marks[1], user_agent="farlet/")
        if entry.verb not in {"get", "list", "watch"}
    ]
    assert (tokens, written) == ([], [])
    observation = await env.observe()
    assert (manifests.names(observation.mirrors), observation.secrets) == (["good"], [])

    await env.delete(*names)
    await asyncio.gather(*(env.seen(name, rest.gone) for name in names))


async def test_a_pod_starts_after_its_annotation_is_corrected(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    await env.create(env.pod("one", annotations={SUPPORT: "hoem"}))
    await env.seen("one", rest.reason(INVALID_SUPPORT))
    body = {"metadata": {"annotations": {SUPPORT: "disabled"}}}
    await env.home.patch("pods", body, name="one", namespace=env.workspace.home)
    await env.seen("one", rest.phase("Running"))
    await env.settled()


async def test_an_invalid_annotation_does_not_affect_a_running_pod(
    env: Environment, start_farlet: StartFarlet
) -> None:
    began = env.clusters.foreign.audit_mark()
    farlet = await start_farlet(env.node)
    await env.create(env.pod("one"))
    before = await env.settled()
    body = {"metadata": {"annotations": {SUPPORT: "nonsense"}}}
    await env.home.patch("pods", body, name="one", namespace=env.workspace.home)
    await farlet.restart()
    await asyncio.sleep(2)
    after = await env.observe()
    assert manifests.uid(after.mirrors[0]) == manifests.uid(before.mirrors[0])
    assert after.pods[0]["status"]["phase"] == "Running"
    assert env.runs(began) == {"one": 1}


@pytest.mark.parametrize("restart", ["Always", "Never"])
async def test_a_pod_waits_while_a_foreign_pod_uses_its_name_and_leaves_that_pod_alone(
    env: Environment, start_farlet: StartFarlet, restart: str
) -> None:
    namespace = env.workspace.foreign
    theirs = manifests.pod("taken", node="")
    del theirs["spec"]["nodeName"]
    await env.foreign.create("pods", theirs, namespace=namespace)
    before = await env.mirror("taken", rest.phase("Running"))
    farlet = await start_farlet(env.node)
    await env.create(env.pod("taken", restart=restart))
    waiting = await env.seen("taken", rest.reason("NameConflict"))
    assert namespace in waiting["status"]["message"]
    await farlet.restart()
    await asyncio.sleep(1)
    after = await env.foreign.get("pods", name="taken", namespace=namespace)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]

    await env.foreign.delete("pods", name="taken", namespace=namespace, gracePeriodSeconds="0")
    await env.seen("taken", rest.phase("Running"))
    await env.settled()


async def test_a_home_pod_that_waits_for_a_used_name_can_be_deleted(
    env: Environment, start_farlet: StartFarlet
) -> None:
    namespace = env.workspace.foreign
    theirs = manifests.pod("taken", node="")
    del theirs["spec"]["nodeName"]
    made = await env.foreign.create("pods", theirs, namespace=namespace)
    await start_farlet(env.node)
    await env.create(env.pod("taken"))
    await env.seen("taken", rest.reason("NameConflict"))
    await env.delete("taken")
    await env.seen("taken", rest.gone)
    after = await env.foreign.get("pods", name="taken", namespace=namespace)
    assert manifests.uid(after) == manifests.uid(made)
    assert "deletionTimestamp" not in after["metadata"]


async def test_a_foreign_secret_that_uses_our_name_is_left_alone(
    env: Environment, start_farlet: StartFarlet
) -> None:
    # Held, because a fake node would start it without its Secret, unlike a kubelet.
    (made,) = await env.create(env.pod("one", annotations={manifests.HOLD: "yes"}))
    name = f"farlet-{manifests.uid(made)}"
    theirs = {"metadata": {"name": name}, "stringData": {"theirs": "kept"}}
    before = await env.foreign.create("secrets", theirs, namespace=env.workspace.foreign)
    await start_farlet(env.node)
    # The mirror exists, so the status shows its state; an Event contains why it does not start.
    event = await realpods.event(
        env.home, "one", namespace=env.workspace.home, reason="NameConflict"
    )
    assert name in event["message"]
    after = await env.foreign.get("secrets", name=name, namespace=env.workspace.foreign)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    namespace = env.workspace.foreign
    await env.foreign.delete("secrets", name=name, namespace=namespace)
    await env.foreign.until("secrets", _ours, name=name, namespace=namespace)
    release = {"metadata": {"annotations": {manifests.HOLD: None}}}
    await env.foreign.patch("pods", release, name="one", namespace=namespace)
    running = await env.seen("one", rest.phase("Running"))
    assert not running["status"].get("reason")
    await env.settled()


def _ours(seen: rest.Object | None) -> bool:
    return seen is not None and manifests.OWNER in seen["metadata"].get("labels", {})
