"""What an attacker cannot do with a shipped gateway, from either end or as its neighbour.

One gateway pod, one farlet, and one mirror pod. Any tenant of the foreign cluster has the same
network access to the gateway as this mirror pod.
"""

import asyncio
import base64
import contextlib
import dataclasses
import json
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio

from clusters import auditlog, gateway, pair, pki, processes, rest
from clusters import farlet as farlets
from clusters import workspace as workspaces
from clusters.gateway import Gateway
from clusters.identity import Identity
from clusters.kubectl import Kubectl, Result
from clusters.workspace import FARLET_NAMESPACE, Workspace
from farlet.gateway import keys, link, tunnel
from integration import attacker, realpods, test_secrecy
from integration.streaming import STAYS

pytestmark = [pytest.mark.clusters, pytest.mark.asyncio(loop_scope="module"), pytest.mark.takes(70)]

POD = "mirror"
TENANT = "tenant"
PODS_PORT = 6443
WITHIN = 60.0


@dataclasses.dataclass(frozen=True)
class GatewayEnvironment:
    """Both ends. `waited` is the waiting pod; the entries are farlet's requests until then."""

    clusters: pair.Clusters
    space: Workspace
    gateway: Gateway
    farlet: farlets.Farlet
    waited: rest.Object
    tokens: list[auditlog.Entry]
    written: list[auditlog.Entry]
    looks: list[auditlog.Entry]

    async def inside(self, *command: str) -> Result:
        """Run a command in the pod."""
        foreign_kubectl = Kubectl.of(self.clusters.foreign, self.space.foreign)
        return await foreign_kubectl.run("exec", POD, "--", *command)

    @contextlib.asynccontextmanager
    async def farlet_port(self) -> AsyncIterator[socket.socket]:
        """A connection to the port that listens for farlet, by a user who can forward ports."""
        (pod,) = await self.gateway.pods()
        kubectl = Kubectl.of(self.clusters.foreign, FARLET_NAMESPACE)
        async with kubectl.forwarding(f"pod/{pod.name}", f":{link.PORT}") as port:
            with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as connection:
                connection.setblocking(False)
                yield connection

    async def still_works(self) -> None:
        """Return once pods reach the home cluster."""
        answer = await self.inside("kubectl", "get", "pods", "--output=name")
        assert (answer.out, answer.err) == (f"pod/{POD}\n".encode(), "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def env(
    clusters: pair.Clusters, usual_identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GatewayEnvironment]:
    """farlet starts with another CA, and gets the right one while a pod waits."""
    folder = tmp_path_factory.mktemp("isolation")
    other_ca = pki.authority(folder / "pki", name="another-ca")
    ca_file = folder / "home-ca.crt"
    ca_file.write_text(other_ca.files.certificate.read_text())
    node = f"virtual-{secrets.token_hex(3)}"
    async with (
        clusters.home.api() as home,
        clusters.foreign.api() as foreign,
        contextlib.AsyncExitStack() as stack,
    ):
        space = await workspaces.create(home, foreign)
        stack.push_async_callback(workspaces.delete, home, foreign, space)
        await workspaces.allow_listing_pods(home, namespace=space.home)
        made = await stack.enter_async_context(gateway.installed(clusters))
        (quiet,) = await made.pods()
        debug = ("set", "env", f"deployment/{gateway.NAME}", "FARLET_LOG_LEVEL=debug")
        await made.kubectl(*debug)
        farlet = farlets.create(
            clusters,
            node=node,
            identity=usual_identity,
            settings=made.settings | {"home-api-server-ca-file": str(ca_file)},
        )
        home_mark, foreign_mark = clusters.home.audit_mark(), clusters.foreign.audit_mark()
        farlet.start()
        stack.push_async_callback(home.delete, "nodes", name=node)
        stack.push_async_callback(farlet.stop)
        await farlet.ready()
        await made.linked()
        wanted = realpods.bound(realpods.pod(POD, *STAYS), node)
        await home.create("pods", wanted, namespace=space.home)
        waited = await home.until(
            *("pods", rest.reason("HomeAPICertificateInvalid")),
            name=POD,
            namespace=space.home,
        )
        tokens = list(clusters.home.audit(since=home_mark, user=usual_identity.user(node)))
        asked = list(clusters.foreign.audit(since=foreign_mark, user=workspaces.USER))
        # The audit entry of a port-forward is complete only when its connection ends.
        started = clusters.foreign.audit(
            since=foreign_mark, user=workspaces.USER, stage="ResponseStarted"
        )
        ca_file.write_text(clusters.home.ca_file.read_text())
        await home.until("pods", rest.ready, name=POD, namespace=space.home, seconds=180)
        await made.kubectl("wait", f"pod/{quiet.name}", "--for=delete", "--timeout=180s")
        yield GatewayEnvironment(
            clusters,
            space,
            made,
            farlet,
            waited,
            tokens=[entry for entry in tokens if entry.subresource == "token"],
            written=[
                entry
                for entry in asked
                if entry.resource == "secrets" and entry.verb not in {"get", "list", "watch"}
            ],
            looks=[entry for entry in (*asked, *started) if entry.subresource == "portforward"],
        )


