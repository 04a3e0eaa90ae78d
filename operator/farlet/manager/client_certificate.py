"""The client certificate of a node: when to request it, and what its request leads to. Pure.

`home_credentials` sends the requests.

The manager keeps the key of an open request in the Secret, so that a restart or a lost answer leads
to the same request again: its name is a digest of the key. So a node never has two open requests.
A denied one stays in the way until Kubernetes or a person deletes it, which is the pause before the
next (kube-controller-manager deletes it after an hour, an undecided one after a day:
`pkg/controller/certificates/cleaner`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from farlet import names, redaction
from farlet.certs import key_pairs, signing_requests
from farlet.constants import JSON, Signer
from farlet.forge import timestamps
from farlet.manager import findings, kubeconfigs
from farlet.manager.findings import Finding, Reason
from farlet.manager.kubeconfigs import Kubeconfig

PENDING_KEY = "pending-key"
"""The data key of the Secret with the private key of the open request."""
LIFETIME = timedelta(days=7)
"""As requested; the granted one counts."""
WARNING = timedelta(hours=48)
"""A renewal that nothing approves is reported this long before the certificate expires."""
APPROVER_PATIENCE = timedelta(seconds=60)
"""An approver or signer that works automatically needs less."""

_SELF_APPROVAL = (
    "to have renewals approved automatically: kubectl create clusterrolebinding "
    "farlet-{node}-renewal --user={user} --clusterrole="
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """The content of the Secret with a node's credentials."""

    kubeconfig: Kubeconfig | None = None
    """With a certificate of this node and its key, perhaps expired."""
    problem: str | None = None
    """Why the kubeconfig there cannot be used."""
    pending: ec.EllipticCurvePrivateKey | None = None

    @property
    def leaf(self) -> x509.Certificate | None:
        """The present certificate of the node."""
        if self.kubeconfig is None or self.kubeconfig.pair is None:
            return None
        return self.kubeconfig.pair.leaf


def read(data: Mapping[str, bytes], *, node: str, where: str) -> Stored:
    """Read the data of the Secret `where`; empty if it does not exist."""
    pending = _pending(data.get(PENDING_KEY))
    content = data.get(kubeconfigs.KEY)
    if content is None:
        return Stored(pending=pending)
    user = names.node_user(node)
    try:
        found = kubeconfigs.parse(content)
    except kubeconfigs.Unusable as err:
        return Stored(problem=f"the kubeconfig in {where} cannot be used: {err}", pending=pending)
    if found.pair is None:
        problem = f"the kubeconfig in {where} has no client certificate of {user}"
        return Stored(problem=problem, pending=pending)
    if not key_pairs.is_node(found.pair.leaf, node):
        subject = redaction.value(found.pair.leaf.subject.rfc4514_string())
        problem = f"the kubeconfig in {where} has the certificate of {subject}, expected {user}"
        return Stored(problem=problem, pending=pending)
    return Stored(kubeconfig=found, pending=pending)


def rejected(stored: Stored, *, where: str) -> Stored:
    """The same without the certificate, which the home API server does not accept."""
    problem = (
        f"the home API server does not accept the certificate in {where}: it is of another "
        "cluster, or the CA of the cluster has changed"
    )
    return Stored(problem=problem, pending=stored.pending)


def renew_at(leaf: x509.Certificate) -> datetime:
    """When to renew it: after two thirds of its lifetime."""
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return begin + (end - begin) * 2 / 3


def is_due(stored: Stored, *, now: datetime) -> bool:
    """Whether a certificate must be requested."""
    return stored.leaf is None or now >= renew_at(stored.leaf)


def is_usable(stored: Stored, *, now: datetime) -> bool:
    """Whether the node can authenticate with the present certificate."""
    return stored.leaf is not None and now < stored.leaf.not_valid_after_utc


# --- the request ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """The request is open."""

    approved: bool
    overdue: bool
    """Longer than an automatic approver or signer needs."""


@dataclass(frozen=True, slots=True)
class NotGranted:
    """Denied, failed, or not usable; nothing changes before the request is deleted."""

    reason: Reason
    problem: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A certificate of the node for the pending key."""

    pair: key_pairs.KeyPair


Progress = Waiting | NotGranted | Granted


def request_name(node: str, key: ec.EllipticCurvePrivateKey) -> str:
    """The name of the CSR for this key."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"farlet-{node}-{hashlib.sha256(public).hexdigest()[:16]}"


def request_body(node: str, key: ec.EllipticCurvePrivateKey, *, labels: Mapping[str, str]) -> JSON:
    """The CSR to create."""
    return signing_requests.body(
        {"name": request_name(node, key), "labels": dict(labels)},
        signer=Signer.CLIENT,
        request=key_pairs.request(key, node=node, addresses=()),
        lifetime=LIFETIME,
    )


