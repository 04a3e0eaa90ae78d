"""Ordinary workloads in the foreign cluster, created and watched through the home API only.

Home's own controllers make the pods and its scheduler places them, and the containers are real.
"""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest

from clusters import images, kwok, rest
from clusters.kubectl import Kubectl
from conftest import StartFarlet
from faults.environment import Environment
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(170)]

DEPLOYMENTS = "apps/v1/deployments"
JOBS = "batch/v1/jobs"
CRON_JOBS = "batch/v1/cronjobs"
FAILING = 7
SECONDS = 240
SHOW = "while true; do echo mode=$MODE file=$(cat /app/mode) key=$(cat /key/key); sleep 0.3; done"
GROW = """
import pathlib, signal, time
again = pathlib.Path("/shared/again")
if not again.exists():
    again.touch()
    taken = bytearray(256 << 20)
print("initialised:", pathlib.Path("/shared/ready").read_text(), flush=True)
signal.signal(signal.SIGTERM, lambda *_: exit(0))
while True:
    time.sleep(0.1)
"""


def template(node: str, *containers: rest.Object, **spec: Any) -> rest.Object:
    """A pod template for the virtual node, and for a real node behind it."""
    selector = {kwok.LABEL: "real", "kubernetes.io/hostname": node}
    wanted = realpods.pod("none", nodeSelector=selector, containers=[*containers], **spec)
    return {"metadata": {"labels": {"app": "shop"}}, "spec": wanted["spec"]}


def deployed(generation: int, count: int) -> Callable[[rest.Object | None], bool]:
    """All pods of this generation of a Deployment are available, and no others are left."""

    def reached(seen: rest.Object | None) -> bool:
        status = (seen or {}).get("status", {})
        counts = {status.get(f"{name}Replicas", 0) for name in ("updated", "available")}
        return (
            status.get("observedGeneration", 0) >= generation
            and counts | {status.get("replicas", 0)} == {count}
        )  # fmt: skip

    return reached


async def test_a_deployment_follows_its_config_map_and_secret_and_is_rolled_over(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=realpods.AS_REAL)
    await _put(env, "configmaps", "app", {"mode": "one"})
    await _put(env, "secrets", "key", {"key": _encoded("first")})
    mounts = [{"name": "app", "mountPath": "/app"}, {"name": "key", "mountPath": "/key"}]
    main = realpods.container(
        "main", "bash", "-c", SHOW,
        volumeMounts=mounts,
        env=[{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "mode"}}}],
        readinessProbe={"exec": {"command": ["test", "-s", "/key/key"]}, "periodSeconds": 1},
    )  # fmt: skip
    volumes = [
        {"name": "app", "configMap": {"name": "app"}},
        {"name": "key", "secret": {"secretName": "key"}},
    ]
    deployment = {
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "shop"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template(env.node, main, volumes=volumes, restartPolicy="Always"),
        },
    }
    made = await env.home.create(DEPLOYMENTS, deployment, namespace=env.workspace.home)
    await _until(env, DEPLOYMENTS, deployed(made["metadata"]["generation"], 2))

    await _change(env, "configmaps", "app", {"mode": "two"})
    await _change(env, "secrets", "key", {"key": _encoded("second")})
    kubectl = Kubectl.of(env.clusters.home, env.workspace.home)
    for name in await _pods(env):
        await kubectl.until_printed(name, "mode=one file=two key=second")

    unavailable = asyncio.create_task(_unavailable(env))
    annotations = {"metadata": {"annotations": {"restarted": "yes"}}}
    changed = await env.home.patch(
        DEPLOYMENTS, {"spec": {"template": annotations}}, name="shop", namespace=env.workspace.home
    )
    await _until(env, DEPLOYMENTS, deployed(changed["metadata"]["generation"], 2))
    unavailable.cancel()
    assert not unavailable.done() or unavailable.cancelled(), unavailable
    for name in await _pods(env):
        await kubectl.until_printed(name, "mode=two file=two key=second")

    left = await env.home.list("pods", namespace=env.workspace.home)
    await env.home.delete(DEPLOYMENTS, name="shop", namespace=env.workspace.home)
    for pod in left:
        await env.seen(pod["metadata"]["name"], rest.gone, seconds=rest.PATIENCE)
    # An API server deletes a pod that has ended at once, before farlet has deleted its mirror.
    for mirror in await env.foreign.list("pods", namespace=env.workspace.foreign):
        gone = {"name": mirror["metadata"]["name"], "namespace": env.workspace.foreign}
        await env.foreign.until("pods", rest.gone, **gone)


