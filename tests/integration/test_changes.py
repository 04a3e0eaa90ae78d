"""Changes of pods that run: from the home cluster into a container of the foreign cluster."""

import asyncio
import collections
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable

import pytest

from clusters import auditlog, images, kwok, pair, rest
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(240)]

SETTINGS = {"foreign-node-labels": kwok.LABEL}
WAIT = "until [ $(cat /about/go) = yes ]; do sleep 0.2; done; cat /about/stage"
BLOCKED = "blocked"
REJECTED = "not in this cluster, please"
NOT_BLOCKED = f"!has(object.metadata.labels) || !('{BLOCKED}' in object.metadata.labels)"
SMALL = """object.spec.containers.all(c, !has(c.resources.limits) || !('cpu' in c.resources.limits)
|| quantity(c.resources.limits['cpu']).isLessThan(quantity('1')))"""
PATIENCE = 120.0
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
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    farlet = await start_farlet(node, settings=SETTINGS)
    await home.create("pods", realpods.bound(waiting("step"), node), namespace=workspace.home)
    await until(home, workspace, "step", rest.phase("Running"))
    injected = {"metadata": {"labels": {"sidecar": "injected"}}}
    await foreign.patch("pods", injected, name="step", namespace=workspace.foreign)

    farlet.kill()  # what changes while farlet does not run arrives, too
    labels = {"metadata": {"labels": {"stage": "after", "old": None}}}
    await home.patch("pods", labels, name="step", namespace=workspace.home)
    await farlet.restart()
    await foreign.until(
        "pods",
        lambda seen: seen is not None and seen["metadata"]["labels"].get("stage") == "after",
        name="step",
        namespace=workspace.foreign,
    )
    mark = clusters.foreign.audit_mark()
    go = {"metadata": {"annotations": {"go": "yes"}}}
    await home.patch("pods", go, name="step", namespace=workspace.home)
    await until(home, workspace, "step", rest.phase("Succeeded"))
    assert await foreign.logs("step", namespace=workspace.foreign) == "after"
    mirror = await foreign.until(
        "pods",
        lambda seen: seen is not None and not seen["metadata"].get("finalizers"),
        name="step",
        namespace=workspace.foreign,
    )
    assert mirror["metadata"]["labels"]["sidecar"] == "injected"
    assert "old" not in mirror["metadata"]["labels"]
    # One for the change, one for the finalizer at the end.
    assert writes(clusters, mark)["patch pods"] == 2


async def test_an_image_a_toleration_and_a_deadline_change(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings=SETTINGS)
    second = realpods.container("second") | {"image": images.PAUSE}
    pod = realpods.pod(
        "web",
        restartPolicy="Always",
        containers=[realpods.container("main", "sleep", "inf"), second],
    )
    await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)
    await until(home, workspace, "web", rest.phase("Running"))
    mark = clusters.foreign.audit_mark()
    before = await home.get("pods", name="web", namespace=workspace.home)
    toleration = {"key": "example.org/gpu", "operator": "Exists"}
    change = {
        "spec": {
            "containers": [{"name": "second", "image": images.CLIENTS}],
            "tolerations": [*before["spec"]["tolerations"], toleration],
            "activeDeadlineSeconds": 40,
        }
    }
    changed = await home.patch(
        "pods", change, name="web", namespace=workspace.home, kind="strategic"
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

    seen = await until(home, workspace, "web", restarted)
    main, _second = seen["status"]["containerStatuses"]
    assert main["restartCount"] == 0
    mirror = await foreign.get("pods", name="web", namespace=workspace.foreign)
    assert toleration in mirror["spec"]["tolerations"]
    assert writes(clusters, mark) == {"patch pods": 1}
    ended = await until(home, workspace, "web", rest.phase("Failed"))
    assert ended["status"]["reason"] == "DeadlineExceeded"


async def test_a_change_that_a_foreign_policy_rejects_is_one_event(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings=SETTINGS)
    await home.create("pods", realpods.bound(waiting("step"), node), namespace=workspace.home)
    await until(home, workspace, "step", rest.phase("Running"))
    blocked_pod = realpods.pod("probe", "true")
    blocked_pod["metadata"]["labels"] = {BLOCKED: "yes"}
    async with rejecting(NOT_BLOCKED, foreign, workspace, example=blocked_pod):
        mark = clusters.foreign.audit_mark()
        blocked = {"metadata": {"labels": {BLOCKED: "yes"}}}
        await home.patch("pods", blocked, name="step", namespace=workspace.home)
        event = await realpods.event(
            home, "step", namespace=workspace.home, reason="ChangeRejected"
        )
        assert event["type"] == "Warning"
        assert "rejected the change of metadata.labels:" in event["message"]
        assert REJECTED in event["message"]
        await asyncio.sleep(3)
        assert writes(clusters, mark) == {"patch pods": 1}

        go = {"metadata": {"labels": {BLOCKED: None}, "annotations": {"go": "yes"}}}
        await home.patch("pods", go, name="step", namespace=workspace.home)
        await until(home, workspace, "step", rest.phase("Succeeded"))


def sized(cpu: str) -> rest.Object:
    """Resources of a container that has so much of a CPU."""
    amounts = {"cpu": cpu, "memory": "128Mi"}
    return {"requests": amounts, "limits": amounts}


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
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings=SETTINGS)
    main = realpods.container("main", "sleep", "inf") | {"resources": sized("100m")}
    pod = realpods.pod("web", containers=[main])
    await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)
    await until(home, workspace, "web", shows("100m"))
    mark = clusters.foreign.audit_mark()
    await resize(home, workspace, containers=[{"name": "main", "resources": sized("200m")}])
    seen = await until(home, workspace, "web", shows("200m"))
    assert seen["status"]["containerStatuses"][0]["restartCount"] == 0
    # The second one records the first one.
    assert writes(clusters, mark) == {"patch pods/resize": 1, "patch pods": 1}


