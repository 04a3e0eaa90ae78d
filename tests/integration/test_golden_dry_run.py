"""A real foreign API server accepts every golden mirror and its Secret.

The test creates them with `dryRun=All`, so validation and admission run as for farlet, and the
response shows what admission adds: for a mirror that must not be an account, a token or a second
volume.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from clusters import pair, rest
from farlet.forge import dropped
from golden import podcases

CASES = [case for case in podcases.every() if (case.folder / "mirror.yaml").exists()]
WITH_SECRET = [case for case in CASES if (case.folder / "secret.yaml").exists()]
ACCESS = "farlet.io/api-access"
PROJECTED = "spec.volumes[kube-api-access-h2x7k].projected"
DROPPED = {
    "newer-field": ["spec.starboard"],
    "fields-of-1.37-home": [
        f"{PROJECTED}.sources[0].secret.items[token].user",
        f"{PROJECTED}.sources[2].secret.items[namespace].user",
        f"{PROJECTED}.defaultUser",
        "spec.volumes[ca].secret.defaultUser",
        "spec.volumes[scratch].emptyDir.mode",
        "spec.volumes[settings].secret.items[a].user",
        "spec.volumes[settings].secret.defaultUser",
        "spec.containers[app].volumeMounts[/scratch].bindMountOptions",
        "spec.containers[app].livenessProbe.httpGet.protocol",
        "spec.containers[app].startupProbe.grpc.mode",
    ],
    "certificates-of-the-foreign-cluster": [
        "spec.volumes[istiod-ca-cert].projected.sources[0].clusterTrustBundle",
        "spec.volumes[id].projected.sources[0].podCertificate",
    ],
    "trust-bundle-remote": ["spec.volumes[trust].projected.sources[0].clusterTrustBundle"],
}
"""What an API server of Kubernetes 1.36 does not know or has disabled, by case."""
CLASSES: dict[str, Any] = {
    "priorityclasses": {"metadata": {"name": "low"}, "value": 5},
    "node.k8s.io/v1/runtimeclasses": {"metadata": {"name": "gvisor"}, "handler": "runsc"},
}
"""What goldens name and the cluster lacks."""


def _read(case: podcases.Case, name: str) -> Any:
    return yaml.safe_load((case.folder / name).read_text())


@pytest.fixture(scope="module")
def namespaces(clusters: pair.Clusters) -> Iterator[None]:
    """The foreign namespaces of all cases, with the accounts that they use."""
    mirrors = [_read(case, "mirror.yaml") for case in CASES]
    wanted = {
        (m["metadata"]["namespace"], m["spec"].get("serviceAccountName", "default"))
        for m in mirrors
    }
    names = sorted({namespace for namespace, _ in wanted})

    async def create() -> None:
        async with clusters.foreign.api() as api:
            for resource, wanted_class in CLASSES.items():
                await api.create(resource, wanted_class)
            for name in names:
                await api.create("namespaces", _object("Namespace", name))
            for name in names:
                await api.until(
                    "serviceaccounts", rest.exists, name="default", namespace=name, seconds=180
                )
            for namespace, account in sorted(wanted):
                if account != "default":
                    await api.create(
                        "serviceaccounts", _object("ServiceAccount", account), namespace=namespace
                    )

    async def delete() -> None:
        async with clusters.foreign.api() as api:
            for name in names:
                await api.delete("namespaces", name=name)
            for resource, wanted_class in CLASSES.items():
                await api.delete(resource, name=wanted_class["metadata"]["name"])

    asyncio.run(create())
    yield
    asyncio.run(delete())


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_golden_mirror_is_accepted_and_nothing_is_added(
    case: podcases.Case, foreign: rest.Api
) -> None:
    mirror = _read(case, "mirror.yaml")
    namespace = mirror["metadata"]["namespace"]
    answer = await foreign.create("pods", mirror, namespace=namespace, dryRun="All")
    spec = answer["spec"]
    assert list(dropped.dropped(mirror["spec"], spec, "spec")) == DROPPED.get(case.name, [])
    assert "nodeName" not in spec
    assert _names(spec.get("volumes")) == _names(mirror["spec"].get("volumes"))
    if mirror["metadata"]["annotations"][ACCESS] == "remote":
        account = mirror["spec"]["serviceAccountName"]
        assert spec["serviceAccountName"] == account
    else:
        assert "serviceAccountToken" not in str(spec.get("volumes"))
        assert spec["automountServiceAccountToken"] is False
    for sent, kept in zip(
        mirror["spec"]["containers"] + mirror["spec"].get("initContainers", []),
        spec["containers"] + spec.get("initContainers", []),
        strict=True,
    ):
        assert _names(kept.get("env")) == _names(sent.get("env"))
        assert _paths(kept) == _paths(sent)


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("case", WITH_SECRET, ids=lambda case: case.name)
async def test_a_golden_secret_is_accepted_unchanged(
    case: podcases.Case, foreign: rest.Api
) -> None:
    secret = _read(case, "secret.yaml")
    namespace = secret["metadata"]["namespace"]
    answer = await foreign.create("secrets", secret, namespace=namespace, dryRun="All")
    assert answer["data"] == secret["data"]


@pytest.mark.usefixtures("namespaces")
async def test_the_foreign_server_merges_label_keys_as_the_home_server_did(
    foreign: rest.Api,
) -> None:
    case = podcases.Case(podcases.FOLDER / "scheduling")
    mirror, home = _read(case, "mirror.yaml"), _read(case, "home.yaml")
    answer = await foreign.create(
        "pods", mirror, namespace=mirror["metadata"]["namespace"], dryRun="All"
    )
    assert _selectors(answer["spec"]) == _selectors(home["spec"])


def _selectors(spec: dict[str, Any]) -> list[Any]:
    affinity = spec["affinity"]
    required = affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    preferred = affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    terms = [*required, *(entry["podAffinityTerm"] for entry in preferred)]
    return [term["labelSelector"] for term in (*terms, *spec["topologySpreadConstraints"])]


def _names(rows: list[dict[str, Any]] | None) -> list[str]:
    return [row["name"] for row in rows or []]


def _paths(container: dict[str, Any]) -> list[str]:
    return [mount["mountPath"] for mount in container.get("volumeMounts", ())]


def _object(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
