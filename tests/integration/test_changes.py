"""Changes of pods that run: from the home cluster into a container of the foreign cluster."""

import asyncio
import collections
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable

import pytest

from clusters import auditlog, images, kwok, rest
from conftest import StartFarlet
from faults.environment import Environment
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(240)]

SETTINGS = {"foreign-node-labels": kwok.LABEL}
WAIT = "until [ $(cat /about/go) = yes ]; do sleep 0.2; done; cat /about/stage"
BLOCKED = "blocked"
REJECTED = "not in this cluster, please"
NOT_BLOCKED = f"!has(object.metadata.labels) || !('{BLOCKED}' in object.metadata.labels)"
SMALL = """object.spec.containers.all(c, !has(c.resources.limits) || !('cpu' in c.resources.limits)
|| quantity(c.resources.limits['cpu']).isLessThan(quantity('1')))"""
RESIZING = {"PodResizePending", "PodResizeInProgress"}


def waiting(name: str) -> rest.Object:
    """A pod that starts its work when an annotation is set, as pipeline systems do."""
    items = [
        {"path": "go", "fieldRef": {"fieldPath": "metadata.annotations['go']"}},
        {"path": "stage", "fieldRef": {"fieldPath": "metadata.labels['stage']"}},
    ]
    mounts = [{"name": "about", "mountPath": "/about"}]
    pod = realpods.pod(
        name,
        annotations={"go": "no"},
        containers=[realpods.container("main", "bash", "-c", WAIT, volumeMounts=mounts)],
        volumes=[{"name": "about", "downwardAPI": {"items": items}}],
    )
    pod["metadata"]["labels"] = {"stage": "before", "old": "x"}
    return pod


@pytest.mark.both_identities
async def test_a_pod_starts_its_work_when_an_annotation_is_set(
    env: Environment, start_farlet: StartFarlet
) -> None:
    farlet = await start_farlet(env.node, settings=SETTINGS)
    await env.create(realpods.bound(waiting("step"), env.node))
    await env.seen("step", rest.phase("Running"))
    injected = {"metadata": {"labels": {"sidecar": "injected"}}}
    await env.foreign.patch("pods", injected, name="step", namespace=env.workspace.foreign)

    farlet.kill()  # what changes while farlet does not run arrives, too
    labels = {"metadata": {"labels": {"stage": "after", "old": None}}}
    await env.home.patch("pods", labels, name="step", namespace=env.workspace.home)
    await farlet.restart()
    await env.mirror(
        "step",
        lambda seen: seen is not None and seen["metadata"]["labels"].get("stage") == "after",
        seconds=rest.PATIENCE,
    )
    mark = env.clusters.foreign.audit_mark()
    go = {"metadata": {"annotations": {"go": "yes"}}}
    await env.home.patch("pods", go, name="step", namespace=env.workspace.home)
    await env.seen("step", rest.phase("Succeeded"))
    assert await env.foreign.logs("step", namespace=env.workspace.foreign) == "after"
    mirror = await env.mirror(
        "step",
        lambda seen: seen is not None and not seen["metadata"].get("finalizers"),
        seconds=rest.PATIENCE,
    )
    assert mirror["metadata"]["labels"]["sidecar"] == "injected"
    assert "old" not in mirror["metadata"]["labels"]
    # One for the change, one for the finalizer at the end.
    assert (await patches(env, mark, count=2))["patch pods"] == 2


