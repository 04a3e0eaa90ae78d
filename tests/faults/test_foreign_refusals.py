"""What the foreign cluster refuses is told on the home pod, which goes on by itself once cured."""

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from clusters import rest, workspace
from conftest import StartFarlet
from faults import manifests
from faults.stage import Stage
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.refused("foreign")]

CURED_SECONDS = 15.0  # as promised
LONG_SECONDS = 20.0  # until pauses between tries do not grow any more
SLACK_SECONDS = 15.0  # for the pod itself to start, on a busy machine


@dataclasses.dataclass(frozen=True)
class Refusal:
    """How a foreign cluster refuses: `refuse` holds while its context does."""

    refuse: Callable[[Stage], AbstractAsyncContextManager[None]]
    reason: str
    told: tuple[str, ...]  # words in the message: what is wrong, and what is to be done


def without(resource: str, *verbs: str) -> Callable[[Stage], AbstractAsyncContextManager[None]]:
    """farlet lacks verbs (all, when none is given) on a resource in the foreign namespace."""

    @contextlib.asynccontextmanager
    async def lacking(stage: Stage) -> AsyncIterator[None]:
        where = {"name": workspace.ROLE, "namespace": stage.workspace.foreign}
        role = await stage.foreign.get("roles", **where)
        (lost, *_) = (
            {**rule, "verbs": [verb for verb in rule["verbs"] if verb in verbs or not verbs]}
            for rule in role["rules"]
            if resource in rule["resources"]
        )
        rules = [
            {**rule, "verbs": [verb for verb in rule["verbs"] if verbs and verb not in verbs]}
            if resource in rule["resources"]
            else rule
            for rule in role["rules"]
        ]
        left = [rule for rule in rules if rule["verbs"]]
        await stage.foreign.patch("roles", {"rules": left}, **where)
        await _allowed(stage, lost, allowed=False)
        yield
        await stage.foreign.patch("roles", {"rules": role["rules"]}, **where)
        await _allowed(stage, lost)

    return lacking


@contextlib.asynccontextmanager
async def no_binding(stage: Stage) -> AsyncIterator[None]:
    where = {"name": workspace.ROLE, "namespace": stage.workspace.foreign}
    binding = await stage.foreign.get("rolebindings", **where)
    lost = workspace.shipped_rules("offloaded-namespace.yaml")[0]
    await stage.foreign.delete("rolebindings", **where)
    await _allowed(stage, lost, allowed=False)
    yield
    del binding["metadata"]["resourceVersion"]
    await stage.foreign.create("rolebindings", binding, namespace=stage.workspace.foreign)
    await _allowed(stage, lost)


async def _allowed(stage: Stage, rule: Mapping[str, Any], *, allowed: bool = True) -> None:
    """Return once the foreign API server knows what farlet may, or may no longer."""
    await workspace.until_allowed(
        stage.foreign,
        user=workspace.USER,
        namespace=stage.workspace.foreign,
        rule=rule,
        allowed=allowed,
    )


@contextlib.asynccontextmanager
async def quota(stage: Stage) -> AsyncIterator[None]:
    namespace = stage.workspace.foreign
    body = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await stage.foreign.create("resourcequotas", body, namespace=namespace)
    await stage.foreign.until(
        "resourcequotas",
        lambda seen: seen is not None and "hard" in seen.get("status", {}),
        name="none",
        namespace=namespace,
    )
    yield
    await stage.foreign.delete("resourcequotas", name="none", namespace=namespace)


@contextlib.asynccontextmanager
async def limits(stage: Stage) -> AsyncIterator[None]:
    most = {"type": "Container", "max": {"memory": "1Mi"}}
    body = {"metadata": {"name": "tiny"}, "spec": {"limits": [most]}}
    await stage.foreign.create("limitranges", body, namespace=stage.workspace.foreign)
    yield
    await stage.foreign.delete("limitranges", name="tiny", namespace=stage.workspace.foreign)


