"""kubectl logs on a pod of the virtual node, with all its options."""

import asyncio
import datetime
import re

import pytest

from clusters import rest
from integration import realpods, streaming
from integration.streaming import Far

pytestmark = [pytest.mark.clusters, pytest.mark.core]

SPEAKS = 'for i in 1 2 3 4 5; do echo "out $i"; echo "err $i" >&2; sleep 0.2; done; sleep infinity'
BIRTH = "echo born $(cat /proc/sys/kernel/random/uuid)"


def named(name: str, script: str) -> rest.Object:
    return realpods.container(name, "bash", "-c", script)


async def test_logs_are_limited_as_requested(far: Far) -> None:
    await far.pod("web", "bash", "-c", SPEAKS)
    kubectl = far.kubectl()
    async with kubectl.running("logs", "-f", "web") as process:
        assert process.stdout is not None
        seen = {(await process.stdout.readline()).decode().strip() for _ in range(10)}
    words = {f"{kind} {n}" for kind in ("out", "err") for n in range(1, 6)}
    assert seen == words

    every = await kubectl.run("logs", "web")
    assert (every.code, set(every.out.decode().split("\n"))) == (0, words | {""})
    tail = await kubectl.run("logs", "web", "--tail=2")
    assert tail.out.decode().count("\n") == 2
    assert (await kubectl.run("logs", "web", "--tail=0")).out == b""
    limited = await kubectl.run("logs", "web", "--limit-bytes=7")
    assert len(limited.out) == 7
    stamped = (await kubectl.run("logs", "web", "--timestamps", "--tail=1")).out.decode()
    stamp, _, _ = stamped.partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", stamp)
    since = await kubectl.run("logs", "web", f"--since-time={stamp}")  # only whole seconds count
    assert stamped.partition(" ")[2] in since.out.decode()
    future = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    assert (
        await kubectl.run("logs", "web", f"--since-time={future:%Y-%m-%dT%H:%M:%SZ}")
    ).out == b""
    assert (await kubectl.run("logs", "web", "--since=1h")).out == every.out


async def test_logs_of_every_container_and_of_the_previous_run(far: Far) -> None:
    born_twice = named("twice", f"{BIRTH}; [ -e /data/once ] && sleep infinity; touch /data/once")
    born_twice["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    await far.pod(
        "web",
        containers=[named("one", "echo I am one; sleep infinity"), born_twice],
        initContainers=[named("first", "echo I was first")],
        restartPolicy="Always",
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    kubectl = far.kubectl()
    await far.prints("web", "I am one", container="one")
    assert (await kubectl.run("logs", "web", "-c", "first")).out == b"I was first\n"
    together = (await kubectl.run("logs", "web", "--all-containers", "--prefix")).out.decode()
    assert {"[pod/web/first] I was first", "[pod/web/one] I am one"} <= set(together.split("\n"))
    await far.home.until("pods", _again, name="web", namespace=far.workspace.home, seconds=180)
    await far.prints("web", "born", container="twice")
    now = await kubectl.run("logs", "web", "-c", "twice")
    before = await kubectl.run("logs", "web", "-c", "twice", "--previous")
    assert now.out.startswith(b"born")
    assert before.out.startswith(b"born")
    assert now.out != before.out
    never = await kubectl.run("logs", "web", "-c", "one", "--previous")
    assert never.code != 0
    assert 'previous terminated container "one" in pod "web" not found' in never.err


def _again(seen: rest.Object | None) -> bool:
    statuses = seen["status"]["containerStatuses"] if seen is not None else []
    return any(s["restartCount"] == 1 and "running" in s["state"] for s in statuses)


async def test_followed_logs_end_with_the_container(far: Far) -> None:
    await far.create("job", "bash", "-c", "for i in 1 2 3; do echo $i; sleep 0.5; done")
    await far.home.until(
        "pods", rest.phase("Running", "Succeeded"), name="job", namespace=far.workspace.home
    )
    followed = await far.kubectl().run("logs", "-f", "job")
    assert (followed.code, followed.out) == (0, b"1\n2\n3\n")
    await far.home.until("pods", rest.phase("Succeeded"), name="job", namespace=far.workspace.home)
    assert (await far.kubectl().run("logs", "job")).out == b"1\n2\n3\n"


async def test_a_line_appears_as_soon_as_it_is_written_even_after_a_pause(far: Far) -> None:
    await far.pod(
        "web",
        "bash",
        "-c",
        'while read line; do echo "$line"; done < <(tail -f /tmp/in)',
        containers=[named("main", "touch /tmp/in; tail -f /tmp/in")],
    )
    kubectl = far.kubectl()
    async with kubectl.running("logs", "-f", "web") as process:
        assert process.stdout is not None
        await asyncio.sleep(7)  # longer than any keepalive
        for word in ("one", "two"):
            said = await kubectl.run("exec", "web", "--", "bash", "-c", f"echo {word} >> /tmp/in")
            assert said.code == 0, said.err
            async with asyncio.timeout(60):
                assert await process.stdout.readline() == f"{word}\n".encode()


async def test_logs_of_a_pod_that_does_not_run_fail_with_the_wording_of_a_kubelet(far: Far) -> None:
    await far.create("stuck", containers=[{"name": "main", "image": "no.example/no:1"}])
    kubectl = far.kubectl()

    def pulling(seen: rest.Object | None) -> bool:
        statuses = seen["status"].get("containerStatuses", []) if seen is not None else []
        return any("Pull" in s["state"].get("waiting", {}).get("reason", "") for s in statuses)

    await far.home.until("pods", pulling, name="stuck", namespace=far.workspace.home)
    result = await kubectl.run("logs", "stuck")
    assert result.code != 0
    assert 'container "main" in pod "stuck" is waiting to start:' in result.err

    refused = realpods.bound(realpods.pod("refused", *streaming.STAYS), far.node)
    refused["metadata"]["annotations"] = {realpods.ACCESS: "nonsense"}
    await far.home.create("pods", refused, namespace=far.workspace.home)
    await far.home.until(
        "pods",
        rest.reason("InvalidAPIServerSupport"),
        name="refused",
        namespace=far.workspace.home,
    )
    result = await kubectl.run("logs", "refused")
    assert (
        'container "main" in pod "refused" is waiting to start: InvalidAPIServerSupport'
    ) in result.err
