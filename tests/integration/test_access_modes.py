"""Unmodified clients see the same through farlet as without it, in every access mode.

Each case is one manifest. It runs first where the pod would be native (on home's real node, for
mode `remote` on the foreign one), then through farlet on the real foreign node; only the scheduler
places it. The audit logs of both API servers show which server the clients used.
Mode `home` is tested on every path to the home API server.
"""

import contextlib
import dataclasses
import enum
import json
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
import pytest_asyncio

from clusters import apiproxy, auditlog, gateway, pair
from clusters.identity import Identity
from integration import manifestruns
from integration.manifestruns import (
    AT_HOME,
    BYSTANDER,
    CASES,
    DISABLED,
    GUEST,
    HOME,
    NAMED,
    POD,
    REMOTE,
    Case,
    Native,
    Seen,
)

pytestmark = [pytest.mark.clusters, pytest.mark.core, pytest.mark.takes(300)]


class HomeAPIPath(enum.Enum):
    """How mirror pods reach the home API server."""

    DIRECT = "direct"
    HAPROXY = "haproxy"
    GATEWAY = "gateway"

    @contextlib.asynccontextmanager
    async def open(self, clusters: pair.Clusters) -> AsyncIterator[Mapping[str, str | None]]:
        """Allow only this path to the home API server, and yield farlet's settings for it."""
        match self:
            case HomeAPIPath.DIRECT:
                yield {}
            case HomeAPIPath.HAPROXY:
                with apiproxy.before_home(clusters):
                    yield {}
            case HomeAPIPath.GATEWAY:
                async with gateway.installed(clusters, replicas=2) as made:
                    yield made.settings


# How each library reports that it is not in a cluster.
NOT_IN_A_CLUSTER = {
    "kubectl": "The connection to the server localhost:8080 was refused",
    "python": "Service host/port is set but empty",
    "python-asyncio": "Service host/port is set but empty",
    "javascript": "Invalid URL",
    "go": "unable to load in-cluster configuration",
    "kopf": "Ran out of valid credentials",
    "kopf-pykube": "Cannot authenticate pykube neither in-cluster, nor via kubeconfig",
    "kube-rs-env": "failed to parse cluster port",
    "kube-rs-dns": "failed to read the default namespace",
    "fabric8": "PKIX path building failed",
}


def on(*paths: HomeAPIPath) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("seen", paths, ids=lambda path: path.value, indirect=True)


on_direct_path, on_every_path = on(HomeAPIPath.DIRECT), on(*HomeAPIPath)


