"""The demo: five pods, their states, and the API that each of them reaches."""

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
    """One pod of the demo; all have the same spec."""

    name: str
    intent: str
    access: str | None = None
    account: str | None = None
    runs: bool = True


PODS = [
    Example("plain", "the home API, as in the home cluster"),
    Example("remote", "the foreign API, where it runs", access="remote"),
    Example("disabled", "no API at all", access="disabled"),
    Example(
        "guest",
        "as remote, with an account that does not exist yet",
        access="remote",
        account=GUEST,
    ),
    Example("mistyped", "remote, but misspelled", access="rmote", runs=False),
]


@dataclasses.dataclass(frozen=True)
class Environment:
    """The clusters and namespaces of the demo."""

    clusters: pair.Clusters
    home: rest.Api
    foreign: rest.Api
    spaces: workspace.Workspace
    screen: Screen


async def run(clusters: pair.Clusters, screen: Screen) -> None:
    """Run the demo; pods, namespaces and farlet are removed at its end."""
    async with _environment(clusters, screen) as env:
        _print_introduction(env)
        screen.title("Live, as the home cluster shows it")
        screen.begin()
        for example in PODS:
            await env.home.create("pods", manifest(example), namespace=NAMESPACE)
        following = asyncio.create_task(_follow(env))
        try:
            await _drive(env)
        finally:
            following.cancel()
        await _print_results(env)
        await _clean_up(env)


def manifest(example: Example) -> rest.Object:
    """A pod as its owner writes it."""
    wanted = {ACCESS: example.access, ACCOUNT: example.account}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": example.name,
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
async def _environment(clusters: pair.Clusters, screen: Screen) -> AsyncIterator[Environment]:
    async with clusters.home.api() as home, clusters.foreign.api() as foreign:
        spaces = await workspace.create(home, foreign, name=NAMESPACE)
        await workspace.create_farlet_namespace(foreign)
        await workspace.allow_listing_pods(home, namespace=spaces.home)
        for account in ("default", GUEST):
            await workspace.allow_listing_pods(foreign, namespace=spaces.foreign, account=account)
        # Pods select the real foreign node by this label; the virtual node needs it too.
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


def _print_introduction(env: Environment) -> None:
    screen, clusters = env.screen, env.clusters
    screen.title("Two Kubernetes clusters on this machine")
    screen.table(
        [
            ("home", clusters.home.server, "where pods are created"),
            ("foreign", clusters.foreign.server, "where they run, in real containers"),
            ("farlet", f'node "{NODE}"', "represents the foreign cluster in home"),
        ]
    )
    screen.title(f'Five pods for node "{NODE}"')
    screen.text(
        "Each runs the same program, built with client-go, which asks its API server: who am I? "
        f"Only their annotations differ, {ACCESS} and {ACCOUNT}:"
    )
    screen.line()
    screen.table(
        [
            ("pod", "support", "account-name", "intended API"),
            *((one.name, one.access or "-", one.account or "-", one.intent) for one in PODS),
        ]
    )


async def _drive(env: Environment) -> None:
    """Wait for the pods, then create the account for which one of them waits."""
    for example in PODS:
        done = rest.reason("InvalidAPIServerSupport") if not example.runs else rest.phase("Running")
        if example.account is not None:
            done = rest.reason("ServiceAccountNotFound")
        await env.home.until("pods", done, name=example.name, namespace=NAMESPACE, seconds=SOON)
    await asyncio.sleep(1)  # so that viewers see it wait
    namespace = env.spaces.foreign
    env.screen.act(
        f"kubectl --context=foreign create serviceaccount {GUEST} --namespace={namespace}"
    )
    # The same as kubectl, whose build would take half a minute.
    await env.foreign.create("serviceaccounts", {"metadata": {"name": GUEST}}, namespace=namespace)
    await env.home.until(
        "pods", rest.phase("Running"), name=GUEST, namespace=NAMESPACE, seconds=SOON
    )
    await asyncio.sleep(0.3)  # until its line is printed


async def _follow(env: Environment) -> None:
    """Print every change of a pod's status in the home cluster."""
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
            where = f"on {mirror['spec']['nodeName']}, in namespace {env.spaces.foreign}"
            env.screen.moment(name, state[0], where)


async def _print_results(env: Environment) -> None:
    env.screen.title("Results")
    rows = [(example.name, *(await _result(env, example))) for example in PODS]
    env.screen.table([("pod", "cluster", "address", "who am I"), *rows])
    if env.clusters.home.parts is not None:
        env.screen.line()
        env.screen.text("The cluster is the one whose audit log contains the pod's request.")


async def _result(env: Environment, example: Example) -> tuple[str, str, str]:
    """Cluster, address, and the user name or error."""
    if not example.runs:
        return "none", "-", "it never ran: an unknown value grants no access"
    deadline = time.monotonic() + SOON
    output = ""
    while not output.endswith("\n") and time.monotonic() < deadline:
        output = await env.foreign.logs(example.name, namespace=env.spaces.foreign)
        await asyncio.sleep(0.1)
    line = json.loads(output)
    if line["error"] is not None:
        return "none", "-", line["error"]
    return _used_cluster(env, line), line["host"], line["username"]


def _used_cluster(env: Environment, line: rest.Object) -> str:
    """The cluster that received the request; for existing clusters, the one with this address."""
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


async def _clean_up(env: Environment) -> None:
    begun = time.monotonic()
    for example in PODS:
        await env.home.delete("pods", name=example.name, namespace=NAMESPACE)
    for api, namespace in ((env.home, NAMESPACE), (env.foreign, env.spaces.foreign)):
        for example in PODS:
            await api.until("pods", rest.gone, name=example.name, namespace=namespace, seconds=SOON)
    seconds = time.monotonic() - begun
    env.screen.title("Cleanup")
    env.screen.text(
        f"The pods were deleted in home; {seconds:.1f} s later nothing of them was left on either "
        "cluster."
    )
