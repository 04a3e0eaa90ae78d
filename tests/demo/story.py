"""Five pods, what happens to them, and what each finds."""

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator

from clusters import farlet, images, kwok, pair, rest, virtualnode, workspace
from demo.screen import Screen

ACCESS = "liqo.io/api-server-support"
ACCOUNT = "liqo.io/remote-service-account-name"
NODE = "virtual"
NAMESPACE = "demo"
GUEST = "guest"
SOON = 60.0  # more than enough on a busy machine


@dataclasses.dataclass(frozen=True)
class Example:
    """One pod of the story; all share one spec."""

    name: str
    wish: str
    access: str | None = None
    account: str | None = None
    runs: bool = True


PODS = [
    Example("plain", "the API of home, as if it had never left"),
    Example("remote", "the API of foreign, where it runs", access="remote"),
    Example("disabled", "no API at all", access="disabled"),
    Example(
        "guest", "as remote, by an account that is not there yet", access="remote", account=GUEST
    ),
    Example("mistyped", "remote, but for a slip of the finger", access="rmote", runs=False),
]


@dataclasses.dataclass(frozen=True)
class Environment:
    """Where the story plays."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    spaces: workspace.Workspace
    screen: Screen


async def tell(clusters: pair.Clusters, screen: Screen) -> None:
    """The whole story; pods, namespaces and farlet are gone at its end."""
    async with _stage(clusters, screen) as env:
        _introduce(env)
        screen.title("At home, as it happens")
        screen.begin()
        for cast in PODS:
            await env.home.create("pods", manifest(cast), namespace=NAMESPACE)
        following = asyncio.create_task(_follow(env))
        try:
            await _play(env)
        finally:
            following.cancel()
        await _found(env)
        await _leave(env)


def manifest(cast: Example) -> rest.Object:
    """A pod as its owner writes it."""
    wanted = {ACCESS: cast.access, ACCOUNT: cast.account}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": cast.name,
            "annotations": {key: value for key, value in wanted.items() if value is not None},
        },
        "spec": {
            "nodeSelector": {"type": "virtual-kubelet", kwok.LABEL: "real"},
            "tolerations": [{"key": virtualnode.TAINT, "operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": images.CLIENT_GO,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/client-go", "stay"],
                }
            ],
        },
    }


@contextlib.asynccontextmanager
async def _stage(clusters: pair.Clusters, screen: Screen) -> AsyncIterator[Environment]:
    async with clusters.home.api() as home, clusters.foreign.api() as foreign:
        spaces = await workspace.create(home, foreign, name=NAMESPACE)
        await workspace.create_farlet_namespace(foreign)
        await workspace.allow_listing_pods(home, namespace=spaces.home)
        for account in ("default", GUEST):
            await workspace.allow_listing_pods(foreign, namespace=spaces.foreign, account=account)
        # Pods name the real node abroad by this label; home's scheduler must find it here too.
        label = {"node-labels": f"{kwok.LABEL}=real", "foreign-node-labels": kwok.LABEL}
        process = farlet.create(clusters, node=NODE, settings=label)
        process.start()
        try:
            await process.ready()
            yield Environment(clusters, home, foreign, spaces, screen)
        finally:
            await process.stop()
            await workspace.delete(home, foreign, spaces)
            await home.delete("nodes", name=NODE)


def _introduce(env: Environment) -> None:
    screen, clusters = env.screen, env.clusters
    screen.title("Two Kubernetes clusters on this machine")
    screen.table(
        [
            ("home", clusters.home.server, "where pods are asked for"),
            ("foreign", clusters.foreign.server, "where they run, in real containers"),
            ("farlet", f'node "{NODE}"', "is the foreign cluster, as home sees it"),
        ]
    )
    screen.title(f'Five pods for node "{NODE}"')
    screen.text(
        "Each runs the same program, made with Kubernetes' own client-go, that asks: who am I, and "
        f"on which cluster? Only their annotations differ, {ACCESS} and {ACCOUNT}:"
    )
    screen.line()
    screen.table(
        [
            ("pod", "support", "account-name", "what its owner wants"),
            *((one.name, one.access or "-", one.account or "-", one.wish) for one in PODS),
        ]
    )


async def _play(env: Environment) -> None:
    """Wait for what needs no help, then help the one that waits."""
    for cast in PODS:
        done = rest.reason("InvalidAPIServerSupport") if not cast.runs else rest.phase("Running")
        if cast.account is not None:
            done = rest.reason("ServiceAccountNotFound")
        await env.home.until("pods", done, name=cast.name, namespace=NAMESPACE, seconds=SOON)
    await asyncio.sleep(1)  # to be seen waiting
    namespace = env.spaces.foreign
    env.screen.act(
        f"kubectl --context=foreign create serviceaccount {GUEST} --namespace={namespace}"
    )
    # What kubectl would do; building it takes half a minute.
    await env.foreign.create("serviceaccounts", {"metadata": {"name": GUEST}}, namespace=namespace)
    await env.home.until(
        "pods", rest.phase("Running"), name=GUEST, namespace=NAMESPACE, seconds=SOON
    )
    await asyncio.sleep(0.3)  # for the line that tells it


async def _follow(env: Environment) -> None:
    """Tell every change of what home shows of a pod."""
    shown: dict[str, tuple[str, str]] = {}
    async for _, pod in env.home.watch("pods", namespace=NAMESPACE, resourceVersion="0"):
        name, status = pod["metadata"]["name"], pod["status"]
        reason = status.get("reason", "")
        state = (status.get("phase", "Pending"), reason)
        if shown.get(name) == state or state == ("Pending", ""):
            continue
        shown[name] = state
        if reason:
            env.screen.moment(name, state[0], f"{reason}: {status['message']}")
        else:
            mirror = await env.foreign.get("pods", name=name, namespace=env.spaces.foreign)
            where = f"on {mirror['spec']['nodeName']}, in namespace {env.spaces.foreign} there"
            env.screen.moment(name, state[0], where)


async def _found(env: Environment) -> None:
    env.screen.title("What each pod found")
    rows = [(cast.name, *(await _of(env, cast))) for cast in PODS]
    env.screen.table([("pod", "cluster", "address", "who am I"), *rows])
    if env.clusters.home.parts is not None:
        env.screen.line()
        env.screen.text("The cluster is the one whose audit log has the pod's request.")


async def _of(env: Environment, cast: Example) -> tuple[str, str, str]:
    """Cluster, address, and the answer."""
    if not cast.runs:
        return "none", "-", "it never ran: nobody guesses what its owner meant"
    deadline = time.monotonic() + SOON
    output = ""
    while not output.endswith("\n") and time.monotonic() < deadline:
        output = await env.foreign.logs(cast.name, namespace=env.spaces.foreign)
        await asyncio.sleep(0.1)
    line = json.loads(output)
    if line["error"] is not None:
        return "none", "-", line["error"]
    return _asked(env, line), line["host"], line["username"]


def _asked(env: Environment, line: rest.Object) -> str:
    """The cluster that saw the request; for given clusters, the one at that address."""
    if env.clusters.home.parts is None:
        host, port = env.clusters.home_api_in_foreign
        return "home" if line["host"] == f"https://{host}:{port}" else "foreign"
    (uid,) = line["extra"]["authentication.kubernetes.io/pod-uid"]
    found = [
        cluster.name
        for cluster in (env.clusters.home, env.clusters.foreign)
        for entry in cluster.audit(user=line["username"], verb="list", resource="pods")
        if entry.raw["user"].get("extra", {}).get("authentication.kubernetes.io/pod-uid") == [uid]
    ]
    return " and ".join(dict.fromkeys(found))


async def _leave(env: Environment) -> None:
    begun = time.monotonic()
    for cast in PODS:
        await env.home.delete("pods", name=cast.name, namespace=NAMESPACE)
    for api, namespace in ((env.home, NAMESPACE), (env.foreign, env.spaces.foreign)):
        for cast in PODS:
            await api.until("pods", rest.gone, name=cast.name, namespace=namespace, seconds=SOON)
    seconds = time.monotonic() - begun
    env.screen.title("The end")
    env.screen.text(
        f"The pods were deleted at home; {seconds:.1f} s later nothing of them was left on either "
        "cluster."
    )