async def test_an_image_a_toleration_and_a_deadline_change(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=SETTINGS)
    second = realpods.container("second") | {"image": images.PAUSE}
    pod = realpods.pod(
        "web",
        restartPolicy="Always",
        containers=[realpods.container("main", "sleep", "inf"), second],
    )
    await env.create(realpods.bound(pod, env.node))
    await env.seen("web", rest.phase("Running"))
    mark = env.clusters.foreign.audit_mark()
    before = await env.home.get("pods", name="web", namespace=env.workspace.home)
    toleration = {"key": "example.org/gpu", "operator": "Exists"}
    change = {
        "spec": {
            "containers": [{"name": "second", "image": images.CLIENTS}],
            "tolerations": [*before["spec"]["tolerations"], toleration],
            "activeDeadlineSeconds": 40,
        }
    }
    changed = await env.home.patch(
        "pods", change, name="web", namespace=env.workspace.home, kind="strategic"
    )

    def restarted(seen: rest.Object | None) -> bool:
        status = (seen or {})["status"]
        _main, second = status["containerStatuses"]
        generation = changed["metadata"]["generation"]
        return bool(
            second["restartCount"] == 1
            and second["image"].endswith(images.CLIENTS)
            and status["observedGeneration"] == generation
        )

    seen = await env.seen("web", restarted)
    main, _second = seen["status"]["containerStatuses"]
    assert main["restartCount"] == 0
    mirror = await env.foreign.get("pods", name="web", namespace=env.workspace.foreign)
    assert toleration in mirror["spec"]["tolerations"]
    assert writes(env, mark) == {"patch pods": 1}
    ended = await env.seen("web", rest.phase("Failed"))
    assert ended["status"]["reason"] == "DeadlineExceeded"


async def test_a_change_that_a_foreign_policy_rejects_is_one_event(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=SETTINGS)
    await env.create(realpods.bound(waiting("step"), env.node))
    await env.seen("step", rest.phase("Running"))
    blocked_pod = realpods.pod("probe", "true")
    blocked_pod["metadata"]["labels"] = {BLOCKED: "yes"}
    async with rejecting(NOT_BLOCKED, env, example=blocked_pod):
        mark = env.clusters.foreign.audit_mark()
        blocked = {"metadata": {"labels": {BLOCKED: "yes"}}}
        await env.home.patch("pods", blocked, name="step", namespace=env.workspace.home)
        event = await realpods.event(
            env.home, "step", namespace=env.workspace.home, reason="ChangeRejected"
        )
        assert event["type"] == "Warning"
        assert "rejected the change of metadata.labels:" in event["message"]
        assert REJECTED in event["message"]
        await asyncio.sleep(3)
        assert writes(env, mark) == {"patch pods": 1}

        go = {"metadata": {"labels": {BLOCKED: None}, "annotations": {"go": "yes"}}}
        await env.home.patch("pods", go, name="step", namespace=env.workspace.home)
        await env.seen("step", rest.phase("Succeeded"))


def sized(cpu: str) -> rest.Object:
    """Resources of a container that has so much of a CPU."""
    amounts = {"cpu": cpu, "memory": "128Mi"}
    return {"requests": amounts, "limits": amounts}


def sleeper(name: str, cpu: str) -> rest.Object:
    """A pod with one container of this size."""
    main = realpods.container("main", "sleep", "inf") | {"resources": sized(cpu)}
    return realpods.pod(name, containers=[main])


def shows(cpu: str) -> Callable[[rest.Object | None], bool]:
    """The foreign kubelet has given its one container so much, and nothing is pending."""

    def check(seen: rest.Object | None) -> bool:
        status = (seen or {})["status"]
        (main,) = status.get("containerStatuses", [{}])
        pending = {one["type"] for one in status.get("conditions", ())} & RESIZING
        return bool(
            main.get("allocatedResources", {}).get("cpu") == cpu
            and main.get("resources", {}).get("limits", {}).get("cpu") == cpu
            and not pending
            and status["observedGeneration"] == (seen or {})["metadata"]["generation"]
        )

    return check


@pytest.mark.both_identities
async def test_a_container_is_resized_while_it_runs(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=SETTINGS)
    await env.create(realpods.bound(sleeper("web", "100m"), env.node))
    await env.seen("web", shows("100m"))
    mark = env.clusters.foreign.audit_mark()
    await resize(env, containers=[{"name": "main", "resources": sized("200m")}])
    seen = await env.seen("web", shows("200m"))
    assert seen["status"]["containerStatuses"][0]["restartCount"] == 0
    # The second one records the first one.
    assert writes(env, mark) == {"patch pods/resize": 1, "patch pods": 1}


