"""`farlet check` on real clusters: its results for addresses that are set by flags."""

import asyncio
import base64
import dataclasses
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from clusters import farlet as farlets
from clusters import pair, ports, rest
from clusters import workspace as workspaces

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.refused("home", "foreign"),  # a wrong name, and a namespace without the Role
]

ENDS_SECONDS = 60.0
ADDRESS = "home API for foreign pods"


@dataclasses.dataclass(frozen=True)
class Case:
    """Flags (a function of a folder and the clusters), and the expected results."""

    flags: Callable[[Path, pair.Clusters], Mapping[str, str | None]]
    code: int
    outcomes: Mapping[str, str]
    expected: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def _seen(_folder: Path, clusters: pair.Clusters) -> Mapping[str, str]:
    """An address of the home API for this machine; mirror pods need another one."""
    host, port = clusters.home.address
    return {"home-api-server-host": host, "home-api-server-port": str(port)}


def _another_ca(folder: Path, clusters: pair.Clusters) -> Mapping[str, str]:
    """A CA file with the foreign cluster's CA, which has not signed home's certificate."""
    content = yaml.safe_load(clusters.foreign.kubeconfig.read_text())["clusters"][0]["cluster"]
    file = folder / "another-ca.crt"
    file.write_bytes(base64.b64decode(content["certificate-authority-data"]))
    return {**_seen(folder, clusters), "home-api-server-ca-file": str(file)}


def _requests_certificate(folder: Path, clusters: pair.Clusters) -> Mapping[str, str | None]:
    return {**_seen(folder, clusters), "tls-cert-file": None, "tls-private-key-file": None}


def _another_node(folder: Path, clusters: pair.Clusters) -> Mapping[str, str]:
    return {**_seen(folder, clusters), "nodename": "near"}


def _dead(folder: Path, clusters: pair.Clusters) -> Mapping[str, str]:
    content = yaml.safe_load(clusters.foreign.kubeconfig.read_text())
    (port,) = ports.free(1)
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file = folder / "dead.kubeconfig"
    file.write_text(json.dumps(content))
    return {**_seen(folder, clusters), "foreign-kubeconfig": str(file)}


# A warning, because the address belongs to this machine.
GOOD = {
    "home API server": "ok",
    "foreign API server": "ok",
    "home identity": "ok",
    "foreign identity": "ok",
    "foreign cluster": "ok",
    "capacity": "ok",
    "home permissions": "ok",
    "foreign permissions": "ok",
    ADDRESS: "warning",
    "certificate at that address": "ok",
    "Kubernetes versions": "ok",
    "home clock": "ok",
    "foreign clock": "ok",
    "kubelet port": "ok",
}


def _administrator(folder: Path, clusters: pair.Clusters) -> Mapping[str, str | None]:
    """With this right the home API server is asked to reach the kubelet port; none is served."""
    login = {"home-kubeconfig": str(clusters.home.kubeconfig), "nodename": "virtual-none"}
    return {**_seen(folder, clusters), **login}


CASES = {
    "an address of the home API server": Case(
        _seen, 0, GOOD, ("kubernetes.default.svc", "follow from the pods", "only administrators")
    ),
    "the context of an administrator": Case(
        _administrator, 0, GOOD, ("not checked: the Node virtual-none does not exist yet",)
    ),
    "a serving certificate of home's signer": Case(
        _requests_certificate, 0, {**GOOD, "serving certificate": "ok"}
    ),
    "another CA": Case(
        _another_ca,
        1,
        {"home API server": "ok", ADDRESS: "failed"},
        ("not signed by the home CA", "kubernetes.default.svc"),
    ),
    "a foreign API server that does not answer": Case(
        _dead,
        1,
        {"home API server": "ok", "foreign API server": "failed", ADDRESS: "warning"},
        ("--foreign-kubeconfig",),
    ),
    "the certificate of another node": Case(
        _another_node, 1, {"home identity": "failed"}, ("set FARLET_NODENAME=virtual-check",)
    ),
    "a foreign namespace without the Role": Case(
        _seen,
        1,
        {**GOOD, "foreign namespace of unprepared": "failed"},
        (" apply -n unprepared-", "manifests/foreign/offloaded-namespace.yaml"),
        ("--namespace", "unprepared"),
    ),
}


async def _checked(command: list[str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=ENDS_SECONDS, check=False
    )


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
async def test_an_address_set_by_flags_is_checked(
    clusters: pair.Clusters, foreign: rest.Api, tmp_path: Path, case: Case
) -> None:
    await workspaces.create_farlet_namespace(foreign)
    made = farlets.create(
        clusters, node="virtual-check", settings=dict(case.flags(tmp_path, clusters))
    )
    words = [str(word) for word in made.process.command]
    words[words.index("run")] = "check"
    words += case.arguments
    answer = await _checked([*words, "-o", "json"])
    assert answer.returncode == case.code, answer.stderr
    assert answer.stderr == ""
    found = json.loads(answer.stdout)
    assert found["ok"] is (case.code == 0)
    outcomes = {one["what"]: one["outcome"] for one in found["checks"]}
    assert case.outcomes.items() <= outcomes.items(), found
    for fragment in case.expected:
        assert fragment in answer.stdout
    if case.code == 0:
        table = await _checked(words)
        assert table.returncode == 0
        lines = [line for line in table.stdout.splitlines() if not line.startswith(" ")]
        assert [line.split("  ")[0] for line in lines] == ["CHECK", *outcomes]
