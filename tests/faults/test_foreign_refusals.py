"""The home pod shows what the foreign cluster rejects, and starts once that is fixed."""

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
from faults.environment import Environment
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.refused("foreign"), pytest.mark.takes(190)]

FIXED_SECONDS = 15.0  # as documented
LONG_SECONDS = 20.0  # until the backoff has reached its maximum
SLACK_SECONDS = 15.0  # for the start of the pod, on a busy machine


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A way in which a foreign cluster rejects pods, for as long as `refuse` is entered."""

    refuse: Callable[[Environment], AbstractAsyncContextManager[None]]
    reason: str
    expected: tuple[str, ...]  # parts of the message: what is wrong, and what to do


def without(
    resource: str, *verbs: str
) -> Callable[[Environment], AbstractAsyncContextManager[None]]:
    """Remove verbs (default: all) on a resource in the foreign namespace from farlet's Role."""

    @contextlib.asynccontextmanager
    async def lacking(env: Environment) -> AsyncIterator[None]:
        where = {"name": workspace.ROLE, "namespace": env.workspace.foreign}
        role = await env.foreign.get("roles", **where)
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
        await env.foreign.patch("roles", {"rules": left}, **where)
        await _allowed(env, lost, allowed=False)
        yield
        await env.foreign.patch("roles", {"rules": role["rules"]}, **where)
        await _allowed(env, lost)

    return lacking


@contextlib.asynccontextmanager
async def no_binding(env: Environment) -> AsyncIterator[None]:
    where = {"name": workspace.ROLE, "namespace": env.workspace.foreign}
    binding = await env.foreign.get("rolebindings", **where)
    lost = workspace.shipped_rules("offloaded-namespace.yaml")[0]
    await env.foreign.delete("rolebindings", **where)
    await _allowed(env, lost, allowed=False)
    yield
    del binding["metadata"]["resourceVersion"]
    await env.foreign.create("rolebindings", binding, namespace=env.workspace.foreign)
    await _allowed(env, lost)


async def _allowed(env: Environment, rule: Mapping[str, Any], *, allowed: bool = True) -> None:
    """Return once the foreign API server applies the changed permissions."""
    await workspace.until_allowed(
        env.foreign,
        user=workspace.USER,
        namespace=env.workspace.foreign,
        rule=rule,
        allowed=allowed,
    )


@contextlib.asynccontextmanager
async def quota(env: Environment) -> AsyncIterator[None]:
    namespace = env.workspace.foreign
    body = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await env.foreign.create("resourcequotas", body, namespace=namespace)
    await env.foreign.until(
        "resourcequotas",
        lambda seen: seen is not None and "hard" in seen.get("status", {}),
        name="none",
        namespace=namespace,
    )
    yield
    await env.foreign.delete("resourcequotas", name="none", namespace=namespace)


@contextlib.asynccontextmanager
async def limits(env: Environment) -> AsyncIterator[None]:
    most = {"type": "Container", "max": {"memory": "1Mi"}}
    body = {"metadata": {"name": "tiny"}, "spec": {"limits": [most]}}
    await env.foreign.create("limitranges", body, namespace=env.workspace.foreign)
    yield
    await env.foreign.delete("limitranges", name="tiny", namespace=env.workspace.foreign)


@contextlib.asynccontextmanager
async def pod_security(env: Environment) -> AsyncIterator[None]:
    label = "pod-security.kubernetes.io/enforce"
    for level in ("restricted", None):
        body = {"metadata": {"labels": {label: level}}}
        await env.foreign.patch("namespaces", body, name=env.workspace.foreign)
        if level is not None:
            yield