@contextlib.asynccontextmanager
async def pod_security(stage: Stage) -> AsyncIterator[None]:
    label = "pod-security.kubernetes.io/enforce"
    for level in ("restricted", None):
        body = {"metadata": {"labels": {label: level}}}
        await stage.foreign.patch("namespaces", body, name=stage.workspace.foreign)
        if level is not None:
            yield


@contextlib.asynccontextmanager
async def policy(stage: Stage) -> AsyncIterator[None]:
    name = f"no-pods-{secrets.token_hex(3)}"
    only = {"matchLabels": {"kubernetes.io/metadata.name": stage.workspace.foreign}}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    await stage.foreign.create(
        "validatingadmissionpolicies",
        {
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule], "namespaceSelector": only},
                "validations": [{"expression": "false", "message": "not on a Sunday"}],
            },
        },
    )
    await stage.foreign.create(
        "validatingadmissionpolicybindings",
        {
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    )
    await _until_in_force(stage)
    yield
    await stage.foreign.delete("validatingadmissionpolicybindings", name=name)
    await stage.foreign.delete("validatingadmissionpolicies", name=name)


async def _until_in_force(stage: Stage) -> None:
    """A policy counts only once the API server has compiled it."""
    probe = manifests.pod("probe", node="nowhere")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            await stage.foreign.create(
                "pods", probe, namespace=stage.workspace.foreign, dryRun="All"
            )
        except rest.ApiError as error:
            if "Sunday" in str(error):
                return
            raise
        await asyncio.sleep(0.1)
    raise AssertionError("the policy never came into force")


REFUSALS = {
    "no RoleBinding": Refusal(
        no_binding, "ForeignForbidden", ("cannot get", "configmaps", "manifests/foreign")
    ),
    "no right to create pods": Refusal(
        without("pods", "create"), "ForeignForbidden", ("cannot create", "manifests/foreign")
    ),
    "no right to watch pods": Refusal(
        without("pods", "list", "watch"), "ForeignForbidden", ("cannot list", "manifests/foreign")
    ),
    "no right to make ConfigMaps": Refusal(
        without("configmaps"), "ForeignForbidden", ("configmaps", "manifests/foreign")
    ),
    "a quota": Refusal(quota, "ForeignQuotaExceeded", ("exceeded quota: none", "raise")),
    "a LimitRange": Refusal(limits, "ForeignRejected", ("maximum memory usage",)),
    "Pod Security": Refusal(pod_security, "ForeignRejected", ("PodSecurity", "restricted")),
    "an admission policy": Refusal(policy, "ForeignRejected", ("not on a Sunday",)),
}


@pytest.mark.parametrize("refusal", [pytest.param(r, id=name) for name, r in REFUSALS.items()])
async def test_a_pod_tells_why_it_waits_and_runs_once_this_is_cured(
    stage: Stage, start_farlet: StartFarlet, refusal: Refusal
) -> None:
    began = stage.clusters.foreign.audit_mark()
    async with refusal.refuse(stage):
        await start_farlet(stage.node)
        await stage.create(stage.pod("waits", restart="Never"))
        waiting = await stage.seen("waits", rest.reason(refusal.reason))
        assert waiting["status"]["phase"] == "Pending"
        for words in refusal.told:
            assert words in waiting["status"]["message"]
        await told_by_one_event(stage, "waits", refusal.reason)
    cured = time.monotonic()
    await stage.seen("waits", rest.phase("Running"))
    took = time.monotonic() - cured
    assert took < CURED_SECONDS + SLACK_SECONDS
    sight = await stage.settled()
    assert not sight.pods[0]["status"].get("reason")
    assert not sight.pods[0]["status"].get("message")
    assert stage.runs(began) == {"waits": 1}


async def test_a_cure_is_found_in_time_after_a_long_wait_too(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    more = await workspace.create(stage.home, stage.foreign)
    await start_farlet(stage.node)
    await asyncio.gather(
        _waits_long(stage, REFUSALS["a quota"]),
        _waits_long(dataclasses.replace(stage, workspace=more), REFUSALS["no RoleBinding"]),
    )
    await workspace.delete(stage.home, stage.foreign, more)


async def _waits_long(stage: Stage, refusal: Refusal) -> None:
    async with refusal.refuse(stage):
        await stage.create(stage.pod("waits"))
        await stage.seen("waits", rest.reason(refusal.reason))
        await asyncio.sleep(LONG_SECONDS)
        await told_by_one_event(stage, "waits", refusal.reason)
    cured = time.monotonic()
    await stage.seen("waits", rest.phase("Running"))
    assert time.monotonic() - cured < CURED_SECONDS + SLACK_SECONDS


async def told_by_one_event(stage: Stage, name: str, reason: str) -> None:
    """One Event tells the reason; that farlet tries again is no news."""
    await realpods.event(stage.home, name, namespace=stage.workspace.home, reason=reason)
    found = await _events(stage, name, reason)
    assert len(found) == 1, found
    assert found[0]["type"] == "Warning"


async def _events(stage: Stage, name: str, reason: str) -> list[rest.Object]:
    return await stage.home.list(
        "events",
        namespace=stage.workspace.home,
        fieldSelector=f"involvedObject.name={name},reason={reason}",
    )


async def test_rights_that_are_lost_while_pods_run_harm_none_of_them(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    began = stage.clusters.foreign.audit_mark()
    await start_farlet(stage.node)
    await stage.create(stage.pod("always"), stage.pod("never", restart="Never"))
    await stage.settled()
    async with no_binding(stage):
        await stage.create(stage.pod("late"))
        await stage.seen("late", rest.reason("ForeignForbidden"))
        for name in ("always", "never"):
            running = await stage.home.get("pods", name=name, namespace=stage.workspace.home)
            assert manifests.state(running) == "Running/-"
    await stage.settled()
    assert stage.runs(began) == dict.fromkeys(["always", "never", "late"], 1)


@pytest.mark.parametrize(
    ("everywhere", "reason"),
    [
        pytest.param(False, "ForeignForbidden", id="with rights by namespace"),
        pytest.param(True, "ForeignNamespaceNotFound", id="with rights everywhere"),
    ],
)
async def test_a_pod_waits_for_a_foreign_namespace_that_is_not_there(
    stage: Stage, start_farlet: StartFarlet, everywhere: bool, reason: str
) -> None:
    namespace = f"late-{secrets.token_hex(3)}"
    await start_farlet(
        stage.node,
        settings={"namespace-map": f"{stage.workspace.home}={namespace}"},
        foreign_login=stage.clusters.foreign.kubeconfig if everywhere else None,
    )
    await stage.create(stage.pod("waits"))
    waiting = await stage.seen("waits", rest.reason(reason))
    assert namespace in waiting["status"]["message"]
    await stage.foreign.create("namespaces", {"metadata": {"name": namespace}})
    await workspace.grant(stage.foreign, namespace=namespace)
    there = time.monotonic()
    await stage.seen("waits", rest.phase("Running"))
    assert time.monotonic() - there < CURED_SECONDS + SLACK_SECONDS
    await stage.delete("waits")
    await stage.seen("waits", rest.gone)
    await stage.foreign.delete("namespaces", name=namespace)


async def test_pods_survive_the_end_of_their_foreign_namespace(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    """Always runs again in the new one; what may run once only has failed, and says why."""
    namespace = stage.workspace.foreign
    farlet = await start_farlet(stage.node)
    await stage.create(stage.pod("always"), stage.pod("never", restart="Never"))
    await stage.settled()
    began = stage.clusters.foreign.audit_mark()
    await stage.foreign.delete("namespaces", name=namespace)
    await stage.foreign.until("namespaces", rest.gone, name=namespace, seconds=300)
    await stage.seen("never", rest.phase("Failed"))
    await stage.foreign.create("namespaces", {"metadata": {"name": namespace}})
    await workspace.grant(stage.foreign, namespace=namespace)
    await stage.mirror("always", rest.phase("Running"))
    await stage.settled()
    assert stage.runs(began) == {"always": 1}
    assert farlet.process.alive
