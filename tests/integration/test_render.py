"""What `farlet render` prints is what `farlet run` sends, for the same pods.

The pods are as a real API server returns them, and the requests are recorded on their way to the
foreign one.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clusters import kwok, processes, rest
from faults import proxy
from faults.environment import Environment
from faults.fixtures import StartProxied
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

RESOLVED = "<resolved at run time>"
LABELS = {"app": "shop", "istio.io/rev": "stable"}
ANNOTATIONS = {"note": 'two\nlines of "text"', "iam.amazonaws.com/role": "reader"}
DOWNWARD = [
    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
    {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
]
REFERENCES = [
    {"configMap": {"name": "app", "optional": True}},
    {"secret": {"name": "login", "optional": True, "items": [{"key": "a", "path": "b"}]}},
    {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
    {"downwardAPI": {"items": DOWNWARD}},
]
REQUIRED = {
    "nodeSelectorTerms": [
        {"matchExpressions": [{"key": "type", "operator": "In", "values": ["virtual-kubelet"]}]},
        {"matchExpressions": [{"key": "zone", "operator": "Exists"}]},
    ]
}


def corpus() -> dict[str, rest.Object]:
    """By name: the spec of a pod in addition to a plain container."""
    sidecar = realpods.container("sidecar", "true", restartPolicy="Always")
    return {
        "plain": {},
        "containers": {
            "initContainers": [realpods.container("init", "true"), sidecar],
            "terminationGracePeriodSeconds": 5,
            "activeDeadlineSeconds": 3600,
        },
        "references": {
            "volumes": [{"name": "all", "projected": {"sources": REFERENCES}}],
            "containers": [
                realpods.container(
                    "main", "true",
                    volumeMounts=[{"name": "all", "mountPath": "/all"}],
                    env=[
                        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                        {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
                        {"name": "KUBERNETES_SERVICE_HOST", "value": "192.0.2.9"},
                    ],
                    envFrom=[{"prefix": "P_", "configMapRef": {"name": "app", "optional": True}}],
                )
            ],
            "imagePullSecrets": [{"name": "pull"}],
        },
        "names": {"hostname": "web", "subdomain": "shop", "setHostnameAsFQDN": False},
        "scheduling": {
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": REQUIRED}
            },
            "tolerations": [{"operator": "Exists"}],
        },
        "dns": {
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["example.com"]},
            "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["db"]}],
        },
        "no-token": {"automountServiceAccountToken": False},
    }  # fmt: skip


async def test_render_prints_what_run_sends(
    env: Environment,
    start_proxied: StartProxied,
    foreign_proxy: proxy.Proxy,
    tmp_path: Path,
) -> None:
    sent = foreign_proxy.on(
        lambda request: request.method == "POST" and request.path.endswith(("/pods", "/secrets")),
        _passed,
    )
    await env.home.create(
        "secrets",
        {
            "metadata": {"name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": '{"auths":{}}'},
        },
        namespace=env.workspace.home,
    )
    await start_proxied(env.node)
    pods = [
        _pod(f"{name}-{mode}", env.node, mode, spec)
        for name, spec in corpus().items()
        for mode in ("home", "disabled", "remote")
    ]
    created = await env.create(*pods)
    for pod in created:
        await env.seen(pod["metadata"]["name"], _has_mirror, seconds=rest.PATIENCE)

    flags = await _flags(env)
    bodies = [request.json for request in sent.hits]
    for pod in created:
        name = pod["metadata"]["name"]
        (mirror,) = _of(bodies, "Pod", pod)
        secrets = _of(bodies, "Secret", pod)
        rendered = await _render(pod, flags, tmp_path)
        assert _matches(rendered[0], mirror), f"{name}: {_difference(rendered[0], mirror)}"
        assert len(rendered[1:]) == len(secrets), name
        for printed, secret in zip(rendered[1:], secrets, strict=True):
            assert _matches(printed, secret), f"{name}: {_difference(printed, secret)}"


async def _passed(request: proxy.Request, forward: proxy.Forward) -> proxy.Answer:
    return await forward(request)


def _pod(name: str, node: str, mode: str, spec: Mapping[str, Any]) -> rest.Object:
    annotations = {**ANNOTATIONS, realpods.ACCESS: mode}
    pod = realpods.pod(name, "true", annotations=annotations, nodeSelector={kwok.LABEL: "fake"})
    pod["metadata"]["labels"] = dict(LABELS)
    pod["spec"] |= spec
    return realpods.bound(pod, node)


def _has_mirror(pod: rest.Object | None) -> bool:
    return pod is not None and bool(pod["status"].get("startTime"))


async def _flags(env: Environment) -> list[str]:
    """The settings that decide what mirrors are, as a user gives them to `render`."""
    host, port = env.clusters.home_api_in_foreign
    service = await env.home.get("services", name="kubernetes", namespace="default")
    given = {
        "nodename": env.node,
        "home-id": service["metadata"]["uid"],
        "home-api-server-host": host,
        "home-api-server-port": str(port),
    }
    return [f"--{flag}={value}" for flag, value in given.items()]


async def _render(pod: rest.Object, flags: list[str], folder: Path) -> list[Any]:
    """The mirror that `render` prints, then its Secret if it has one."""
    file = folder / "pod.json"
    file.write_text(json.dumps(pod))
    program = Path(sys.executable).parent / "farlet"
    command: list[str | Path] = [program, "render", *flags, "--filename", file, "--output", "json"]
    text = await asyncio.to_thread(processes.run, command, what="render a pod")
    decoder = json.JSONDecoder()
    found: list[Any] = []
    while text:
        one, end = decoder.raw_decode(text)
        found += one["items"] if one.get("kind") == "List" else [one]
        text = text[end:].lstrip()
    return found


def _of(bodies: list[Any], kind: str, pod: rest.Object) -> list[Any]:
    """The bodies of this kind for a home pod."""
    uid = pod["metadata"]["uid"]
    return [
        body
        for body in bodies
        if body.get("kind", kind) == kind
        and body["metadata"]["annotations"].get("farlet.io/home-uid") == uid
    ]


def _matches(printed: Any, sent: Any) -> bool:
    """Whether both are the same, but for values that only a running farlet knows."""
    if isinstance(printed, dict) and isinstance(sent, dict):
        return printed.keys() == sent.keys() and all(_matches(printed[k], sent[k]) for k in sent)
    if isinstance(printed, list) and isinstance(sent, list):
        return len(printed) == len(sent) and all(map(_matches, printed, sent))
    return bool(printed == sent) or (isinstance(printed, str) and "<" in printed)


def _difference(printed: Any, sent: Any, path: str = "") -> str:
    """The first place at which they differ."""
    if isinstance(printed, dict) and isinstance(sent, dict) and printed.keys() == sent.keys():
        return next(
            (
                _difference(printed[key], sent[key], f"{path}.{key}")
                for key in sent
                if not _matches(printed[key], sent[key])
            ),
            "",
        )
    if isinstance(printed, list) and isinstance(sent, list) and len(printed) == len(sent):
        return next(
            (
                _difference(one, other, f"{path}[{number}]")
                for number, (one, other) in enumerate(zip(printed, sent, strict=True))
                if not _matches(one, other)
            ),
            "",
        )
    return f"{path}: printed {printed!r}, sent {sent!r}"