async def test_resources_of_a_whole_pod_change(env: Environment, start_farlet: StartFarlet) -> None:
    await start_farlet(env.node, settings=SETTINGS)
    main = realpods.container("main", "sleep", "inf")
    del main["resources"]
    pod = realpods.pod("web", containers=[main], resources=sized("100m"))
    await env.create(realpods.bound(pod, env.node))

    def has(cpu: str) -> Callable[[rest.Object | None], bool]:
        def check(seen: rest.Object | None) -> bool:
            status = (seen or {})["status"]
            return bool(
                status.get("allocatedResources", {}).get("cpu") == cpu
                and status["resources"]["limits"]["cpu"] == cpu
            )

        return check

    await env.seen("web", has("100m"))
    await resize(env, resources=sized("200m"))
    await env.seen("web", has("200m"))
    mirror = await env.foreign.get("pods", name="web", namespace=env.workspace.foreign)
    assert mirror["spec"]["resources"] == sized("200m")


async def test_a_resize_that_a_foreign_policy_rejects_is_infeasible(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=SETTINGS)
    await env.create(realpods.bound(sleeper("web", "100m"), env.node))
    await env.seen("web", shows("100m"))

    def infeasible(seen: rest.Object | None) -> bool:
        found = [
            one
            for one in (seen or {})["status"]["conditions"]
            if one["type"] == "PodResizePending" and one["reason"] == "Infeasible"
        ]
        return bool(found and REJECTED in found[0]["message"])

    async with rejecting(SMALL, env, example=sleeper("probe", "2")):
        mark = env.clusters.foreign.audit_mark()
        await resize(env, containers=[{"name": "main", "resources": sized("2")}])
        seen = await env.seen("web", infeasible)
        assert seen["status"]["observedGeneration"] == seen["metadata"]["generation"]
        await asyncio.sleep(3)
        assert writes(env, mark) == {"patch pods/resize": 1}
        await resize(env, containers=[{"name": "main", "resources": sized("300m")}])
        await env.seen("web", shows("300m"))


async def resize(env: Environment, **spec: object) -> None:
    """`kubectl patch --subresource resize`."""
    await env.home.patch(
        "pods",
        {"spec": spec},
        name="web",
        namespace=env.workspace.home,
        subresource="resize",
        kind="strategic",
    )


def writes(env: Environment, mark: auditlog.Mark) -> collections.Counter[str]:
    """What farlet has written to pods of the foreign cluster since then."""
    return collections.Counter(
        f"{entry.verb} {'/'.join(filter(None, (entry.resource, entry.subresource)))}"
        for entry in env.clusters.foreign.audit(since=mark, user_agent="farlet/")
        if entry.resource == "pods" and entry.verb in {"create", "update", "patch", "delete"}
    )


async def patches(env: Environment, mark: auditlog.Mark, *, count: int) -> collections.Counter[str]:
    """As `writes`, once there are `count` patches: an event can arrive before it is audited."""
    for _ in range(100):
        if (found := writes(env, mark))["patch pods"] >= count:
            break
        await asyncio.sleep(0.1)
    return found


@contextlib.asynccontextmanager
async def rejecting(
    expression: str, env: Environment, *, example: rest.Object
) -> AsyncIterator[None]:
    """The foreign cluster rejects changes of pods that the expression does not allow."""
    name = f"changes-{secrets.token_hex(3)}"
    only = {"matchLabels": {"kubernetes.io/metadata.name": env.workspace.foreign}}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["pods", "pods/resize"],
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": only},
        "validations": [{"expression": expression, "message": REJECTED}],
    }
    await env.foreign.create(
        "validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec}
    )
    binding = {"policyName": name, "validationActions": ["Deny"]}
    await env.foreign.create(
        "validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding}
    )
    async with asyncio.timeout(60):
        while True:
            try:
                await env.foreign.create(
                    "pods", example, namespace=env.workspace.foreign, dryRun="All"
                )
            except rest.ApiError:
                break
            await asyncio.sleep(0.2)
    yield
    await env.foreign.delete("validatingadmissionpolicybindings", name=name)
    await env.foreign.delete("validatingadmissionpolicies", name=name)
