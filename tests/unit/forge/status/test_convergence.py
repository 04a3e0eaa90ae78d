"""One write is enough for every pair of pods, and it changes nothing that others own.

The oracle for container states is written from `ValidateContainerStateTransition` and its
sisters in pkg/apis/core/validation for pods without restart rules.
"""

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farlet import constants
from farlet.constants import Reason
from farlet.context import NotConfigured, PodNetwork
from farlet.forge import status
from unit.forge.status import builders, strategicmerge

TIMES = st.sampled_from([builders.THEN, builders.NOW_TEXT])
OWN_TYPES = [t.value for t in constants.PodCondition]
CONDITIONS = st.dictionaries(
    st.sampled_from([*OWN_TYPES, "example.com/gate", "example.com/other"]),
    st.fixed_dictionaries(
        {"status": st.sampled_from(["True", "False", "Unknown"]), "lastTransitionTime": TIMES},
        optional={
            "reason": st.sampled_from(["A", "B"]),
            "message": st.sampled_from(["a", "b"]),
            "observedGeneration": st.integers(1, 3),
        },
    ),
).map(lambda found: [{"type": t, "lastProbeTime": None, **c} for t, c in found.items()])
TERMINATED = st.builds(builders.ended, st.sampled_from([0, 1]))
STATES = st.one_of(
    st.just(builders.RUNNING),
    TERMINATED,
    st.builds(builders.waits, st.sampled_from(["ContainerCreating", "CrashLoopBackOff"])),
    st.just({}),
)
PHASES = st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"])
POLICIES = st.sampled_from(["Always", "OnFailure", "Never"])
INIT = [builders.container("fetch"), builders.container("proxy", restartPolicy="Always")]
REGULAR = [builders.container("main"), builders.container("app")]
EPHEMERAL = [builders.container("debug")]
RESTARTS = ["", '{"app": 2, "fetch": 1}', '{"app": "x"', "[[", '{"app": -1}']
ADDRESSES = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), unique=True, max_size=2)


def rows(names: list[str]) -> st.SearchStrategy[Any]:
    row = st.builds(
        builders.reported,
        st.sampled_from(names),
        STATES,
        ready=st.booleans(),
        restartCount=st.integers(0, 4),
        lastState=st.one_of(st.just({}), TERMINATED),
        containerID=st.sampled_from(["containerd://1", "containerd://2"]),
    )
    return st.lists(row, unique_by=lambda r: r["name"], max_size=len(names))


STATUSES = st.fixed_dictionaries(
    {
        "phase": PHASES,
        "conditions": CONDITIONS,
        "initContainerStatuses": rows(["fetch", "proxy", "injected-init"]),
        "containerStatuses": rows(["main", "app", "injected"]),
        "ephemeralContainerStatuses": rows(["debug"]),
        "reason": st.sampled_from(["", "Evicted"]),
        "message": st.sampled_from(["", "low on memory"]),
        "startTime": st.sampled_from(["", builders.THEN]),
        "podIPs": ADDRESSES.map(lambda ips: [{"ip": ip} for ip in ips]),
    }
).map(
    lambda found: {
        k: v
        for k, v in {**found, "podIP": next((one["ip"] for one in found["podIPs"]), "")}.items()
        if v
    }
)
DELETING = st.sampled_from([{}, {"deletionTimestamp": builders.NOW_TEXT}])
GATES = st.sampled_from([[], [{"conditionType": "example.com/gate"}]])
GENERATIONS = st.integers(0, 3)
HELD_RESTARTS = st.sampled_from(RESTARTS)
"""Strategies stand here because each call of one in an example builds and checks it anew."""


@st.composite
def homes(draw: st.DrawFn) -> Any:
    return builders.home(
        policy=draw(POLICIES),
        metadata={
            "generation": draw(GENERATIONS),
            "annotations": {"example.com/note": "kept"},
            **draw(DELETING),
        },
        status=draw(STATUSES),
        initContainers=INIT,
        containers=REGULAR,
        ephemeralContainers=EPHEMERAL,
        readinessGates=draw(GATES),
    )


@st.composite
def mirrors(draw: st.DrawFn) -> Any:
    found: Any = builders.mirror()
    found["status"] = draw(STATUSES)
    restarts = draw(HELD_RESTARTS)
    found["metadata"]["annotations"] = {constants.RESTARTS: restarts, constants.ACCESS: "home"}
    found["metadata"].update(draw(DELETING))
    return found