async def test_a_pod_of_a_deployment_is_debugged_and_resized_while_it_runs(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=realpods.AS_REAL)
    main = realpods.container("main", "sleep", "inf") | {"resources": _sized("100m")}
    deployment = {
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": template(env.node, main, restartPolicy="Always"),
        },
    }
    made = await env.home.create(DEPLOYMENTS, deployment, namespace=env.workspace.home)
    await _until(env, DEPLOYMENTS, deployed(made["metadata"]["generation"], 1))
    (name,) = await _pods(env)

    kubectl = Kubectl.of(env.clusters.home, env.workspace.home)
    debugged = await kubectl.run(
        "debug", name, f"--image={images.CLIENTS}", "-c", "shell", "--profile=baseline",
        "--target=main", "--", "bash", "-c", "echo pid=$$ in $HOSTNAME; sleep inf",
    )  # fmt: skip
    assert debugged.code == 0, debugged.err
    await env.seen(name, _debugged, seconds=SECONDS)
    await kubectl.until_printed(name, "pid=", container="shell")
    shown = await kubectl.run("exec", name, "-c", "shell", "--", "cat", "/proc/1/cmdline")
    assert shown.out.decode().split("\0")[:2] == ["sleep", "inf"], "it sees the processes of main"

    before = await env.home.get("pods", name=name, namespace=env.workspace.home)
    await env.home.patch(
        "pods",
        {"spec": {"containers": [{"name": "main", "resources": _sized("200m")}]}},
        name=name,
        namespace=env.workspace.home,
        subresource="resize",
        kind="strategic",
    )
    resized = await env.seen(name, _has_cpu("200m"), seconds=SECONDS)
    (status,) = resized["status"]["containerStatuses"]
    assert status["restartCount"] == 0
    assert resized["metadata"]["uid"] == before["metadata"]["uid"]
    assert _debugged(resized), "the second container still runs"
    assert await _pods(env) == [name]
    await _until(env, DEPLOYMENTS, deployed(made["metadata"]["generation"], 1))


async def test_jobs_and_cron_jobs_end_as_on_a_machine(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=realpods.AS_REAL)
    once = template(env.node, realpods.container("main", "true"))
    await env.home.create(
        CRON_JOBS,
        {
            "metadata": {"name": "nightly"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}},
        },
        namespace=env.workspace.home,
    )
    script = f'test "$JOB_COMPLETION_INDEX" != {FAILING}'
    wanted = template(env.node, realpods.container("main", "bash", "-c", script))
    await env.home.create(
        JOBS,
        {
            "metadata": {"name": "shop"},
            "spec": {
                "completionMode": "Indexed",
                "completions": 20,
                "parallelism": 20,
                "backoffLimitPerIndex": 1,
                "template": wanted,
            },
        },
        namespace=env.workspace.home,
    )
    ended = await _until(env, JOBS, _ended)
    assert ended["status"]["completedIndexes"] == "0-6,8-19"
    assert ended["status"]["failedIndexes"] == str(FAILING)
    assert (ended["status"]["succeeded"], ended["status"]["failed"]) == (19, 2)

    await _until(
        env,
        CRON_JOBS,
        lambda seen: bool(seen and seen["status"].get("lastSuccessfulTime")),
        name="nightly",
    )