async def test_resources_of_a_whole_pod_change(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings=SETTINGS)
    main = realpods.container("main", "sleep", "inf")
    del main["resources"]
    pod = realpods.pod("web", containers=[main], resources=sized("100m"))
    await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)

    def has(cpu: str) -> Callable[[rest.Object | None], bool]:
        def check(seen: rest.Object | None) -> bool:
            status = (seen or {})["status"]
            return bool(
                status.get("allocatedResources", {}).get("cpu") == cpu
                and status["resources"]["limits"]["cpu"] == cpu
            )

        return check

    await until(home, workspace, "web", has("100m"))
    await resize(home, workspace, resources=sized("200m"))
    await until(home, workspace, "web", has("200m"))
    mirror = await foreign.get("pods", name="web", namespace=workspace.foreign)
    assert mirror["spec"]["resources"] == sized("200m")


async def test_a_resize_that_a_foreign_policy_rejects_is_infeasible(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings=SETTINGS)
    main = realpods.container("main", "sleep", "inf") | {"resources": sized("100m")}
    pod = realpods.pod("web", containers=[main])
    await home.create("pods", realpods.bound(pod, node), namespace=workspace.home)
    await until(home, workspace, "web", shows("100m"))

    def infeasible(seen: rest.Object | None) -> bool:
        found = [
            one
            for one in (seen or {})["status"]["conditions"]
            if one["type"] == "PodResizePending" and one["reason"] == "Infeasible"
        ]
        return bool(found and REJECTED in found[0]["message"])

    big = realpods.pod("probe", containers=[main | {"resources": sized("2")}])
    async with rejecting(SMALL, foreign, workspace, example=big):
        mark = clusters.foreign.audit_mark()
        await resize(home, workspace, containers=[{"name": "main", "resources": sized("2")}])
        seen = await until(home, workspace, "web", infeasible)
        assert seen["status"]["observedGeneration"] == seen["metadata"]["generation"]
        await asyncio.sleep(3)
        assert writes(clusters, mark) == {"patch pods/resize": 1}
        await resize(home, workspace, containers=[{"name": "main", "resources": sized("300m")}])
        await until(home, workspace, "web", shows("300m"))


async def resize(home: rest.Api, workspace: Workspace, **spec: object) -> None:
    """`kubectl patch --subresource resize`."""
    await home.patch(
        "pods",
        {"spec": spec},
        name="web",
        namespace=workspace.home,
        subresource="resize",
        kind="strategic",
    )


def writes(clusters: pair.Clusters, mark: auditlog.Mark) -> collections.Counter[str]:
    """What farlet has written to pods of the foreign cluster since then."""
    return collections.Counter(
        f"{entry.verb} {'/'.join(filter(None, (entry.resource, entry.subresource)))}"
        for entry in clusters.foreign.audit(since=mark, user_agent="farlet/")
        if entry.resource == "pods" and entry.verb in {"create", "update", "patch", "delete"}
    )


async def until(
    home: rest.Api,
    workspace: Workspace,
    name: str,
    check: Callable[[rest.Object | None], bool],
) -> rest.Object:
    return await home.until("pods", check, name=name, namespace=workspace.home, seconds=PATIENCE)


@contextlib.asynccontextmanager
async def rejecting(
    expression: str, foreign: rest.Api, workspace: Workspace, *, example: rest.Object
) -> AsyncIterator[None]:
    """The foreign cluster rejects changes of pods that the expression does not allow."""
    name = f"changes-{secrets.token_hex(3)}"
    only = {"matchLabels": {"kubernetes.io/metadata.name": workspace.foreign}}
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
    await foreign.create("validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
    binding = {"policyName": name, "validationActions": ["Deny"]}
    await foreign.create(
        "validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding}
    )
    async with asyncio.timeout(60):
        while True:
            try:
                await foreign.create("pods", example, namespace=workspace.foreign, dryRun="All")
            except rest.ApiError:
                break
            await asyncio.sleep(0.2)
    yield
    await foreign.delete("validatingadmissionpolicybindings", name=name)
    await foreign.delete("validatingadmissionpolicies", name=name)