@contextlib.asynccontextmanager
async def policy(env: Environment) -> AsyncIterator[None]:
    name = f"no-pods-{secrets.token_hex(3)}"
    only = {"matchLabels": {"kubernetes.io/metadata.name": env.workspace.foreign}}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    await env.foreign.create(
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
    await env.foreign.create(
        "validatingadmissionpolicybindings",
        {
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    )
    await _until_in_force(env)
    yield
    await env.foreign.delete("validatingadmissionpolicybindings", name=name)
    await env.foreign.delete("validatingadmissionpolicies", name=name)


async def _until_in_force(env: Environment) -> None:
    """Wait until the API server has compiled the policy; before that it has no effect."""
    probe = manifests.pod("probe", node="nowhere")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            await env.foreign.create("pods", probe, namespace=env.workspace.foreign, dryRun="All")
        except rest.ApiError as error:
            if "Sunday" in str(error):
                return
            raise
        await asyncio.sleep(0.1)
    raise AssertionError("the policy did not take effect within 120 s")


REFUSALS = {
    "no RoleBinding": Refusal(
        no_binding,
        "ForeignForbidden",
        ("cannot get", "namespaces", "create namespace", "manifests/foreign"),
    ),
    "no permission to create pods": Refusal(
        without("pods", "create"), "ForeignForbidden", ("cannot create", "manifests/foreign")
    ),
    "no permission to watch pods": Refusal(
        without("pods", "list", "watch"), "ForeignForbidden", ("cannot list", "manifests/foreign")
    ),
    "no permission to read the namespace": Refusal(
        without("namespaces"), "ForeignForbidden", ("namespaces", "manifests/foreign")
    ),
    "a quota": Refusal(quota, "ForeignQuotaExceeded", ("exceeded quota: none", "Raise it")),
    "a LimitRange": Refusal(limits, "ForeignRejected", ("maximum memory usage",)),
    "Pod Security": Refusal(pod_security, "ForeignRejected", ("PodSecurity", "restricted")),
    "an admission policy": Refusal(policy, "ForeignRejected", ("not on a Sunday",)),
}


@pytest.mark.parametrize("refusal", [pytest.param(r, id=name) for name, r in REFUSALS.items()])
async def test_a_pod_shows_why_it_waits_and_runs_once_the_cause_is_fixed(
    env: Environment, start_farlet: StartFarlet, refusal: Refusal
) -> None:
    began = env.clusters.foreign.audit_mark()
    async with refusal.refuse(env):
        await start_farlet(env.node)
        await env.create(env.pod("waits", restart="Never"))
        waiting = await env.seen("waits", rest.reason(refusal.reason))
        assert waiting["status"]["phase"] == "Pending"
        for words in refusal.expected:
            assert words in waiting["status"]["message"]
        await reported_by_one_event(env, "waits", refusal.reason)
    fixed = time.monotonic()
    await env.seen("waits", rest.phase("Running"))
    took = time.monotonic() - fixed
    assert took < FIXED_SECONDS + SLACK_SECONDS
    observation = await env.settled()
    assert not observation.pods[0]["status"].get("reason")
    assert not observation.pods[0]["status"].get("message")
    assert env.runs(began) == {"waits": 1}


async def test_a_fix_is_detected_in_time_even_after_a_long_wait(
    env: Environment, start_farlet: StartFarlet
) -> None:
    more = await workspace.create(env.home, env.foreign)
    await start_farlet(env.node)
    await asyncio.gather(
        _waits_long(env, REFUSALS["a quota"]),
        _waits_long(dataclasses.replace(env, workspace=more), REFUSALS["no RoleBinding"]),
    )
    await workspace.delete(env.home, env.foreign, more)


async def _waits_long(env: Environment, refusal: Refusal) -> None:
    async with refusal.refuse(env):
        await env.create(env.pod("waits"))
        await env.seen("waits", rest.reason(refusal.reason))
        await asyncio.sleep(LONG_SECONDS)
        await reported_by_one_event(env, "waits", refusal.reason)
    fixed = time.monotonic()
    await env.seen("waits", rest.phase("Running"))
    assert time.monotonic() - fixed < FIXED_SECONDS + SLACK_SECONDS


async def reported_by_one_event(env: Environment, name: str, reason: str) -> None:
    """Exactly one Event contains the reason; retries add none."""
    await realpods.event(env.home, name, namespace=env.workspace.home, reason=reason)
    found = await _events(env, name, reason)
    assert len(found) == 1, found
    assert found[0]["type"] == "Warning"


async def _events(env: Environment, name: str, reason: str) -> list[rest.Object]:
    return await env.home.list(
        "events",
        namespace=env.workspace.home,
        fieldSelector=f"involvedObject.name={name},reason={reason}",
    )


async def test_losing_permissions_does_not_affect_running_pods(
    env: Environment, start_farlet: StartFarlet
) -> None:
    began = env.clusters.foreign.audit_mark()
    await start_farlet(env.node)
    await env.create(env.pod("always"), env.pod("never", restart="Never"))
    await env.settled()
    async with no_binding(env):
        await env.create(env.pod("late"))
        await env.seen("late", rest.reason("ForeignForbidden"))
        for name in ("always", "never"):
            running = await env.home.get("pods", name=name, namespace=env.workspace.home)
            assert manifests.state(running) == "Running/-"
    await env.settled()
    assert env.runs(began) == dict.fromkeys(["always", "never", "late"], 1)


@pytest.mark.parametrize(
    ("everywhere", "reason"),
    [
        pytest.param(False, "ForeignForbidden", id="permissions per namespace"),
        pytest.param(True, "ForeignNamespaceNotFound", id="cluster-wide permissions"),
    ],
)
async def test_a_pod_waits_for_a_missing_foreign_namespace(
    env: Environment, start_farlet: StartFarlet, everywhere: bool, reason: str
) -> None:
    namespace = f"late-{secrets.token_hex(3)}"
    await start_farlet(
        env.node,
        settings={"namespace-map": f"{env.workspace.home}={namespace}"},
        foreign_login=env.clusters.foreign.kubeconfig if everywhere else None,
    )
    await env.create(env.pod("waits"))
    waiting = await env.seen("waits", rest.reason(reason))
    assert namespace in waiting["status"]["message"]
    await env.foreign.create("namespaces", {"metadata": {"name": namespace}})
    await workspace.grant(env.foreign, namespace=namespace)
    there = time.monotonic()
    await env.seen("waits", rest.phase("Running"))
    assert time.monotonic() - there < FIXED_SECONDS + SLACK_SECONDS
    await env.delete("waits")
    await env.seen("waits", rest.gone)
    await env.foreign.delete("namespaces", name=namespace)


async def test_pods_survive_the_deletion_of_their_foreign_namespace(
    env: Environment, start_farlet: StartFarlet
) -> None:
    """Always runs again in the new namespace; Never, which can run only once, becomes Failed."""
    namespace = env.workspace.foreign
    farlet = await start_farlet(env.node)
    await env.create(env.pod("always"), env.pod("never", restart="Never"))
    await env.settled()
    began = env.clusters.foreign.audit_mark()
    await env.foreign.delete("namespaces", name=namespace)
    await env.foreign.until("namespaces", rest.gone, name=namespace, seconds=300)
    await env.seen("never", rest.phase("Failed"))
    await env.foreign.create("namespaces", {"metadata": {"name": namespace}})
    await workspace.grant(env.foreign, namespace=namespace)
    await env.mirror("always", rest.phase("Running"))
    await env.settled()
    assert env.runs(began) == {"always": 1}
    assert farlet.process.alive
