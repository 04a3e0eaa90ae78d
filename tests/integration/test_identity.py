"""What a pod reads of itself, compared with what a kubelet at home gives it.

The same pod runs on the real home node and, through farlet, on the real foreign one. In mode
`remote` it is a native pod of the foreign cluster.
"""

import asyncio
import re
import time

import pytest

from clusters import rest
from conftest import StartFarlet
from faults.environment import Environment
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

SOON_SECONDS = 5.0
"""From a change at home until the container reads it, at most."""

PRINT = """
import json, pathlib, time
before = None
while True:
    files = {path.name: path.read_text() for path in sorted(pathlib.Path("/info").glob("[!.]*"))}
    if files != before:
        print(json.dumps(files), flush=True)
    before = files
    time.sleep(0.1)
"""
LABELS = {"app": "reader", "istio.io/rev": "stable"}
ANNOTATIONS = {
    "team": 'pay"ments\\\n',
    "text": "Grüße, 世界 \u00a0\u2028\x01",
    "iam.amazonaws.com/role": "reader",
    "kubectl.kubernetes.io/last-applied-configuration": "{}",
}
FIELDS = {
    "labels": "metadata.labels",
    "annotations": "metadata.annotations",
    "one": "metadata.labels['app']",
    "kept": "metadata.annotations['iam.amazonaws.com/role']",
    "namespace": "metadata.namespace",
}


def reader(name: str, *, mode: str) -> rest.Object:
    """A pod that prints the files whenever they change."""
    items = [
        {"path": path, "fieldRef": {"fieldPath": field}, "mode": 0o444}
        for path, field in FIELDS.items()
    ]
    mounts = [{"name": "info", "mountPath": "/info"}]
    pod = realpods.pod(
        name,
        annotations={**ANNOTATIONS, realpods.ACCESS: mode},
        containers=[realpods.container("main", "python3", "-uc", PRINT, volumeMounts=mounts)],
        volumes=[{"name": "info", "downwardAPI": {"items": items, "defaultMode": 0o400}}],
        automountServiceAccountToken=False,
    )
    pod["metadata"]["labels"] = LABELS
    return pod


async def last(api: rest.Api, name: str, *, namespace: str) -> dict[str, str]:
    """What the container read last. The time at which a kubelet first saw the pod is left out."""
    printed = realpods.lines(await api.logs(name, namespace=namespace))
    if not printed:
        return {}
    seen = re.compile(r'^kubernetes\.io/config\.seen="[-0-9T:.+Z]+"$', re.MULTILINE)
    texts = {path: str(text) for path, text in printed[-1].items()}
    assert seen.search(texts["annotations"]), texts
    return {path: seen.sub("(seen)", text) for path, text in texts.items()}


async def running(api: rest.Api, name: str, *, namespace: str) -> dict[str, str]:
    await api.until("pods", rest.phase("Running"), name=name, namespace=namespace, seconds=120)
    async with asyncio.timeout(30):
        while not (files := await last(api, name, namespace=namespace)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return files


@pytest.mark.both_identities
async def test_files_are_those_of_a_kubelet_at_home_also_after_a_change(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    assert env.clusters.home.real_node is not None
    modes = {"as-home": "home", "without": "disabled"}
    for name, mode in modes.items():
        for suffix, where in (("there", env.node), ("here", env.clusters.home.real_node)):
            pod = realpods.bound(reader(f"{name}-{suffix}", mode=mode), where)
            await env.create(pod)
    await env.create(realpods.bound(reader("native", mode="remote"), env.node))

    for name in modes:
        expected = await running(env.home, f"{name}-here", namespace=env.workspace.home)
        assert set(expected) == set(FIELDS)
        files = await running(env.foreign, f"{name}-there", namespace=env.workspace.foreign)
        assert files == expected

    native_files = await running(env.foreign, "native", namespace=env.workspace.foreign)
    assert 'farlet.io/access-mode="remote"' in native_files["labels"]
    assert native_files["namespace"] == env.workspace.foreign

    body = {
        "metadata": {
            "labels": {"istio.io/rev": "canary", "added": "yes", "app": "writer"},
            "annotations": {"text": None, "iam.amazonaws.com/role": "writer"},
        }
    }
    for name in modes:
        await env.home.patch("pods", body, name=f"{name}-here", namespace=env.workspace.home)
        await env.home.patch("pods", body, name=f"{name}-there", namespace=env.workspace.home)
        changed = time.monotonic()
        while (files := await last(env.foreign, f"{name}-there", namespace=env.workspace.foreign))[
            "kept"
        ] != "writer":
            assert time.monotonic() - changed < SOON_SECONDS
            await asyncio.sleep(0.1)
        assert 'added="yes"' in files["labels"]
        async with asyncio.timeout(60):  # the kubelet at home has its own pace
            while files != await last(env.home, f"{name}-here", namespace=env.workspace.home):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


NAMES = """
import json, pathlib, socket
print(json.dumps({
    "host name": socket.gethostname(),
    "hosts": pathlib.Path("/etc/hosts").read_text().splitlines(),
}))
"""


async def test_the_fqdn_of_home_is_the_host_name_where_the_pod_asks_for_it(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await start_farlet(env.node)
    assert env.clusters.home.real_node is not None
    printed = {}
    for name, where in (("here", env.clusters.home.real_node), ("there", env.node)):
        pod = realpods.pod(
            name, "python3", "-c", NAMES, hostname="db", subdomain="s", setHostnameAsFQDN=True
        )
        await env.create(realpods.bound(pod, where))
    for name, api, namespace in (
        ("here", env.home, env.workspace.home),
        ("there", env.foreign, env.workspace.foreign),
    ):
        await env.seen(name, realpods.ENDED)
        (printed[name],) = realpods.lines(await api.logs(name, namespace=namespace))
    fqdn = f"db.s.{env.workspace.home}.svc.cluster.local"
    assert len(fqdn) <= 63
    assert printed["here"]["host name"] == printed["there"]["host name"] == fqdn
    assert [line.split()[1:] for line in printed["here"]["hosts"] if fqdn in line] == [[fqdn, "db"]]
    assert [line.split()[1:] for line in printed["there"]["hosts"] if fqdn in line] == [[fqdn]]
    event = await realpods.event(
        env.home, "there", namespace=env.workspace.home, reason="SpecAdjusted"
    )
    assert "/etc/hosts lacks the short name db" in event["message"]