async def test_a_pod_with_init_container_sidecar_probes_and_hooks_is_killed_for_its_memory(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node, settings=realpods.AS_REAL)
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    init = realpods.container("init", "bash", "-c", "echo -n yes > /shared/ready", **shared)
    sidecar = realpods.container(
        "sidecar", "bash", "-c", "touch /up; sleep 3600",
        restartPolicy="Always",
        startupProbe={"exec": {"command": ["test", "-e", "/up"]}, "periodSeconds": 1},
        **shared,
    )  # fmt: skip
    main = realpods.container(
        "main", "python3", "-c", GROW,
        resources={"limits": {"memory": "64Mi"}},
        lifecycle={
            "postStart": {"exec": {"command": ["touch", "/started"]}},
            "preStop": {"exec": {"command": ["bash", "-c", "echo stopping > /proc/1/fd/1"]}},
        },
        readinessProbe={"exec": {"command": ["test", "-e", "/started"]}, "periodSeconds": 1},
        livenessProbe={"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 5},
        **shared,
    )  # fmt: skip
    pod = template(
        env.node, main,
        initContainers=[init, sidecar],
        volumes=[{"name": "shared", "emptyDir": {}}],
        restartPolicy="Always",
        terminationGracePeriodSeconds=20,
    )  # fmt: skip
    pod["metadata"]["name"] = "shop"
    await env.create(pod)

    ready = await env.seen("shop", _restarted, seconds=SECONDS)
    (status,) = ready["status"]["containerStatuses"]
    before = status["lastState"]["terminated"]
    assert (status["restartCount"], before["reason"], before["exitCode"]) == (1, "OOMKilled", 137)
    first, second = ready["status"]["initContainerStatuses"]
    assert first["state"]["terminated"]["exitCode"] == 0
    assert (second["started"], second["restartCount"]) == (True, 0)

    kubectl = Kubectl.of(env.clusters.home, env.workspace.home)
    log = asyncio.create_task(kubectl.run("logs", "shop", "-c", "main", "--follow"))
    await kubectl.until_printed("shop", "initialised: yes")
    await env.delete("shop")
    await env.seen("shop", rest.gone, seconds=SECONDS)
    assert (await log).out.decode().splitlines() == ["initialised: yes", "stopping"]


def _sized(cpu: str) -> rest.Object:
    amounts = {"cpu": cpu, "memory": "128Mi"}
    return {"requests": amounts, "limits": amounts}


def _has_cpu(amount: str) -> Callable[[rest.Object | None], bool]:
    """The foreign kubelet has given its main container so much."""

    def check(seen: rest.Object | None) -> bool:
        statuses = (seen or {}).get("status", {}).get("containerStatuses", ())
        return any(
            one.get("resources", {}).get("limits", {}).get("cpu") == amount for one in statuses
        )

    return check


def _debugged(seen: rest.Object | None) -> bool:
    """Its ephemeral container runs."""
    statuses = (seen or {}).get("status", {}).get("ephemeralContainerStatuses", ())
    return any("running" in one["state"] for one in statuses)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def _put(env: Environment, kind: str, name: str, data: dict[str, str]) -> None:
    body = {"metadata": {"name": name}, "data": data}
    await env.home.create(kind, body, namespace=env.workspace.home)


async def _change(env: Environment, kind: str, name: str, data: dict[str, str]) -> None:
    await env.home.patch(kind, {"data": data}, name=name, namespace=env.workspace.home)


async def _until(
    env: Environment,
    kind: str,
    reached: Callable[[rest.Object | None], bool],
    *,
    name: str = "shop",
) -> rest.Object:
    return await env.home.until(
        kind, reached, name=name, namespace=env.workspace.home, seconds=SECONDS
    )


async def _pods(env: Environment) -> list[str]:
    """The names of pods that are not being deleted."""
    found = await env.home.list("pods", namespace=env.workspace.home, labelSelector="app=shop")
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


async def _unavailable(env: Environment) -> None:
    """Raise an error once the Deployment has fewer available pods than it wants."""
    async for _, seen in env.home.watch(DEPLOYMENTS, namespace=env.workspace.home):
        available = seen.get("status", {}).get("availableReplicas", 0)
        assert available >= seen["spec"]["replicas"], seen["status"]


def _ended(job: rest.Object | None) -> bool:
    conditions = (job or {}).get("status", {}).get("conditions", ())
    return any(
        one["type"] in {"Complete", "Failed"} and one["status"] == "True" for one in conditions
    )


def _restarted(pod: rest.Object | None) -> bool:
    """It is ready after its main container was started a second time."""
    statuses = (pod or {}).get("status", {}).get("containerStatuses", ())
    return rest.ready(pod) and any(one["restartCount"] == 1 for one in statuses)
