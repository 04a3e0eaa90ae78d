"""What unchanged real clients see through farlet is what they see without it.

Per case one manifest. Its bytes run first where the pod would be native (on home's real node, for
mode `remote` on the foreign one), then through farlet on the foreign real node; the scheduler alone
puts them there. Who was asked is read from the audit logs of both API servers.
Mode `home` is tried on every way that leads to home's API server.
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

pytestmark = [pytest.mark.clusters, pytest.mark.core]


class Way(enum.Enum):
    """How pods abroad reach home's API server."""

    DIRECT = "direct"
    HAPROXY = "haproxy"
    GATEWAY = "gateway"

    @contextlib.asynccontextmanager
    async def open(self, clusters: pair.Clusters) -> AsyncIterator[Mapping[str, str | None]]:
        """Home's API server is reached in this way, and only in it; farlet's settings for it."""
        match self:
            case Way.DIRECT:
                yield {}
            case Way.HAPROXY:
                with apiproxy.before_home(clusters):
                    yield {}
            case Way.GATEWAY:
                async with gateway.installed(clusters, replicas=2) as made:
                    yield made.settings


# How each library says that it is in no cluster.
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


def on(*ways: Way) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("seen", ways, ids=lambda way: way.value, indirect=True)


on_direct_way, on_every_way = on(Way.DIRECT), on(*Way)


def per_case(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def per_client(cases: list[Case]) -> pytest.MarkDecorator:
    each = [(case, client) for case in cases for client in case.clients]
    names = [f"{case.name}-{client}" for case, client in each]
    return pytest.mark.parametrize(("case", "client"), each, ids=names)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def native(clusters: pair.Clusters) -> AsyncIterator[Native]:
    """What every way is compared with."""
    async with manifestruns.natively(clusters) as runs:
        yield runs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(
    request: pytest.FixtureRequest,
    clusters: pair.Clusters,
    native: Native,
    usual_identity: Identity,
) -> AsyncIterator[Seen]:
    """Everything on the direct way; on others what goes through them."""
    cases = CASES if request.param is Way.DIRECT else HOME
    async with (
        request.param.open(clusters) as settings,
        manifestruns.through_farlet(
            clusters, native, cases, identity=usual_identity, settings=settings
        ) as runs,
    ):
        yield runs


# --- what clients print ---------------------------------------------------------------------


@on_every_way
@per_client(HOME)
def test_in_mode_home_a_client_prints_what_it_prints_at_home(
    seen: Seen, case: Case, client: str
) -> None:
    native, far = seen.native.at_home[case], seen.through_farlet[case]
    namespace = seen.native.spaces[case].home
    told = far.told(client)
    assert told == native.told(client)
    assert told["namespace"] == namespace
    assert told["username"] == f"system:serviceaccount:{namespace}:{case.account}"
    assert told["extra"]["authentication.kubernetes.io/pod-name"] == [POD]
    assert told["pods"] == [f"{BYSTANDER}-home", POD]
    assert told["error"] is None


@on_direct_way
@per_client(REMOTE)
def test_in_mode_remote_a_client_prints_what_it_prints_as_a_native_pod_abroad(
    seen: Seen, case: Case, client: str
) -> None:
    far = dataclasses.replace(seen.through_farlet[case], pod=seen.through_farlet[case].mirror)
    namespace = seen.native.spaces[case].foreign
    told = far.told(client)
    assert told == seen.native.abroad[case].told(client)
    assert told["namespace"] == namespace
    assert told["username"] == f"system:serviceaccount:{namespace}:{case.account}"
    assert told["pods"] == [f"{BYSTANDER}-foreign", POD]
    assert told["error"] is None


@on_direct_way
def test_in_mode_remote_an_annotation_names_the_foreign_account(seen: Seen) -> None:
    (line,) = seen.through_farlet[NAMED].lines.values()
    assert line["username"] == f"system:serviceaccount:{seen.native.spaces[NAMED].foreign}:{GUEST}"
    assert line["pods"] == [f"{BYSTANDER}-foreign", POD]


@on_direct_way
@per_client(DISABLED)
def test_in_mode_disabled_a_client_says_that_it_is_in_no_cluster(
    seen: Seen, case: Case, client: str
) -> None:
    line = seen.through_farlet[case].lines[client]
    assert NOT_IN_A_CLUSTER[client] in line["error"]
    assert (line["namespace"], line["username"], line["pods"]) == (None, None, [])


@per_client(AT_HOME)
def test_at_home_a_manifest_works_whatever_its_annotation(
    native: Native, case: Case, client: str
) -> None:
    line = native.at_home[case].lines[client]
    assert line["error"] is None
    assert line["username"] == f"system:serviceaccount:{native.spaces[case].home}:{case.account}"


# --- who was asked --------------------------------------------------------------------------


@on_every_way
@per_case(HOME)
def test_in_mode_home_the_home_api_is_asked_by_every_client_and_the_foreign_one_never(
    seen: Seen, case: Case
) -> None:
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


@on_direct_way
@per_case([*REMOTE, NAMED])
def test_in_mode_remote_the_foreign_api_is_asked_by_every_client_and_the_home_one_never(
    seen: Seen, case: Case
) -> None:
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


@on_direct_way
@per_case(DISABLED)
def test_in_mode_disabled_no_server_is_asked_anything(seen: Seen, case: Case) -> None:
    space = seen.native.spaces[case]
    assert _from_pod(seen, case) == []
    assert _as_account_of(seen.asked_foreign(), space.foreign) == []
    assert _as_account_of(seen.asked_home(), space.home) == []


@on_every_way
def test_nobody_asks_without_credentials(seen: Seen) -> None:
    """What a client without a token, or with one of the other cluster, would leave behind."""
    asked = [*seen.asked_home(), *seen.asked_foreign()]
    everything = [one for one in asked if one.user_agent != apiproxy.USER_AGENT]
    assert everything
    assert [one for one in everything if one.user in {"", "system:anonymous"}] == []
    assert [one for one in everything if one.code == 401] == []


# --- where it ran ---------------------------------------------------------------------------


@on_direct_way
@per_case(CASES)
def test_the_pod_was_put_on_the_virtual_node_and_ran_on_the_foreign_real_one(
    seen: Seen, case: Case
) -> None:
    run = seen.through_farlet[case]
    assert run.pod["spec"]["nodeName"].startswith("virtual-")
    assert run.mirror["spec"]["nodeName"] == seen.clusters.foreign.real_node
    assert run.mirror["spec"]["nodeSelector"] == run.pod["spec"]["nodeSelector"]
    assert run.pod["status"]["phase"] == ("Failed" if case.mode == "disabled" else "Succeeded")


@per_case(CASES)
def test_a_manifest_gives_clients_no_help(case: Case) -> None:
    spec = json.loads(case.manifest())["spec"]
    assert set(spec) <= {
        *("containers", "nodeSelector", "restartPolicy", "serviceAccountName"),
        "terminationGracePeriodSeconds",
    }
    (container,) = spec["containers"]
    assert set(container) == {"name", "image", "command", "resources"}


def _from_pod(seen: Seen, case: Case) -> list[auditlog.Entry]:
    """Requests at the foreign API server that came from the mirror's address."""
    address = seen.through_farlet[case].mirror["status"]["podIP"]
    return [one for one in seen.asked_foreign() if address in one.raw["sourceIPs"]]


def _as_account_of(entries: Iterator[auditlog.Entry], namespace: str) -> list[auditlog.Entry]:
    return [one for one in entries if one.user.startswith(f"system:serviceaccount:{namespace}:")]
