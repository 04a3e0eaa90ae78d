"""Known problems of comparable operators do not occur in farlet.

The problems: a pod sees the wrong namespace, a misspelled annotation grants full access, a home
token is created for pods that request none, half an address leads to the wrong API server, and
tokens are valid for a year although an hour was requested.
(Clients in pods: `test_access_modes.py`.)
"""

import asyncio
import base64
import json
from typing import Any

import pytest

from clusters import kwok, pair, refusals, rest
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods

pytestmark = [pytest.mark.clusters, pytest.mark.takes(110)]

HOUR, YEAR = 3600, 365 * 86400
TELL = "echo $NAMESPACE $ACCOUNT; cat /info/namespace; echo; cat /api/namespace 2>&1; echo"


def telling(mode: str) -> rest.Object:
    """A pod that prints its namespace from a variable, a downward API file and a token volume."""
    of_field = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    item = {"path": "namespace", **of_field}
    main = realpods.container(
        *("main", "bash", "-c", TELL),
        env=[
            {"name": "NAMESPACE", "valueFrom": of_field},
            {
                "name": "ACCOUNT",
                "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}},
            },
        ],
        volumeMounts=[
            {"name": "info", "mountPath": "/info"},
            {"name": "api", "mountPath": "/api"},
        ],
    )
    token = {"serviceAccountToken": {"path": "token"}}
    return realpods.pod(
        mode,
        annotations={realpods.ACCESS: mode},
        containers=[main],
        volumes=[
            {"name": "info", "downwardAPI": {"items": [item]}},
            {"name": "api", "projected": {"sources": [token, {"downwardAPI": {"items": [item]}}]}},
        ],
    )


def on_fake_node(name: str, **annotations: str) -> rest.Object:
    return realpods.pod(
        name, "client-go", annotations=annotations, nodeSelector={kwok.LABEL: "fake"}
    )


async def test_a_pod_sees_the_namespace_of_the_cluster_whose_api_it_reaches(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node)
    modes = ("home", "remote", "disabled")
    for mode in modes:
        await home.create("pods", realpods.bound(telling(mode), node), namespace=workspace.home)
    ended = await realpods.outputs(foreign, [(workspace.foreign, mode) for mode in modes])
    expected = {mode: output.split() for mode, (_, output) in zip(modes, ended, strict=True)}
    assert expected["home"] == [workspace.home, "default", workspace.home, workspace.home]
    assert expected["remote"] == [
        workspace.foreign,
        "default",
        workspace.foreign,
        workspace.foreign,
    ]
    # It keeps its home identity, without the files for API access.
    assert expected["disabled"][:3] == [workspace.home, "default", workspace.home]


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({realpods.ACCESS: "rmote"}, id="mistyped"),
        pytest.param({realpods.ACCESS: "Disabled"}, id="capital"),
        pytest.param({realpods.ACCESS: " disabled"}, id="space"),
        pytest.param({realpods.ACCESS: ""}, id="empty"),
        pytest.param({realpods.ACCESS: "true"}, id="boolean"),
        pytest.param({realpods.ACCOUNT: "guest"}, id="account without remote"),
        pytest.param(
            {realpods.ACCESS: "disabled", realpods.ACCOUNT: "guest"}, id="account with disabled"
        ),
    ],
)
async def test_an_invalid_annotation_grants_no_access_and_sets_a_reason(
    clusters: pair.Clusters,
    home: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
    annotations: dict[str, str],
) -> None:
    await start_farlet(node)
    marks = clusters.home.audit_mark(), clusters.foreign.audit_mark()
    refused = realpods.bound(on_fake_node("refused", **annotations), node)
    await home.create("pods", refused, namespace=workspace.home)
    accepted = realpods.bound(on_fake_node("accepted"), node)
    await home.create("pods", accepted, namespace=workspace.home)
    wanted = (
        "InvalidRemoteServiceAccount"
        if realpods.ACCOUNT in annotations
        else "InvalidAPIServerSupport"
    )
    pod = await home.until("pods", rest.reason(wanted), name="refused", namespace=workspace.home)
    assert pod["status"]["phase"] == "Pending"
    value = annotations.get(realpods.ACCOUNT, annotations.get(realpods.ACCESS))
    assert repr(value) in pod["status"]["message"]
    if wanted == "InvalidAPIServerSupport":
        assert "disabled, home, remote" in pod["status"]["message"]
    await realpods.event(home, "refused", namespace=workspace.home, reason=wanted)

    # The other pod is done, so farlet has handled this one too.
    await home.until("pods", rest.phase("Running"), name="accepted", namespace=workspace.home)
    requests = _token_requests(clusters, workspace, since=marks[0])
    assert [one.code for one in requests if one.code not in refusals.ASKED_TOO_SOON] == [201]
    made = clusters.foreign.audit(since=marks[1], verb="create", namespace=workspace.foreign)
    assert {one.name for one in made if one.resource == "pods"} == {"accepted"}