def progress(csr: JSON, key: ec.EllipticCurvePrivateKey, *, node: str, now: datetime) -> Progress:
    """What a CSR of that name has led to."""
    name, spec = csr["metadata"]["name"], csr.get("spec") or {}
    if spec.get("signerName") != Signer.CLIENT.value or not _asks_for(spec, key):
        return useless(name, "it is not the request of the manager")
    try:
        chain = signing_requests.certificate(csr)
    except signing_requests.NotGranted as err:
        return NotGranted(Reason.REQUEST_DENIED, str(err))
    if chain is None:
        conditions = (csr.get("status") or {}).get("conditions") or ()
        approved = next((one for one in conditions if one.get("type") == "Approved"), None)
        since = (approved or {}).get("lastUpdateTime") or csr["metadata"].get("creationTimestamp")
        return Waiting(approved is not None, overdue=_age(since, now) > APPROVER_PATIENCE)
    try:
        pair = key_pairs.parse(chain, key_pairs.key_pem(key))
    except ValueError:
        return useless(name, "its certificate does not belong to its key")
    if not key_pairs.is_node(pair.leaf, node) or now >= renew_at(pair.leaf):
        return useless(name, "its certificate is of another user, or has nearly expired")
    return Granted(pair)


def useless(name: str, problem: str) -> NotGranted:
    """A CSR that leads to no certificate for the pending key."""
    return NotGranted(
        Reason.CERTIFICATE_NOT_ISSUED, f"CertificateSigningRequest {name} cannot be used: {problem}"
    )


def _asks_for(spec: JSON, key: ec.EllipticCurvePrivateKey) -> bool:
    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(spec["request"], validate=True))
        return parsed.public_key() == key.public_key()
    except (KeyError, TypeError, ValueError, binascii.Error, UnsupportedAlgorithm):
        return False


def _age(since: object, now: datetime) -> timedelta:
    created = timestamps.parse(since)
    return timedelta(0) if created is None else now - created


# --- what to report -------------------------------------------------------------------------------


def valid(leaf: x509.Certificate) -> Finding:
    """The finding for a valid certificate."""
    until, renewal = findings.time(leaf.not_valid_after_utc), findings.time(renew_at(leaf))
    message = f"the client certificate is valid until {until} and will be renewed at {renewal}"
    return Finding("True", Reason.VALID, message)


def report(
    found: Waiting | NotGranted, stored: Stored, *, node: str, name: str, now: datetime
) -> Finding:
    """The finding until a new certificate is issued; `name` is that of the CSR."""
    leaf = stored.leaf
    if leaf is None:
        state = stored.problem or "the node has no client certificate yet"
    elif is_usable(stored, now=now):
        state = f"the client certificate expires at {findings.time(leaf.not_valid_after_utc)}"
    else:
        state = f"the client certificate expired at {findings.time(leaf.not_valid_after_utc)}"
    reason, what = _reason(found, node=node, name=name)
    if leaf is None or not is_usable(stored, now=now):
        kept = "; it stays until a new one is issued" if stored.problem else ""
        return Finding("False", reason, f"{state}{kept}. {what}")
    quiet = isinstance(found, Waiting) and not found.overdue
    if quiet or leaf.not_valid_after_utc - now > WARNING:
        return Finding("True", Reason.VALID, f"{state}; its renewal is requested. {what}")
    advice = _SELF_APPROVAL.format(node=node, user=names.node_user(node))
    return Finding("True", Reason.CLIENT_CERTIFICATE_EXPIRING, f"{state}. {what}; {advice}")


def _reason(found: Waiting | NotGranted, *, node: str, name: str) -> tuple[Reason, str]:
    match found:
        case Waiting(approved=False):
            return Reason.APPROVAL_REQUIRED, (
                f"Approve its request, for user {names.node_user(node)}: "
                f"kubectl certificate approve {name}"
            )
        case Waiting():
            return Reason.CERTIFICATE_NOT_ISSUED, (
                f"CertificateSigningRequest {name} is approved, and the signer "
                f"{Signer.CLIENT.value} has not issued the certificate yet. Some clouds issue none "
                "to administrators; there, create the VirtualNode with identity ServiceAccount"
            )
        case NotGranted(reason=reason, problem=problem):
            return reason, (
                f"{problem}. The next request follows when this one is deleted. Kubernetes does "
                f"that after an hour; to do it now: kubectl delete csr {name}"
            )


def _pending(content: bytes | None) -> ec.EllipticCurvePrivateKey | None:
    if content is None:
        return None
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
