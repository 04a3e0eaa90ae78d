"""A home token is never sent to a server without a valid certificate of the home API server.

farlet checks in two ways: by a connection to the address of the flags, and by a port-forward into
a pod behind the Service `home-api`. Pods wait and show why, and both audit logs show that farlet
requested and wrote nothing; once the certificate is valid, the pods start automatically.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from clusters import auditlog, images, kwok, pair, rest
from clusters import workspace as workspaces
from clusters.workspace import FARLET_NAMESPACE
from conftest import StartFarlet
from faults import manifests
from faults.environment import Environment
from unit import certificates

pytestmark = [pytest.mark.clusters, pytest.mark.takes(70)]

DAY = timedelta(days=1)
USUAL = "kubernetes.default.svc"
REACHABLE = "farlet.io/HomeAPIReachable"
ANSWERS = "answers"
"""The pod behind the Service in these tests: it serves each certificate on its own port."""
FIRST_PORT = 7000

Make = Callable[[certificates.Pair], certificates.Pair]


@dataclasses.dataclass(frozen=True)
class Case:
    """A certificate that farlet must not accept.

    `make` uses the home CA; `None` means the real API server of the foreign cluster. `expected` and
    `fix` are parts of the message: the problem, and what to do about it.
    """

    make: Make | None
    expected: str
    fix: dict[str, str]


def server(*hosts: str, begins: datetime | None = None, ends: datetime | None = None) -> Make:
    """A certificate of the home CA."""
    return lambda ca: certificates.issue(
        ca,
        user="kube-apiserver",
        uses=(certificates.SERVER,),
        hosts=hosts,
        begins=begins,
        ends=ends,
    )


def of_a_stranger(_: certificates.Pair) -> certificates.Pair:
    return server(USUAL, "127.0.0.1")(certificates.authority("another-ca"))


LEADS = {
    "flags": "--home-api-server-host",
    "service": "check the endpoints of the Service home-api",
}
RENEW = {"flags": "renew it", "service": "renew it"}
CLOCKS = {"flags": "check the clocks", "service": "check the clocks"}
NAMES = {
    "flags": "Set --home-api-server-host to one of them",
    "service": "Check the pods behind that Service",
}
NOW = datetime.now(UTC)
CASES = {
    "another CA": Case(of_a_stranger, "not signed by the home CA", LEADS),
    "without the name": Case(server("192.0.2.1"), "names (SANs) are: 192.0.2.1", NAMES),
    "expired": Case(
        server(USUAL, "127.0.0.1", begins=NOW - 2 * DAY, ends=NOW - DAY), "has expired", RENEW
    ),
    "of tomorrow": Case(
        server(USUAL, "127.0.0.1", begins=NOW + DAY, ends=NOW + 2 * DAY), "not valid yet", CLOCKS
    ),
    "another cluster": Case(None, "not signed by the home CA", LEADS),
}


@pytest.fixture(scope="module")
def pairs(clusters: pair.Clusters) -> dict[str, certificates.Pair]:
    """The certificates of all cases."""
    parts = clusters.home.parts
    assert parts is not None
    ca = certificates.Pair(parts.plane.authority.certificate, parts.plane.authority.key)
    return {name: case.make(ca) for name, case in CASES.items() if case.make is not None}


# --- common to flags and Service ------------------------------------------------------------------


async def refused(env: Environment, case: Case, *, way: str) -> None:
    """A pod waits and shows why; no home request and no foreign write was sent for it."""
    home_mark, foreign_mark = env.clusters.home.audit_mark(), env.clusters.foreign.audit_mark()
    await env.create(env.pod("waits"))
    waiting = await env.seen("waits", rest.reason("HomeAPICertificateInvalid"))
    status = waiting["status"]
    assert status["phase"] == "Pending"
    assert case.expected in status["message"]
    assert case.fix[way] in status["message"]
    condition = await reachable(env, "False")
    assert (condition["reason"], condition["message"]) == (
        "HomeAPICertificateInvalid",
        status["message"],
    )
    # farlet handles the other pod after this one.
    await env.create(env.pod("remote", annotations=manifests.access("remote")))
    await env.seen("remote", rest.phase("Running"))
    assert manifests.names((await env.observe()).mirrors) == ["remote"]
    assert tokens(env, home_mark) == []
    assert secrets(env, foreign_mark) == []


async def continues(env: Environment, *, since: auditlog.Mark) -> None:
    """The waiting pod runs, with a token; `since` is from before the fix."""
    await env.seen("waits", rest.phase("Running"))
    assert (await reachable(env, "True"))["reason"] == "HomeAPIVerified"
    assert len([one for one in tokens(env, since) if one.code == 201]) == 1
    await env.settled()


async def reachable(env: Environment, status: str) -> dict[str, str]:
    """The Node condition HomeAPIReachable, once it has this status."""

    def found(node: rest.Object | None) -> dict[str, str]:
        conditions = (node or {}).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == REACHABLE), {})

    seen = await env.home.until(
        "nodes", lambda node: found(node).get("status") == status, name=env.node
    )
    return found(seen)


def tokens(env: Environment, since: auditlog.Mark) -> list[auditlog.Entry]:
    """Token requests of farlet, granted or not."""
    asked = env.clusters.home.audit(since=since, user=env.user, verb="create")
    return [entry for entry in asked if entry.subresource == "token"]


def secrets(env: Environment, since: auditlog.Mark) -> list[auditlog.Entry]:
    """Writes of Secrets by farlet in the foreign cluster, successful or not."""
    asked = env.clusters.foreign.audit(since=since, user=workspaces.USER, resource="secrets")
    return [entry for entry in asked if entry.verb in {"create", "update", "patch"}]


# --- by flags -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(pair: certificates.Pair, folder: Path) -> AsyncIterator[asyncio.Server]:
    """A server on this machine that presents a certificate and sends nothing."""

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = certificates.server_context(pair, folder)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server


@pytest.mark.parametrize("name", CASES)
async def test_pods_wait_while_the_address_of_the_flags_has_an_invalid_certificate(
    env: Environment,
    start_farlet: StartFarlet,
    pairs: dict[str, certificates.Pair],
    tmp_path: Path,
    name: str,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        host, port = env.clusters.foreign.address
        if name in pairs:
            server = await stack.enter_async_context(answering(pairs[name], tmp_path))
            host, port = server.sockets[0].getsockname()
        flags = {"home-api-server-host": host, "home-api-server-port": str(port)}
        await start_farlet(env.node, settings=flags)
        await refused(env, CASES[name], way="flags")


async def test_pods_wait_until_the_ca_file_contains_the_right_ca(
    env: Environment, start_farlet: StartFarlet, tmp_path: Path
) -> None:
    file = tmp_path / "home-ca.crt"
    file.write_text(certificates.authority("another-ca").pem)
    host, port = env.clusters.home.address  # an address that farlet itself can reach
    flags = {
        "home-api-server-host": host,
        "home-api-server-port": str(port),
        "home-api-server-ca-file": str(file),
    }
    await start_farlet(env.node, settings=flags)
    fix = {"flags": "--home-api-server-ca-file"}
    case = Case(None, f"issuer is CN={env.clusters.home.name}-ca", fix)
    await refused(env, case, way="flags")
    before = env.clusters.home.audit_mark()
    file.write_text(env.clusters.home.ca_file.read_text())
    await continues(env, since=before)


# --- by the Service -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Service:
    """The Service `home-api`; behind it is a pod with all certificates."""

    clusters: pair.Clusters
    ports: Sequence[str]

    def leads_to(self, name: str) -> None:
        """Switch to the port with this certificate, or to `home`."""
        target = FIRST_PORT + self.ports.index(name)
        self.clusters.foreign.kubectl("apply", "-f", "-", content=json.dumps(_service(target)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    clusters: pair.Clusters, pairs: dict[str, certificates.Pair]
) -> AsyncIterator[Service]:
    """A Service whose pod is ready."""
    made = Service(clusters, [*CASES, "home"])
    async with clusters.foreign.api() as foreign:
        await workspaces.create_farlet_namespace(foreign)
        config = _config(clusters, made.ports, pairs)
        await foreign.create("configmaps", config, namespace=FARLET_NAMESPACE)
        await foreign.create("pods", _pod(), namespace=FARLET_NAMESPACE)
        await foreign.until(
            "pods", rest.ready, name=ANSWERS, namespace=FARLET_NAMESPACE, seconds=300
        )
        yield made
        for resource, name in (("services", "home-api"), ("configmaps", ANSWERS)):
            await foreign.delete(resource, name=name, namespace=FARLET_NAMESPACE)
        await foreign.delete(
            "pods", name=ANSWERS, namespace=FARLET_NAMESPACE, gracePeriodSeconds="0"
        )


@pytest.mark.parametrize("name", CASES)
async def test_pods_wait_while_the_server_behind_the_service_has_an_invalid_certificate(
    env: Environment, start_farlet: StartFarlet, service: Service, name: str
) -> None:
    await asyncio.to_thread(service.leads_to, name)
    flags = {"home-api-server-host": None, "home-api-server-port": None}
    farlet = await start_farlet(env.node, settings=flags)
    await refused(env, CASES[name], way="service")
    if name == "another cluster":
        before = env.clusters.home.audit_mark()
        await asyncio.to_thread(service.leads_to, "home")
        await continues(env, since=before)
        assert len(farlet.process.starts) == 1


def _service(target: int) -> rest.Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "home-api", "namespace": FARLET_NAMESPACE},
        "spec": {
            "selector": {"app": ANSWERS},
            "ports": [{"name": "https", "port": 443, "targetPort": target}],
        },
    }


def _pod() -> rest.Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": ANSWERS, "labels": {"app": ANSWERS}},
        "spec": {
            "nodeSelector": {kwok.LABEL: "real"},
            "terminationGracePeriodSeconds": 0,
            # The manifests require the Pod Security level `restricted` in this namespace.
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "image": images.CLIENTS,
                    "command": ["haproxy", "-db", "-f", "/answers/haproxy.cfg"],
                    "readinessProbe": {"tcpSocket": {"port": FIRST_PORT}, "periodSeconds": 1},
                    "volumeMounts": [{"name": ANSWERS, "mountPath": "/answers"}],
                }
            ],
            "volumes": [{"name": ANSWERS, "configMap": {"name": ANSWERS}}],
        },
    }


def _config(
    clusters: pair.Clusters, ports: Sequence[str], pairs: dict[str, certificates.Pair]
) -> rest.Object:
    """One port per certificate; those of the two clusters lead to their API servers."""
    host, port = clusters.home_api_on_other_port
    leads = {
        "another cluster": '"${KUBERNETES_SERVICE_HOST}:443"',
        "home": f"{host}:{port}",
    }
    lines = ["defaults", "  timeout connect 5s", "  timeout client 60s", "  timeout server 60s"]
    data = {}
    for number, name in enumerate(ports):
        bind = f"  bind :::{FIRST_PORT + number} v4v6"
        lines += [f"listen port{number}"]
        if name in leads:
            lines += ["  mode tcp", bind, f"  server api {leads[name]}"]
        else:
            data[f"{number}.pem"] = pairs[name].pem + pairs[name].key_pem
            lines += ["  mode http", f"{bind} ssl crt /answers/{number}.pem", "  http-request deny"]
    data["haproxy.cfg"] = "".join(f"{line}\n" for line in lines)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ANSWERS}, "data": data}