CONTEXTS = st.sampled_from(
    [
        builders.CONTEXT,
        dataclasses.replace(builders.CONTEXT, pod_network=PodNetwork.CONNECTED, node_ip=""),
        dataclasses.replace(builders.CONTEXT, home_api=NotConfigured()),
    ]
)


def check_one_write_says_all(home: Any, again: Any) -> None:
    """`again(home, now)` computes; after its patch it must return no further patch."""
    before = copy.deepcopy(home)
    result = again(home, builders.NOW)
    patch = status.patch(home, result)
    assert home == before
    if patch is None:
        return
    after = strategicmerge.apply(home, patch)
    assert status.patch(after, result) is None
    assert status.patch(after, again(after, builders.NOW + 3600)) is None
    check_rules(before, after)


def check_rules(before: Any, after: Any) -> None:
    """Asserts what no write is allowed to do."""
    old, new = before["status"], after["status"]
    assert after["metadata"]["annotations"]["example.com/note"] == "kept"
    assert after["metadata"].get("labels") == before["metadata"].get("labels")
    for kind in ("example.com/gate", "example.com/other"):
        assert builders.condition_of(new, kind) == builders.condition_of(old, kind)
    if old["phase"] in ("Succeeded", "Failed"):
        assert new["phase"] == old["phase"]
    if old["phase"] != "Pending":
        assert new["phase"] != "Pending"
    if status.mirrored_uid(before) is not None:
        assert status.mirrored_uid(after) is not None
    if old.get("startTime"):
        assert new["startTime"] == old["startTime"]
    assert new.get("hostIP") == (new.get("hostIPs") or [{}])[0].get("ip")
    assert new.get("podIP") == (new.get("podIPs") or [{}])[0].get("ip")
    for kind, containers in (
        ("initContainerStatuses", INIT),
        ("containerStatuses", REGULAR),
        ("ephemeralContainerStatuses", EPHEMERAL),
    ):
        earlier = {s["name"]: s for s in old.get(kind, [])}
        own = {c["name"]: c for c in containers}
        for row in new.get(kind, []):
            was = earlier.get(row["name"])
            if was is None or row["name"] not in own:
                continue
            assert row["restartCount"] >= was["restartCount"]
            if "terminated" in was["state"] and "terminated" not in row["state"]:
                assert kind != "ephemeralContainerStatuses"
                assert restarts(
                    own[row["name"]].get("restartPolicy") or before["spec"]["restartPolicy"],
                    was["state"]["terminated"]["exitCode"],
                )


def restarts(policy: str, exit_code: int) -> bool:
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


@pytest.mark.thorough
@given(homes(), mirrors(), CONTEXTS)
@settings(deadline=None)
def test_reflecting_converges_in_one_write(home: Any, mirror: Any, ctx: Any) -> None:
    untouched = copy.deepcopy(mirror)
    check_one_write_says_all(home, lambda h, now: status.reflect(h, mirror, ctx=ctx, now=now))
    assert mirror == untouched


@pytest.mark.thorough
@given(homes(), CONTEXTS, st.sampled_from(["waiting", "stranded"]))
@settings(deadline=None)
def test_waiting_converges_in_one_write(home: Any, ctx: Any, name: str) -> None:
    call = getattr(status, name)
    check_one_write_says_all(
        home, lambda h, now: call(h, reason=Reason.NAME_CONFLICT, message="m", ctx=ctx, now=now)
    )


@pytest.mark.thorough
@given(homes(), CONTEXTS)
@settings(deadline=None)
def test_a_loss_converges_in_one_write_and_is_terminal(home: Any, ctx: Any) -> None:
    check_one_write_says_all(home, lambda h, now: status.lost(h, ctx=ctx, now=now))
    assert status.lost(home, ctx=ctx, now=builders.NOW).status["phase"] in ("Succeeded", "Failed")


@pytest.mark.thorough
@given(homes(), st.one_of(st.none(), mirrors()), CONTEXTS)
@settings(deadline=None)
def test_an_end_converges_in_one_write_and_is_terminal(home: Any, mirror: Any, ctx: Any) -> None:
    check_one_write_says_all(home, lambda h, now: status.ended(h, mirror, ctx=ctx, now=now))
    result = status.ended(home, mirror, ctx=ctx, now=builders.NOW)
    assert result.status["phase"] in ("Succeeded", "Failed")
    assert all("running" not in s["state"] for s in result.status.get("containerStatuses", []))