async def test_farlet_checks_the_address_through_the_gateway_before_it_sends_anything(
    env: GatewayEnvironment,
) -> None:
    message = env.waited["status"]["message"]
    assert env.waited["status"]["phase"] == "Pending"
    assert "not signed by the home CA" in message
    assert "check the endpoints of the Service home-api" in message
    assert (env.tokens, env.written) == ([], [])
    looked = [entry for entry in env.looks if f"ports={PODS_PORT}" in entry.uri]
    assert looked
    assert all(entry.namespace == FARLET_NAMESPACE for entry in env.looks)
    assert all(entry.name.startswith(gateway.NAME) for entry in env.looks)
    assert len(env.farlet.process.starts) == 1
    await env.still_works()


# --- from the side of pods ------------------------------------------------------------------------


HTTP = "{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"
SAID = {
    "plain HTTP": HTTP.format("GET /api/v1/secrets", "kubernetes.default.svc"),
    "a request to a proxy": HTTP.format("GET http://10.96.0.1/api", "10.96.0.1"),
    "a tunnel": HTTP.format("CONNECT 10.96.0.1:443", "10.96.0.1"),
    "SSH": "SSH-2.0-farlet\r\n\r\n",
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_pods_get_responses_of_the_home_api_server_and_of_no_proxy(
    env: GatewayEnvironment, said: str
) -> None:
    through = await env.inside(
        "python3", "-c", attacker.SAY, await env.gateway.address(), "443", said
    )
    host, port = env.clusters.home.address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(said.encode())
    async with asyncio.timeout(WITHIN):
        directly = await reader.read()
    writer.close()
    assert (through.code, through.err) == (0, "")
    assert b"HTTP request to an HTTPS server" in directly or b"HTTP" not in directly
    assert through.out == directly


async def test_pods_do_not_reach_the_port_that_listens_for_farlet(
    env: GatewayEnvironment,
) -> None:
    (pod,) = await env.gateway.pods()
    for address in (pod.address, await env.gateway.address()):
        answer = await env.inside("python3", "-c", attacker.SAY, address, str(link.PORT), "hello")
        assert (answer.code, answer.out) == (1, b"")
        assert "Error" in answer.err.splitlines()[-2]  # the last line is printed by kubectl
    answer = await env.inside(
        "python3", "-c", attacker.SAY, pod.address, str(PODS_PORT), SAID["plain HTTP"]
    )
    assert b"HTTPS server" in answer.out  # the same pod


async def test_a_gateway_has_no_service_account_token(env: GatewayEnvironment) -> None:
    (pod,) = await env.gateway.pods()
    await asyncio.to_thread(_has_no_account, pod)


def _has_no_account(pod: gateway.Pod) -> None:
    root = Path(f"/proc/{pod.pid}/root")
    assert (root / "etc/farlet/gateway" / keys.PRIVATE).exists()
    assert not (root / "var/run/secrets/kubernetes.io").exists()


# --- from the side of farlet's connection ---------------------------------------------------------


async def test_a_tenant_without_permission_to_forward_is_rejected(env: GatewayEnvironment) -> None:
    """Regardless of the permissions in the tenant's own namespace."""
    edit = ("create", "rolebinding", TENANT, "--clusterrole=edit", f"--user={TENANT}")
    foreign = env.clusters.foreign
    await asyncio.to_thread(foreign.kubectl, *edit, f"--namespace={env.space.foreign}")
    (pod,) = await env.gateway.pods()
    tenant = Kubectl(foreign.kubectl_program, foreign.login(TENANT), FARLET_NAMESPACE)
    answer = await tenant.run("port-forward", f"pod/{pod.name}", f":{link.PORT}")
    assert answer.code == 1
    assert "forbidden" in answer.err.lower()


def _new() -> tuple[asyncssh.SSHKey, ...]:
    return tuple(asyncssh.generate_private_key(keys.ALGORITHM) for _ in range(2))


async def test_a_tenant_who_can_forward_gets_nothing_without_the_key(
    env: GatewayEnvironment,
) -> None:
    ours, other = _new()
    known = keys.read(env.gateway.keys / "home").trusted
    for trusted in ((other.convert_to_public(),), known):
        async with env.farlet_port() as connection:
            with pytest.raises((asyncssh.Error, OSError)):
                await tunnel.connect(connection.dup(), keys.Keys(ours, trusted), _nowhere)
    async with asyncio.timeout(WITHIN):  # a gateway logs it once the connection has ended
        while (
            "the peer presented a key that trusted-keys does not contain"
            not in await env.gateway.diagnostics()
        ):
            pass
    await env.still_works()


async def _nowhere(_factory: Callable[[], asyncio.BaseProtocol]) -> object:
    raise AssertionError("a gateway opened a connection for an unknown peer")


async def test_an_attacker_with_farlet_s_key_gets_nothing_from_a_gateway(
    env: GatewayEnvironment,
) -> None:
    own = keys.read(env.gateway.keys / "home")
    async with env.farlet_port() as sock:
        connection = await asyncssh.connect_reverse(
            sock=sock.dup(),
            config=None,
            server_host_keys=[own.private],
            server_factory=attacker.PermissiveServer,
        )
        wanted: dict[str, Callable[[], Awaitable[object]]] = {
            "the foreign API server": lambda: connection.open_connection("10.96.0.1", 443),
            "itself": lambda: connection.open_connection("127.0.0.1", PODS_PORT),
            "home": lambda: connection.open_connection(*link.DESTINATION),
            "a socket file": lambda: connection.open_unix_connection("/run/any.sock"),
        }
        asked = (asyncio.wait_for(ask(), WITHIN) for ask in wanted.values())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for what, answer in zip(wanted, answers, strict=True):
            assert isinstance(answer, asyncssh.ChannelOpenError | OSError), (what, answer)
        # The gateway treats it as one of several farlets; what it rejects goes to the next one.
        await env.still_works()
        connection.abort()


async def test_a_compromised_gateway_gets_nothing_but_the_home_api_from_farlet(
    env: GatewayEnvironment,
) -> None:
    """It reaches no other port on farlet's machine and no other name."""
    metrics = int(env.farlet.metrics_address.rpartition(":")[2])
    addresses = [
        ("127.0.0.1", metrics),
        (link.DESTINATION[0], metrics),
        ("localhost", link.DESTINATION[1]),
        env.clusters.home.address,
    ]
    async with env.clusters.foreign.api() as foreign:
        pod = attacker.pod(addresses=addresses)
        await foreign.create("pods", pod, namespace=FARLET_NAMESPACE)
        ((ended, output),) = await realpods.outputs(foreign, [(FARLET_NAMESPACE, attacker.POD)])
        await foreign.delete("pods", name=attacker.POD, namespace=FARLET_NAMESPACE)
    assert ended["status"]["phase"] == "Succeeded", output
    got = json.loads(output)
    assert "HTTP request to an HTTPS server" in got.pop("home")
    assert len(got) == len(addresses) + 6
    assert set(got.values()) == {"ChannelOpenError", "ChannelListenError"}, got
    await env.still_works()


# --- what is logged -------------------------------------------------------------------------------


async def test_no_private_key_or_token_is_found_but_a_planted_key_is(
    env: GatewayEnvironment, tmp_path: Path
) -> None:
    sides = [env.gateway.keys / side for side in ("home", "foreign")]
    private = [(side / keys.PRIVATE).read_text() for side in sides]
    program = Path(env.farlet.process.command[0])
    texts = {
        "log of farlet": env.farlet.log,
        "metrics": await env.farlet.metrics(),
        "command line": json.dumps([str(word) for word in env.farlet.process.command]),
        "gateway-keys": processes.run([program, "gateway-keys", tmp_path / "keys"], what="keys"),
        "log of the gateway": await env.gateway.kubectl("logs", f"deployment/{gateway.NAME}"),
    }
    made = [(tmp_path / "keys" / side / keys.PRIVATE).read_text() for side in ("home", "foreign")]
    for resource in ("pods", "events", "configmaps", "deployments"):
        texts[resource] = await env.gateway.kubectl("get", resource, "--output=json")
    assert "farlet connected" in texts["log of the gateway"]
    assert all(texts.values())
    tokens = await _tokens(env)
    assert len(tokens) == 1
    assert test_secrecy.found(tokens, texts) == []
    for side in (env.clusters.home, env.clusters.foreign):
        texts[f"audit log of {side.name}"] = side.audit_log.path.read_text()
    assert test_secrecy.found([*private, *made], texts, test_secrecy.shapes_of_key) == []
    coded = base64.b64encode(private[1].encode()).decode()
    planted = {"plain": "".join(private[0].splitlines()), "in base64": coded}
    assert test_secrecy.found(private, planted, test_secrecy.shapes_of_key) == list(planted)


async def _tokens(env: GatewayEnvironment) -> set[str]:
    """The tokens of mirror pods."""
    get = ("get", "secrets", f"--namespace={env.space.foreign}", "--output=json")
    found = json.loads(await asyncio.to_thread(env.clusters.foreign.kubectl, *get))
    values = (one for secret in found["items"] for one in secret.get("data", {}).values())
    return {text for one in values if (text := base64.b64decode(one).decode()).startswith("ey")}
