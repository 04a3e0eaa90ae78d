"""Which requests for serving certificates the manager approves: one refused case per condition."""

from __future__ import annotations

import base64
import dataclasses
import functools
import ipaddress
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from farlet.manager import serving_requests
from unit.manager import nodes

JSON = dict[str, Any]
FAR = nodes.node()
ADDRESS, SECOND = "10.0.0.7", "fd00::7"
OWNER = serving_requests.Owner(
    node="far",
    account="system:serviceaccount:farlet:farlet-far",
    addresses=frozenset({ADDRESS, SECOND}),
)
NODE: JSON = {"username": "system:node:far", "groups": ["system:nodes", "system:authenticated"]}
ACCOUNT: JSON = {"username": OWNER.account, "groups": ["system:serviceaccounts"]}
USAGES = ["digital signature", "server auth"]
SUBJECT = [
    (NameOID.ORGANIZATION_NAME, "system:nodes"),
    (NameOID.COMMON_NAME, "system:node:far"),
]
IP = x509.IPAddress(ipaddress.ip_address(ADDRESS))
IPV6 = x509.IPAddress(ipaddress.ip_address(SECOND))


@functools.cache
def key(kind: str = "ec") -> Any:
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind))


def pem(
    *,
    subject: Sequence[tuple[x509.ObjectIdentifier, str]] = SUBJECT,
    names: Sequence[x509.GeneralName] = (IP,),
    more: Sequence[x509.ExtensionType] = (),
    kind: str = "ec",
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if kind == "ed25519" else hashes.SHA256()
    return builder.sign(key(kind), algorithm).public_bytes(serialization.Encoding.PEM)


def request(content: bytes | None = None, **changed: Any) -> JSON:
    """A CSR as the API server has it."""
    spec = {
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": USAGES,
        "request": base64.b64encode(pem() if content is None else content).decode(),
        **NODE,
    }
    return {
        "metadata": {"name": "csr-1", "uid": "u1", "resourceVersion": "1"},
        "spec": {**spec, **changed},
    }


def _forged() -> bytes:
    """The request of another key, with one bit of its signature changed."""
    block = x509.load_pem_x509_csr(pem()).public_bytes(serialization.Encoding.DER)
    changed = base64.encodebytes(block[:-1] + bytes([block[-1] ^ 1])).decode()
    return (
        f"-----BEGIN CERTIFICATE REQUEST-----\n{changed}-----END CERTIFICATE REQUEST-----\n"
    ).encode()


APPROVED: dict[str, JSON] = {
    "the node": request(),
    "the ServiceAccount of the node": request(**ACCOUNT),
    "two addresses of one pod": request(pem(names=[IP, IPV6])),
    "a key of RSA 2048 with key encipherment": request(
        pem(kind="2048"), usages=[*USAGES, "key encipherment"]
    ),
    "usages in another order": request(usages=USAGES[::-1]),
}


@pytest.mark.parametrize("given", APPROVED.values(), ids=APPROVED)
def test_a_request_is_approved_with(given: JSON) -> None:
    assert serving_requests.is_open(given)
    assert serving_requests.requesting_node(given, namespace="farlet") == "far"
    assert serving_requests.refusal(given, OWNER) is None


_URI = x509.UniformResourceIdentifier("https://10.0.0.7")
_MAIL = x509.RFC822Name("far@example.com")
_DNS = x509.DNSName("kubernetes.default.svc")

REFUSED: dict[str, tuple[JSON, str]] = {
    "another signer": (
        request(signerName="kubernetes.io/kube-apiserver-client-kubelet"),
        "the signer is not",
    ),
    "another node as requester": (
        request(username="system:node:near"),
        "neither this node nor",
    ),
    "the node's name outside of system:nodes": (
        request(groups=["system:authenticated"]),
        "neither this node nor",
    ),
    "the ServiceAccount of another node": (
        request(username="system:serviceaccount:farlet:farlet-near"),
        "neither this node nor",
    ),
    "an account of that name in another namespace": (
        request(username="system:serviceaccount:shop:farlet-far"),
        "neither this node nor",
    ),
    "an administrator as requester": (
        request(username="admin", groups=["system:masters"]),
        "neither this node nor",
    ),
    "no requester": (request(username=None, groups=None), "neither this node nor"),
    "another common name": (
        request(pem(subject=[SUBJECT[0], (NameOID.COMMON_NAME, "system:node:near")])),
        "the common name is not system:node:far",
    ),
    "two common names": (
        request(pem(subject=[*SUBJECT, (NameOID.COMMON_NAME, "system:node:near")])),
        "the common name is not system:node:far",
    ),
    "another organization": (
        request(pem(subject=[(NameOID.ORGANIZATION_NAME, "system:masters"), SUBJECT[1]])),
        "the organization is not system:nodes",
    ),
    "a second organization": (
        request(pem(subject=[(NameOID.ORGANIZATION_NAME, "system:masters"), *SUBJECT])),
        "the organization is not system:nodes",
    ),
    "a further attribute of the subject": (
        request(pem(subject=[*SUBJECT, (NameOID.EMAIL_ADDRESS, "far@example.com")])),
        "other attributes",
    ),
    "a usage for clients": (request(usages=[*USAGES, "client auth"]), "the usages are not"),
    "a missing usage": (request(usages=["server auth"]), "the usages are not"),
    "a usage twice": (request(usages=[*USAGES, "server auth"]), "the usages are not"),
    "key encipherment for a key of ECDSA": (
        request(usages=[*USAGES, "key encipherment"]),
        "the usages are not",
    ),
    "usages that are not a list": (request(usages="server auth"), "the usages are not"),
    "no address": (request(pem(names=[])), "no address"),
    "an address of another pod": (
        request(pem(names=[x509.IPAddress(ipaddress.ip_address("10.0.0.8"))])),
        "10.0.0.8 is not the address of a running pod",
    ),
    "an address of another pod beside its own": (
        request(pem(names=[IP, x509.IPAddress(ipaddress.ip_address("10.0.0.8"))])),
        "10.0.0.8 is not the address of a running pod",
    ),
    "its address in the form of IPv6": (
        request(pem(names=[x509.IPAddress(ipaddress.ip_address(f"::ffff:{ADDRESS}"))])),
        "is not the address of a running pod",
    ),
    "a DNS name": (request(pem(names=[IP, _DNS])), "other names than IP addresses"),
    "a URI": (request(pem(names=[IP, _URI])), "other names than IP addresses"),
    "an e-mail address": (request(pem(names=[IP, _MAIL])), "other names than IP addresses"),
    "too many addresses": (
        request(pem(names=[IP] * (serving_requests.MAX_ADDRESSES + 1))),
        "no address, or more than",
    ),
    "the extension of a CA": (
        request(pem(more=[x509.BasicConstraints(ca=True, path_length=None)])),
        "extensions other than",
    ),
    "a key of RSA 1024": (request(pem(kind="1024")), "neither ECDSA nor RSA"),
    "a key of another kind": (request(pem(kind="ed25519")), "neither ECDSA nor RSA"),
    "a signature of another key": (request(_forged()), "not signed with its key"),
    "two blocks": (request(pem() + pem()), "exactly one PEM block"),
    "text before the block": (request(b"x\n" + pem()), "exactly one PEM block"),
    "a certificate in place of the request": (
        request(pem().replace(b"CERTIFICATE REQUEST", b"CERTIFICATE")),
        "exactly one PEM block",
    ),
    "a request that cannot be parsed": (
        request(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"),
        "cannot be parsed",
    ),
    "a request that is too large": (
        request(b"A" * (serving_requests.MAX_BYTES + 100)),
        "missing or larger than",
    ),
    "a request that is not base64": (request(request="%%%"), "not valid base64"),
    "no request": (request(request=None), "missing or larger than"),
}


@pytest.mark.parametrize(("given", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_request_is_refused_with(given: JSON, reason: str) -> None:
    refusal = serving_requests.refusal(given, OWNER)
    assert refusal is not None
    assert reason in refusal


# --- pods ----------------------------------------------------------------------------------------


def pod(address: str = ADDRESS, **changed: Any) -> Any:
    labels = {"app.kubernetes.io/name": "farlet", "app.kubernetes.io/instance": "far"}
    found: JSON = {
        "metadata": {"name": "farlet-far-1", "namespace": "farlet", "labels": labels},
        "spec": {"serviceAccountName": "farlet-far"},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }
    for path, value in changed.items():
        section, _, name = path.partition("__")
        found[section] = {**found[section], name: value}
    return found


def test_the_addresses_of_running_pods_count() -> None:
    dual = pod(status__podIPs=[{"ip": ADDRESS}, {"ip": "fd00:0::7"}])
    assert serving_requests.owner(FAR, [dual]) == OWNER


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(pod(status__phase="Pending"), id="that does not run"),
        pytest.param(pod(status__phase="Succeeded"), id="that has ended"),
        pytest.param(pod(spec__hostNetwork=True), id="in the network of its machine"),
        pytest.param(pod(spec__serviceAccountName="default"), id="of another ServiceAccount"),
        pytest.param(pod(metadata__namespace="shop"), id="of another namespace"),
        pytest.param(pod(metadata__labels={}), id="without labels"),
        pytest.param(
            pod(
                metadata__labels={
                    "app.kubernetes.io/name": "farlet",
                    "app.kubernetes.io/instance": "near",
                }
            ),
            id="of another node",
        ),
        pytest.param(pod(address=""), id="without an address"),
    ],
)
def test_no_address_counts_of_a_pod(given: Any) -> None:
    owner = serving_requests.owner(FAR, [given])
    assert owner == dataclasses.replace(OWNER, addresses=frozenset())
    assert serving_requests.refusal(request(), owner) is not None


# --- which requests are the manager's ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Approved", "Denied", "Failed"])
def test_a_decided_request_is_not_open(kind: str) -> None:
    decided = {**request(), "status": {"conditions": [{"type": kind, "status": "True"}]}}
    assert not serving_requests.is_open(decided)


def test_a_request_of_another_signer_is_not_open() -> None:
    assert not serving_requests.is_open(request(signerName="example.com/signer"))


@pytest.mark.parametrize(
    ("user", "node"),
    [
        pytest.param("system:node:near", "near", id="a node"),
        pytest.param("system:serviceaccount:farlet:farlet-near", "near", id="its ServiceAccount"),
        pytest.param("system:serviceaccount:shop:farlet-near", None, id="of another namespace"),
        pytest.param("system:serviceaccount:farlet:default", None, id="another ServiceAccount"),
        pytest.param("admin", None, id="a person"),
        pytest.param(None, None, id="no user"),
    ],
)
def test_the_requester_of_a_request_is(user: str | None, node: str | None) -> None:
    given = request(username=user, request="%%%")
    assert serving_requests.requesting_node(given, namespace="farlet") == node