def per_case(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def per_client(cases: list[Case]) -> pytest.MarkDecorator:
    each = [(case, client) for case in cases for client in case.clients]
    names = [f"{case.name}-{client}" for case, client in each]
    return pytest.mark.parametrize(("case", "client"), each, ids=names)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def native(clusters: pair.Clusters) -> AsyncIterator[Native]:
    """The native runs, with which every path is compared."""
    async with manifestruns.natively(clusters) as runs:
        yield runs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(
    request: pytest.FixtureRequest,
    clusters: pair.Clusters,
    native: Native,
    usual_identity: Identity,
) -> AsyncIterator[Seen]:
    """All cases on the direct path; on other paths only those that use them."""
    cases = CASES if request.param is HomeAPIPath.DIRECT else HOME
    async with (
        request.param.open(clusters) as settings,
        manifestruns.through_farlet(
            clusters, native, cases, identity=usual_identity, settings=settings
        ) as runs,
    ):
        yield runs


# --- what clients print ---------------------------------------------------------------------------


@on_every_path
@per_client(HOME)
def test_in_mode_home_a_client_prints_the_same_as_in_the_home_cluster(
    seen: Seen, case: Case, client: str
) -> None:
    native, far = seen.native.home[case], seen.through_farlet[case]
    namespace = seen.native.spaces[case].home
    output = far.output_of(client)
    assert output == native.output_of(client)
    assert output["namespace"] == namespace
    assert output["username"] == f"system:serviceaccount:{namespace}:{case.account}"
    assert output["extra"]["authentication.kubernetes.io/pod-name"] == [POD]
    assert output["pods"] == [f"{BYSTANDER}-home", POD]
    assert output["error"] is None


@on_direct_path
@per_client(REMOTE)
def test_in_mode_remote_a_client_prints_the_same_as_in_a_native_foreign_pod(
    seen: Seen, case: Case, client: str
) -> None:
    far = dataclasses.replace(seen.through_farlet[case], pod=seen.through_farlet[case].mirror)
    namespace = seen.native.spaces[case].foreign
    output = far.output_of(client)
    assert output == seen.native.foreign[case].output_of(client)
    assert output["namespace"] == namespace
    assert output["username"] == f"system:serviceaccount:{namespace}:{case.account}"
    assert output["pods"] == [f"{BYSTANDER}-foreign", POD]
    assert output["error"] is None


@on_direct_path
def test_in_mode_remote_the_annotation_selects_the_foreign_account(seen: Seen) -> None:
    (line,) = seen.through_farlet[NAMED].lines.values()
    assert line["username"] == f"system:serviceaccount:{seen.native.spaces[NAMED].foreign}:{GUEST}"
    assert line["pods"] == [f"{BYSTANDER}-foreign", POD]


@on_direct_path
@per_client(DISABLED)
def test_in_mode_disabled_a_client_reports_that_it_is_not_in_a_cluster(
    seen: Seen, case: Case, client: str
) -> None:
    line = seen.through_farlet[case].lines[client]
    assert NOT_IN_A_CLUSTER[client] in line["error"]
    assert (line["namespace"], line["username"], line["pods"]) == (None, None, [])


@per_client(AT_HOME)
def test_a_manifest_works_natively_with_any_annotation(
    native: Native, case: Case, client: str
) -> None:
    line = native.home[case].lines[client]
    assert line["error"] is None
    assert line["username"] == f"system:serviceaccount:{native.spaces[case].home}:{case.account}"


# --- which API server was used --------------------------------------------------------------------


@on_every_path
@per_case(HOME)
def test_in_mode_home_every_client_uses_the_home_api_only(seen: Seen, case: Case) -> None:
    space = seen.native.spaces[case]
    user = f"system:serviceaccount:{space.home}:{case.account}"
    asked = {
        (entry.namespace, entry.user_agent, entry.code)
        for entry in seen.asked_home(user=user, verb="list", resource="pods")
    }
    assert len(asked) == case.user_agents, asked
    assert {(namespace, code) for namespace, _, code in asked} == {(space.home, 200)}
    assert _from_pod(seen, case) == []
    assert _as_account_of(seen.asked_foreign(), space.foreign) == []


@on_direct_path
@per_case([*REMOTE, NAMED])
def test_in_mode_remote_every_client_uses_the_foreign_api_only(seen: Seen, case: Case) -> None:
    space = seen.native.spaces[case]
    user = f"system:serviceaccount:{space.foreign}:{case.guest or case.account}"
    lists = [
        entry for entry in _from_pod(seen, case) if entry.verb == "list" and entry.user == user
    ]
    assert {(one.namespace, one.resource, one.code) for one in lists} == {
        (space.foreign, "pods", 200)
    }
    assert len({one.user_agent for one in lists}) == case.user_agents
    assert _as_account_of(seen.asked_home(), space.home) == []


@on_direct_path
@per_case(DISABLED)
def test_in_mode_disabled_no_api_server_gets_a_request(seen: Seen, case: Case) -> None:
    space = seen.native.spaces[case]
    assert _from_pod(seen, case) == []
    assert _as_account_of(seen.asked_foreign(), space.foreign) == []
    assert _as_account_of(seen.asked_home(), space.home) == []


@on_every_path
def test_no_request_lacks_valid_credentials(seen: Seen) -> None:
    """A client without a token, or with one of the other cluster, would leave such entries."""
    asked = [*seen.asked_home(), *seen.asked_foreign()]
    everything = [one for one in asked if one.user_agent != apiproxy.USER_AGENT]
    assert everything
    assert [one for one in everything if one.user in {"", "system:anonymous"}] == []
    assert [one for one in everything if one.code == 401] == []


# --- where it ran ---------------------------------------------------------------------------------


@on_direct_path
@per_case(CASES)
def test_the_pod_was_scheduled_to_the_virtual_node_and_ran_on_the_real_foreign_node(
    seen: Seen, case: Case
) -> None:
    run = seen.through_farlet[case]
    assert run.pod["spec"]["nodeName"].startswith("virtual-")
    assert run.mirror["spec"]["nodeName"] == seen.clusters.foreign.real_node
    assert run.mirror["spec"]["nodeSelector"] == run.pod["spec"]["nodeSelector"]
    assert run.pod["status"]["phase"] == ("Failed" if case.mode == "disabled" else "Succeeded")


@per_case(CASES)
def test_the_manifests_do_not_configure_the_clients(case: Case) -> None:
    spec = json.loads(case.manifest())["spec"]
    assert set(spec) <= {
        *("containers", "nodeSelector", "restartPolicy", "serviceAccountName"),
        "terminationGracePeriodSeconds",
    }
    (container,) = spec["containers"]
    assert set(container) == {"name", "image", "command", "resources"}


def _from_pod(seen: Seen, case: Case) -> list[auditlog.Entry]:
    """Requests to the foreign API server from the mirror's address."""
    address = seen.through_farlet[case].mirror["status"]["podIP"]
    return [one for one in seen.asked_foreign() if address in one.raw["sourceIPs"]]


def _as_account_of(entries: Iterator[auditlog.Entry], namespace: str) -> list[auditlog.Entry]:
    return [one for one in entries if one.user.startswith(f"system:serviceaccount:{namespace}:")]