async def test_no_home_token_is_created_for_pods_without_home_access(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node)
    marks = clusters.home.audit_mark(), clusters.foreign.audit_mark()
    for mode in ("remote", "disabled"):
        wanted = realpods.bound(on_fake_node(mode, **{realpods.ACCESS: mode}), node)
        await home.create("pods", wanted, namespace=workspace.home)
    for mode in ("remote", "disabled"):
        await home.until("pods", rest.phase("Running"), name=mode, namespace=workspace.home)
    await asyncio.sleep(2)  # a Secret would follow the mirror
    assert _token_requests(clusters, workspace, since=marks[0]) == []
    assert await foreign.list("secrets", namespace=workspace.foreign) == []
    written = clusters.foreign.audit(
        since=marks[1], resource="secrets", namespace=workspace.foreign
    )
    assert {one.verb for one in written} <= {"list", "watch"}


@pytest.mark.parametrize("missing", ["host", "port"])
async def test_half_an_address_is_completed_and_never_leads_to_the_foreign_api(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
    missing: str,
) -> None:
    mark = clusters.foreign.audit_mark()
    await start_farlet(node, settings={f"home-api-server-{missing}": None})
    foreign_address, home_address = clusters.home_api_in_foreign, clusters.home.address
    host, port = (
        (home_address[0], foreign_address[1])
        if missing == "host"
        else (foreign_address[0], home_address[1])
    )
    wanted = realpods.pod("half", "client-go")
    await home.create("pods", realpods.bound(wanted, node), namespace=workspace.home)
    ((mirror, output),) = await realpods.outputs(foreign, [(workspace.foreign, "half")])

    (main,) = mirror["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in main["env"]}
    assert variables["KUBERNETES_SERVICE_HOST"] == host
    assert variables["KUBERNETES_SERVICE_PORT"] == str(port)
    (line,) = realpods.lines(output)
    # Nothing listens there; the client must not connect elsewhere.
    assert line["host"] == f"https://{host}:{port}"
    assert "connection refused" in line["error"]
    address = mirror["status"]["podIP"]
    asked = [one for one in clusters.foreign.audit(since=mark) if address in one.raw["sourceIPs"]]
    assert asked == []


async def test_no_client_sends_its_token_to_a_server_with_another_ca(
    clusters: pair.Clusters,
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    """Nothing that farlet adds to a pod disables verification."""
    mark = clusters.home.audit_mark()
    await start_farlet(node, settings={"home-api-server-ca-file": str(clusters.foreign.ca_file)})
    wanted = realpods.bound(realpods.pod("careful", "client-all"), node)
    await home.create("pods", wanted, namespace=workspace.home)
    ((_, output),) = await realpods.outputs(foreign, [(workspace.foreign, "careful")])
    errors = {line["client"]: line["error"].lower() for line in realpods.lines(output)}
    assert sorted(errors) == sorted(realpods.CLIENTS)
    assert [name for name, error in errors.items() if "certificat" not in error] == []
    account = f"system:serviceaccount:{workspace.home}:default"
    assert list(clusters.home.audit(since=mark, user=account)) == []


async def test_without_an_address_a_pod_waits_and_shows_why(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
) -> None:
    await start_farlet(node, settings={"home-api-server-host": None, "home-api-server-port": None})
    wanted = realpods.bound(on_fake_node("waits"), node)
    await home.create("pods", wanted, namespace=workspace.home)
    pod = await home.until(
        "pods", rest.reason("HomeAPINotConfigured"), name="waits", namespace=workspace.home
    )
    assert "--home-api-server-host" in pod["status"]["message"]
    assert await foreign.list("pods", namespace=workspace.foreign) == []


@pytest.mark.parametrize(
    ("settings", "life"),
    [
        pytest.param({}, HOUR, id="by default an hour"),
        pytest.param({"home-token-lifetime": "as-requested"}, YEAR, id="a year only if requested"),
    ],
)
async def test_a_token_has_the_requested_lifetime(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    start_farlet: StartFarlet,
    settings: dict[str, str | None],
    life: int,
) -> None:
    """Kubernetes requests 3607 s for every pod, for which its API server grants a year."""
    await start_farlet(node, settings=settings)
    wanted = realpods.bound(on_fake_node("holder"), node)
    made = await home.create("pods", wanted, namespace=workspace.home)
    (volume,) = made["spec"]["volumes"]
    assert volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3607
    await home.until("pods", rest.phase("Running"), name="holder", namespace=workspace.home)
    # A fake node starts a mirror without its Secret, unlike a kubelet.
    name = f"farlet-{made['metadata']['uid']}"
    secret = await foreign.until("secrets", rest.exists, name=name, namespace=workspace.foreign)
    claims = _claims(secret["data"]["token"])
    assert claims["exp"] - claims["iat"] == life
    assert claims["kubernetes.io"]["pod"]["uid"] == made["metadata"]["uid"]


def _token_requests(clusters: pair.Clusters, workspace: Workspace, *, since: Any) -> list[Any]:
    return [
        one
        for one in clusters.home.audit(since=since, namespace=workspace.home, verb="create")
        if one.subresource == "token"
    ]


def _claims(encoded: str) -> dict[str, Any]:
    payload = base64.b64decode(encoded).split(b".")[1]
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))
    )
    return claims
