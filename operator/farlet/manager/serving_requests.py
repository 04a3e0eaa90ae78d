"""Whether the manager approves a request for a serving certificate: pure.

The signer `kubernetes.io/kubelet-serving` verifies only the form of a request: the group
`system:nodes`, the name of some node, the usages, and that there is a DNS name or an IP
(`ValidateKubeletServingCSR` in `pkg/apis/certificates/helpers.go`). Which names a requester may
have is decided by the approver alone: with the address of another kubelet, a certificate would let
its holder pose as that kubelet towards the API server. So each condition below refuses alone, and
whatever is not known to be right is refused.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from farlet import names, redaction
from farlet.constants import JSON, Signer
from farlet.k8s_types import Pod, PodPhase
from farlet.manager.virtual_node import FARLET, VirtualNode

MAX_BYTES = 8 << 10
"""Limit of a request in PEM: one for a key of RSA 4096 with some addresses has 2 KiB."""
MAX_ADDRESSES = 16

_ELLIPTIC_BITS = (256, 384, 521)
_RSA_BITS = (2048, 3072, 4096)
_BEGIN, _END = b"-----BEGIN CERTIFICATE REQUEST-----", b"-----END CERTIFICATE REQUEST-----"
_USAGES = frozenset({"digital signature", "server auth"})
_RSA_USAGES = _USAGES | {"key encipherment"}


@dataclass(frozen=True, slots=True)
class Owner:
    """A virtual node that may have serving certificates."""

    node: str
    account: str
    """User name of the ServiceAccount of its farlet pods."""
    addresses: frozenset[str]
    """IPs of its running farlet pods."""


def owner(node: VirtualNode, pods: Iterable[Pod]) -> Owner:
    """The owner, from all pods of the manager's namespace."""
    return Owner(
        node=node.name,
        account=names.account_user(node.namespace, node.object_name),
        addresses=frozenset(
            address for pod in pods if _serves(pod, node) for address in _addresses(pod)
        ),
    )


def _serves(pod: Pod, node: VirtualNode) -> bool:
    """Whether a pod is a running farlet of this node, with an address of its own.

    The address of a pod in the host network is that of a machine and its kubelet.
    """
    metadata, spec, labels = pod["metadata"], pod["spec"], pod["metadata"].get("labels") or {}
    return (
        metadata["namespace"] == node.namespace
        and all(labels.get(key) == value for key, value in node.selector.items())
        and spec.get("serviceAccountName") == node.object_name
        and not spec.get("hostNetwork")
        and (pod.get("status") or {}).get("phase") == PodPhase.RUNNING
    )


def _addresses(pod: Pod) -> Iterable[str]:
    status = pod.get("status") or {}
    for text in [status.get("podIP"), *(one.get("ip") for one in status.get("podIPs") or ())]:
        if text:
            # An API server accepts zeros that lead; no certificate contains such an address.
            with contextlib.suppress(ValueError):
                yield str(ipaddress.ip_address(text))


def is_open(request: JSON) -> bool:
    """Whether a request for a serving certificate has neither been decided nor answered."""
    status = request.get("status") or {}
    spec = request.get("spec") or {}
    return (
        spec.get("signerName") == Signer.SERVING.value
        and not status.get("certificate")
        and not any(
            one.get("type") in {"Approved", "Denied", "Failed"}
            for one in status.get("conditions") or ()
        )
    )


def requesting_node(request: JSON, *, namespace: str) -> str | None:
    """The node whose farlet can be the requester; `None` for a request of any other client.

    The API server sets the user name, so that nothing of the request has to be parsed for this.
    `namespace` is that of the farlet pods.
    """
    user = str((request.get("spec") or {}).get("username"))
    for prefix in (names.node_user(""), names.account_user(namespace, f"{FARLET}-")):
        if user.startswith(prefix):
            return user.removeprefix(prefix)
    return None


