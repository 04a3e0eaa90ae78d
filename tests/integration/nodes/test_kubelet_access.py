"""Access to the kubelet API, and the certificates on both sides, with real API servers.

Requests go directly to the port, like those of Prometheus, and through the home API server, like
those of kubectl.
"""

import asyncio
import dataclasses
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from clusters import errors, kubeconfig, pki, ports, rest
from clusters import farlet as farlets
from clusters import identity as identities
from clusters.cluster import Cluster
from clusters.identity import Identity
from conftest import StartFarlet
from faults.environment import Environment

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

SERVING, CLIENT = "kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"
SELF_NODE_CLIENT = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Port:
    """The kubelet API of a farlet, and its settings."""

    env: Environment
    farlet: farlets.Farlet
    host: str
    number: int

    async def get(
        self,
        path: str = "/healthz",
        *,
        login: Path | None = None,
        token: str | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> tuple[int, str]:
        """Status and text of a request with this certificate or token."""
        context = trust or ssl.create_default_context()
        if trust is None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if login is not None:
            _show(context, kubeconfig.read(login), login.parent)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.get(f"https://{self.host}:{self.number}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    async def through_home(self, path: str = "/healthz") -> rest.Object:
        """The same through the home API server, like kubectl. Raises `rest.ApiError`."""
        return await self.env.home.request("GET", f"/api/v1/nodes/{self.env.node}/proxy{path}")


def _show(context: ssl.SSLContext, access: kubeconfig.Access, folder: Path) -> None:
    assert access.certificate is not None
    assert access.key is not None
    file = folder / "shown.pem"
    file.write_bytes(access.certificate + b"\n" + access.key)
    context.load_cert_chain(file)


class Opener:
    """Starts farlets that serve the kubelet API."""

    def __init__(self, env: Environment, start: StartFarlet) -> None:
        self._stage = env
        self._start = start

    async def __call__(
        self,
        *,
        home_login: Path | None = None,
        settings: Mapping[str, str | None] | None = None,
    ) -> Port:
        # The home API server does not proxy to loopback.
        host, (number,) = ports.own_address(), ports.free(1)
        farlet = await self._start(
            self._stage.node,
            home_login=home_login,
            settings={
                "capacity": "cpu=8,memory=32Gi,pods=110",
                "node-ip": host,
                "kubelet-port": str(number),
                "kubelet-bind-address": f"{host}:{number}",
                "client-ca-file": str(self._stage.clusters.home.ca_file),
                **(settings or {}),
            },
        )
        return Port(self._stage, farlet, host, number)


@pytest.fixture
def opened(env: Environment, start_farlet: StartFarlet) -> Opener:
    return Opener(env, start_farlet)


class Accounts:
    """ServiceAccounts in the test's namespace; their permissions are removed at the end."""

    def __init__(self, env: Environment) -> None:
        self._home = env.clusters.home
        self._namespace = env.workspace.home
        self._roles: list[str] = []

    async def token(self, name: str, *subresources: str) -> str:
        """The token of an account that can `get` these subresources of nodes."""
        await self._kubectl("create", "serviceaccount", name, f"--namespace={self._namespace}")
        if subresources:
            role, account = f"{self._namespace}-{name}", f"{self._namespace}:{name}"
            self._roles.append(role)
            resources = ",".join(f"nodes/{one}" for one in subresources)
            await self._kubectl(
                "create", "clusterrole", role, "--verb=get", f"--resource={resources}"
            )
            await self._kubectl(
                *("create", "clusterrolebinding", role),
                *(f"--clusterrole={role}", f"--serviceaccount={account}"),
            )
            # An API server learns of permissions by watches, with a delay.
            user = f"--as=system:serviceaccount:{account}"
            may = ("auth", "can-i", "get", "nodes", f"--subresource={subresources[0]}", user)
            await _until(lambda: _says_yes(self._home, may))
        token = await self._kubectl("create", "token", name, f"--namespace={self._namespace}")
        return token.strip()

    async def forget(self) -> None:
        for role in self._roles:
            await self._kubectl("delete", f"clusterrole/{role}", f"clusterrolebinding/{role}")

    async def _kubectl(self, *arguments: str) -> str:
        return await asyncio.to_thread(self._home.kubectl, *arguments)


@pytest.fixture
async def accounts(env: Environment) -> AsyncIterator[Accounts]:
    made = Accounts(env)
    yield made
    await made.forget()


async def test_clients_get_the_responses_of_a_kubelet(
    env: Environment, opened: Opener, accounts: Accounts, tmp_path: Path
) -> None:
    home = env.clusters.home
    port = await opened()
    poor = await accounts.token("poor")
    rich = await accounts.token("rich", "proxy")
    narrow = await accounts.token("narrow", "healthz")
    who = f"system:serviceaccount:{env.workspace.home}"

    def forbidden(user: str, *subresources: str) -> tuple[int, str]:
        wanted = " ".join(subresources)
        return (
            403,
            f"Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[{wanted}])\n",
        )

    assert await port.get() == (401, "Unauthorized")
    assert await port.get(token="a.b.c") == (401, "Unauthorized")
    assert await port.get(token=poor) == forbidden(f"{who}:poor", "healthz", "proxy")
    assert await port.get(token=rich) == (200, "ok")
    assert await port.get(token=narrow) == (200, "ok")
    assert await port.get("/pods", token=narrow) == forbidden(f"{who}:narrow", "pods", "proxy")
    admin, unknown = home.kubeconfig, home.login("unknown-user")
    assert await port.get(login=admin) == (200, "ok")
    assert await port.get(login=unknown) == forbidden("unknown-user", "healthz", "proxy")
    other_ca = pki.authority(tmp_path, name="another CA")
    outsider = kubeconfig.write(
        tmp_path / "outsider.kubeconfig",
        server=home.server,
        authority=other_ca.files.certificate.read_bytes(),
        user=other_ca.client("outsider", user="kube-apiserver", groups=["system:masters"]),
        cluster="home",
    )
    with pytest.raises(aiohttp.ClientError):
        await port.get(login=outsider)


async def test_the_home_api_server_s_client_certificate_is_accepted(
    env: Environment, opened: Opener
) -> None:
    """A ServiceAccount reads the CA from the ConfigMap; a node gets it in a file."""
    login = Identity.ACCOUNT.login(env.clusters.home, env.node)
    identities.bind_as_shipped(env.clusters.home, env.node, namespace=env.workspace.home)
    port = await opened(home_login=login, settings={"client-ca-file": None})
    await _until(lambda: "client CA loaded" in port.farlet.log)
    assert await port.get(login=env.clusters.home.kubeconfig) == (200, "ok")


async def test_the_serving_certificate_is_issued_by_home_after_approval(
    env: Environment, opened: Opener, tmp_path: Path
) -> None:
    home = env.clusters.home
    kept = {
        "cert-dir": str(tmp_path / "kept"),
        "tls-cert-file": None,
        "tls-private-key-file": None,
    }
    port = await opened(settings=kept)
    trust = ssl.create_default_context(cafile=home.ca_file)
    # The home API server verifies certificates of kubelets and rejects a self-signed one.
    with pytest.raises(rest.ApiError, match="x509: certificate signed by unknown authority"):
        await port.through_home()
    async with asyncio.timeout(SECONDS):
        while not (requests := await _requests(env, SERVING)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    (request,) = requests
    await asyncio.to_thread(home.kubectl, "certificate", "approve", request["metadata"]["name"])
    await _until(lambda: "serving certificate granted" in port.farlet.log)
    assert (await port.get(login=home.kubeconfig, trust=trust))[0] == 200
    assert await port.through_home() == {"text": "ok"}

    await port.farlet.restart()
    assert await port.through_home() == {"text": "ok"}
    assert len(await _requests(env, SERVING)) == 1


async def test_a_serving_certificate_in_files_is_read_again_when_it_changes(
    env: Environment, opened: Opener, tmp_path: Path
) -> None:
    authority = pki.authority(tmp_path / "other", name="another CA")
    first = authority.server("serving", user="far", hosts=[ports.own_address()])
    port = await opened(
        settings={
            "tls-cert-file": str(first.certificate),
            "tls-private-key-file": str(first.key),
        }
    )
    trust = ssl.create_default_context(cafile=authority.files.certificate)
    admin = env.clusters.home.kubeconfig
    assert (await port.get(login=admin, trust=trust))[0] == 200
    before = await _serial(port)
    authority.server("serving", user="far", hosts=[ports.own_address()])
    await _until(lambda: "serving certificate reloaded" in port.farlet.log)
    assert await _serial(port) != before
    assert await _requests(env, SERVING) == []


async def test_the_node_s_own_certificate_is_rotated(
    env: Environment, opened: Opener, tmp_path: Path
) -> None:
    home = env.clusters.home
    await _let_nodes_renew(home)
    old = _nearly_over(home, env.node, tmp_path)
    untouched = old.read_bytes()
    kept = tmp_path / "kept"
    port = await opened(
        home_login=old,
        settings={"rotate-certificates": "true", "cert-dir": str(kept)},
    )
    current = kept / "kubelet-client-current.pem"
    await _until(current.exists)
    certificate = x509.load_pem_x509_certificate(current.read_bytes())
    assert certificate.subject.rfc4514_string() == f"CN=system:node:{env.node},O=system:nodes"
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    mark = home.audit_mark()

    def used() -> Iterator[set[str]]:
        for entry in home.audit(since=mark, user=f"system:node:{env.node}"):
            extra = entry.raw["user"].get("extra", {})
            yield set(extra.get("authentication.kubernetes.io/credential-id", ()))

    await _until(lambda: {f"X509SHA256={digest}"} in used())
    (request,) = await _requests(env, CLIENT)
    assert request["status"]["conditions"][0]["reason"] == "AutoApproved"
    assert old.read_bytes() == untouched
    assert (await port.get(login=home.kubeconfig))[0] == 200


async def test_farlet_refuses_to_rotate_a_certificate_that_is_not_of_a_node(
    env: Environment, start_farlet: StartFarlet, tmp_path: Path
) -> None:
    farlet = await start_farlet(
        env.node,
        home_login=Identity.ACCOUNT.login(env.clusters.home, env.node),
        settings={"rotate-certificates": "true", "cert-dir": str(tmp_path)},
        ready=False,
    )
    assert await asyncio.to_thread(farlet.process.wait, seconds=SECONDS) == 1
    assert "--rotate-certificates renews the certificate" in farlet.log
    assert "Traceback" not in farlet.log


# --- helpers -----------------------------------------------------------------------------------


def _says_yes(cluster: Cluster, question: tuple[str, ...]) -> bool:
    try:
        return cluster.kubectl(*question).strip().endswith("yes")
    except errors.HarnessError:  # kubectl exits with 1 for "no"
        return False


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS:.0f} s"
        await asyncio.sleep(0.1)


async def _requests(env: Environment, signer: str) -> list[rest.Object]:
    """The certificate signing requests of this test's node."""
    found = await env.home.list("certificatesigningrequests")
    return [
        one
        for one in found
        if one["spec"]["username"].endswith(env.node) and one["spec"]["signerName"] == signer
    ]


async def _serial(port: Port) -> int:
    pem = await asyncio.to_thread(ssl.get_server_certificate, (port.host, port.number))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


async def _let_nodes_renew(home: Cluster) -> None:
    """The same permissions as kubeadm grants."""
    binding = f"clusterrolebinding/{SELF_NODE_CLIENT}"
    if not await asyncio.to_thread(home.kubectl, "get", binding, "--ignore-not-found", "-oname"):
        await asyncio.to_thread(
            home.kubectl,
            "create",
            "clusterrolebinding",
            SELF_NODE_CLIENT,
            f"--clusterrole={SELF_NODE_CLIENT}",
            "--group=system:nodes",
        )


def _nearly_over(home: Cluster, node: str, folder: Path) -> Path:
    """A kubeconfig of the node whose certificate expires in one of ten hours."""
    assert home.parts is not None
    authority = home.parts.plane.authority
    now = datetime.datetime.now(datetime.UTC)
    pair = authority.client(f"old-{node}", user=f"system:node:{node}", groups=["system:nodes"])
    seen = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(seen.subject)
        .issuer_name(seen.issuer)
        .public_key(seen.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=9))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
    for extension in seen.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    signed = builder.sign(authority.key, hashes.SHA256())
    pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    access = kubeconfig.read(home.kubeconfig)
    return kubeconfig.write(
        folder / "old.kubeconfig",
        server=access.server,
        authority=access.authority,
        user=pair,
        cluster="home",
    )
