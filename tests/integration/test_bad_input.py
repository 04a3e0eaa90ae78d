"""Pods that cannot be sent abroad as they are, and names that are taken: told, and harmless."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from clusters import rest
from conftest import StartFarlet
from faults import manifests
from faults.stage import Stage
from integration import realpods

pytestmark = pytest.mark.clusters

SUPPORT, ACCOUNT = manifests.SUPPORT, manifests.ACCOUNT
INVALID_SUPPORT, INVALID_ACCOUNT = "InvalidAPIServerSupport", "InvalidRemoteServiceAccount"
EVERY_MODE = ("disabled", "home", "remote", SUPPORT)


@dataclasses.dataclass(frozen=True)
class Bad:
    """What is wrong with a pod, and what its owner is told."""

    reason: str
    told: tuple[str, ...]
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _mode(value: str) -> Bad:
    return Bad(INVALID_SUPPORT, EVERY_MODE, {SUPPORT: value})


def _account(name: str, *told: str) -> Bad:
    return Bad(INVALID_ACCOUNT, (ACCOUNT, *told), {SUPPORT: "remote", ACCOUNT: name})


BAD = {
    "a misspelt mode": _mode("rmote"),
    "an empty mode": _mode(""),
    "a mode in capitals": _mode("Remote"),
    "a mode with a blank": _mode("remote "),
    "a mode of several lines": _mode("remote\nhome"),
    "a mode of other letters": _mode("rémøte ☃"),
    "a mode that is a book": _mode("x" * 100_000),
    "true for a mode": _mode("true"),
    "an account without a mode": Bad(INVALID_ACCOUNT, (ACCOUNT, "remote"), {ACCOUNT: "default"}),
    "an account with mode home": Bad(
        INVALID_ACCOUNT, (ACCOUNT, "home"), {SUPPORT: "home", ACCOUNT: "default"}
    ),
    "an account with mode disabled": Bad(
        INVALID_ACCOUNT, (ACCOUNT, "disabled"), {SUPPORT: "disabled", ACCOUNT: "default"}
    ),
    "an account without a name": _account(""),
    "an account in capitals": _account("Default", "Default"),
    "an account that is a path": _account("../default"),
    "an account of another namespace": _account("kube-system/default"),
    "an account of too many letters": _account("a" * 254, "253"),
    "an account that is not there": Bad(
        "ServiceAccountNotFound", ("nobody", ACCOUNT), {SUPPORT: "remote", ACCOUNT: "nobody"}
    ),
    "the host's network": Bad(
        "PodFeatureNotAllowed", ("--allow-pod-feature", "host-network"), spec={"hostNetwork": True}
    ),
    "the host's processes": Bad(
        "PodFeatureNotAllowed", ("--allow-pod-feature", "host-pid"), spec={"hostPID": True}
    ),
    "the host's files": Bad(
        "PodFeatureNotAllowed",
        ("--allow-pod-feature", "host-path"),
        spec={"volumes": [{"name": "all", "hostPath": {"path": "/"}}]},
    ),
}


async def test_bad_pods_are_told_once_and_nothing_of_them_leaves_home(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(stage.node)
    await stage.create(stage.pod("good", annotations=manifests.access("disabled")))
    await stage.seen("good", rest.phase("Running"))
    marks = (stage.clusters.home.audit_mark(), stage.clusters.foreign.audit_mark())
    names = {f"bad-{number}": what for number, what in enumerate(BAD)}
    await stage.create(
        *(
            stage.pod(name, annotations=BAD[what].annotations, spec=BAD[what].spec)
            for name, what in names.items()
        )
    )
    wrong = {}
    for name, what in names.items():
        bad = BAD[what]
        status = (await stage.seen(name, rest.reason(bad.reason)))["status"]
        missing = [words for words in bad.told if words not in status["message"]]
        if status["phase"] != "Pending" or missing or len(status["message"]) > 1000:
            wrong[what] = status
    assert wrong == {}
    namespace = stage.workspace.home
    for name, what in names.items():
        await realpods.event(stage.home, name, namespace=namespace, reason=BAD[what].reason)
    await asyncio.sleep(2)  # for an Event too many
    for name, what in names.items():
        events = await stage.home.list(
            "events",
            namespace=namespace,
            fieldSelector=f"involvedObject.name={name}",
        )
        told = [one["reason"] for one in events if one["source"]["component"] == "farlet"]
        assert told == [BAD[what].reason], what

    tokens = [
        entry
        for entry in stage.clusters.home.audit(since=marks[0], user_agent="farlet/")
        if entry.subresource == "token"
    ]
    written = [
        entry
        for entry in stage.clusters.foreign.audit(since=marks[1], user_agent="farlet/")
        if entry.verb not in {"get", "list", "watch"}
    ]
    assert (tokens, written) == ([], [])
    sight = await stage.sight()
    assert (manifests.names(sight.mirrors), sight.secrets) == (["good"], [])

    await stage.delete(*names)
    await asyncio.gather(*(stage.seen(name, rest.gone) for name in names))


async def test_a_pod_whose_annotation_is_corrected_goes_on(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    await start_farlet(stage.node)
    await stage.create(stage.pod("one", annotations={SUPPORT: "hoem"}))
    await stage.seen("one", rest.reason(INVALID_SUPPORT))
    body = {"metadata": {"annotations": {SUPPORT: "disabled"}}}
    await stage.home.patch("pods", body, name="one", namespace=stage.workspace.home)
    await stage.seen("one", rest.phase("Running"))
    await stage.settled()


async def test_a_running_pod_whose_annotation_is_spoilt_runs_on_as_it_is(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    began = stage.clusters.foreign.audit_mark()
    farlet = await start_farlet(stage.node)
    await stage.create(stage.pod("one"))
    before = await stage.settled()
    body = {"metadata": {"annotations": {SUPPORT: "nonsense"}}}
    await stage.home.patch("pods", body, name="one", namespace=stage.workspace.home)
    await farlet.restart()
    await asyncio.sleep(2)
    after = await stage.sight()
    assert manifests.uid(after.mirrors[0]) == manifests.uid(before.mirrors[0])
    assert after.pods[0]["status"]["phase"] == "Running"
    assert stage.runs(began) == {"one": 1}


@pytest.mark.parametrize("restart", ["Always", "Never"])
async def test_a_name_that_a_stranger_has_is_waited_for_and_the_stranger_is_left_alone(
    stage: Stage, start_farlet: StartFarlet, restart: str
) -> None:
    namespace = stage.workspace.foreign
    theirs = manifests.pod("taken", node="")
    del theirs["spec"]["nodeName"]
    await stage.foreign.create("pods", theirs, namespace=namespace)
    before = await stage.mirror("taken", rest.phase("Running"))
    farlet = await start_farlet(stage.node)
    await stage.create(stage.pod("taken", restart=restart))
    waiting = await stage.seen("taken", rest.reason("NameConflict"))
    assert namespace in waiting["status"]["message"]
    await farlet.restart()
    await asyncio.sleep(1)
    after = await stage.foreign.get("pods", name="taken", namespace=namespace)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]

    await stage.foreign.delete("pods", name="taken", namespace=namespace, gracePeriodSeconds="0")
    await stage.seen("taken", rest.phase("Running"))
    await stage.settled()


async def test_a_home_pod_that_waits_for_a_strangers_name_can_be_deleted(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    namespace = stage.workspace.foreign
    theirs = manifests.pod("taken", node="")
    del theirs["spec"]["nodeName"]
    made = await stage.foreign.create("pods", theirs, namespace=namespace)
    await start_farlet(stage.node)
    await stage.create(stage.pod("taken"))
    await stage.seen("taken", rest.reason("NameConflict"))
    await stage.delete("taken")
    await stage.seen("taken", rest.gone)
    after = await stage.foreign.get("pods", name="taken", namespace=namespace)
    assert manifests.uid(after) == manifests.uid(made)
    assert "deletionTimestamp" not in after["metadata"]


async def test_a_strangers_secret_of_the_name_that_ours_would_have_is_left_alone(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    # Held, since a fake node would start it without its Secret, as no kubelet does.
    (made,) = await stage.create(stage.pod("one", annotations={manifests.HOLD: "yes"}))
    name = f"farlet-{manifests.uid(made)}"
    theirs = {"metadata": {"name": name}, "stringData": {"theirs": "kept"}}
    before = await stage.foreign.create("secrets", theirs, namespace=stage.workspace.foreign)
    await start_farlet(stage.node)
    # The mirror is there, so the status tells of it; why it does not start, an Event does.
    event = await realpods.event(
        stage.home, "one", namespace=stage.workspace.home, reason="NameConflict"
    )
    assert name in event["message"]
    after = await stage.foreign.get("secrets", name=name, namespace=stage.workspace.foreign)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    namespace = stage.workspace.foreign
    await stage.foreign.delete("secrets", name=name, namespace=namespace)
    await stage.foreign.until("secrets", _ours, name=name, namespace=namespace)
    release = {"metadata": {"annotations": {manifests.HOLD: None}}}
    await stage.foreign.patch("pods", release, name="one", namespace=namespace)
    running = await stage.seen("one", rest.phase("Running"))
    assert not running["status"].get("reason")
    await stage.settled()


def _ours(seen: rest.Object | None) -> bool:
    return seen is not None and manifests.OWNER in seen["metadata"].get("labels", {})