def refusal(request: JSON, owner: Owner) -> str | None:
    """Why the manager does not approve an open request; `None`: it approves it."""
    spec: JSON = request.get("spec") or {}
    if spec.get("signerName") != Signer.SERVING.value:
        return f"the signer is not {Signer.SERVING.value}"
    user, groups = spec.get("username"), spec.get("groups") or ()
    is_node = user == names.node_user(owner.node) and names.NODES in groups
    if not is_node and user != owner.account:
        shown = redaction.value(str(user))
        return f"the requester {shown} is neither this node nor {owner.account}"
    try:
        parsed = _parse(spec)
    except ValueError as err:
        return str(err)
    return (
        _subject_refusal(parsed, owner)
        or _usage_refusal(spec, parsed)
        or _extension_refusal(parsed)
        or _address_refusal(parsed, owner)
    )


def _parse(spec: JSON) -> x509.CertificateSigningRequest:
    """Raises `ValueError` with what is wrong."""
    encoded = spec.get("request")
    if not isinstance(encoded, str) or len(encoded) > MAX_BYTES * 4 // 3 + 4:
        raise ValueError(f"the request is missing or larger than {MAX_BYTES >> 10} KiB")
    try:
        pem = base64.b64decode(encoded, validate=True).strip()
    except (binascii.Error, ValueError):
        raise ValueError("the request is not valid base64") from None
    # Others might read the second of two, or what stands before or after the one.
    if not pem.startswith(_BEGIN) or not pem.endswith(_END) or pem.count(b"-----BEGIN") != 1:
        raise ValueError("the request is not exactly one PEM block CERTIFICATE REQUEST")
    try:
        parsed = x509.load_pem_x509_csr(pem)
        key = parsed.public_key()
        list(parsed.subject)
        list(parsed.extensions)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        raise ValueError("the request cannot be parsed") from None
    if not _is_usual(key):  # before the signature is verified, which large keys make slow
        raise ValueError("the key is neither ECDSA nor RSA of a usual size")
    if not parsed.is_signature_valid:
        raise ValueError("the request is not signed with its key")
    return parsed


def _is_usual(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in _RSA_BITS and key.public_numbers().e == 65537
    return isinstance(key, ec.EllipticCurvePublicKey) and key.key_size in _ELLIPTIC_BITS


def _subject_refusal(parsed: x509.CertificateSigningRequest, owner: Owner) -> str | None:
    user = names.node_user(owner.node)
    attributes = [(one.oid, one.value) for one in parsed.subject]
    if [value for oid, value in attributes if oid == NameOID.COMMON_NAME] != [user]:
        return f"the common name is not {user}"
    if [v for oid, v in attributes if oid == NameOID.ORGANIZATION_NAME] != [names.NODES]:
        return f"the organization is not {names.NODES}"
    if len(attributes) != 2:
        return "the subject has other attributes than common name and organization"
    return None


def _usage_refusal(spec: JSON, parsed: x509.CertificateSigningRequest) -> str | None:
    usages = spec.get("usages")
    is_rsa = isinstance(parsed.public_key(), rsa.RSAPublicKey)
    allowed = (_USAGES, _RSA_USAGES) if is_rsa else (_USAGES,)
    if (
        not isinstance(usages, list)
        or not all(isinstance(one, str) for one in usages)
        or len(usages) != len(set(usages))
        or frozenset(usages) not in allowed
    ):
        return "the usages are not exactly digital signature and server auth"
    return None


def _extension_refusal(parsed: x509.CertificateSigningRequest) -> str | None:
    if any(not isinstance(one.value, x509.SubjectAlternativeName) for one in parsed.extensions):
        return "the request has extensions other than subject alternative names"
    return None


def _address_refusal(parsed: x509.CertificateSigningRequest, owner: Owner) -> str | None:
    found = [name for extension in parsed.extensions for name in extension.value]
    if not 0 < len(found) <= MAX_ADDRESSES:
        return f"the request has no address, or more than {MAX_ADDRESSES}"
    if any(not isinstance(name, x509.IPAddress) for name in found):
        return "the subject alternative names contain other names than IP addresses"
    for name in found:
        if str(name.value) not in owner.addresses:
            return f"{name.value} is not the address of a running pod of this virtual node"
    return None
