"""Which certificate request is the first one of a virtual node: pure.

The manager requests the client certificate of a node and cannot approve it. The administrator of
the home cluster who runs `farlet connect` approves it: only the request of the manager itself, and
only for that node.
"""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.x509.oid import NameOID

from farlet import names
from farlet.constants import JSON, Signer
from farlet.install.connection import HOME_SYSTEM
from farlet.manager.virtual_node import MANAGER

_REQUESTER = names.account_user(HOME_SYSTEM, MANAGER)
"""User name of the manager."""

_USAGES = {"digital signature", "key encipherment", "client auth"}


def refusal(request: JSON, node: str) -> str | None:
    """Why this is not the request of the manager for a client certificate of `node`.

    `None`: it is. An API server writes `spec.username`, so that no other client can pose as the
    manager.
    """
    spec = request.get("spec") or {}
    if spec.get("signerName") != Signer.CLIENT.value:
        return f"its signer is not {Signer.CLIENT.value}"
    if spec.get("username") != _REQUESTER:
        return f"its requester is not {_REQUESTER}"
    if not {"client auth"} <= set(spec.get("usages") or ()) <= _USAGES:
        return "its usages are not those of a client certificate"
    signed = _parsed(spec.get("request"))
    if signed is None:
        return "it is not a valid PKCS#10 request"
    if _subject(signed) != {
        NameOID.ORGANIZATION_NAME: [names.NODES],
        NameOID.COMMON_NAME: [names.node_user(node)],
    }:
        return f"its subject is not CN={names.node_user(node)}, O={names.NODES}"
    if any(isinstance(one.value, x509.SubjectAlternativeName) for one in signed.extensions):
        return "it contains names of servers (SANs)"
    return None


def is_pending(request: JSON) -> bool:
    """Whether it was neither approved nor denied."""
    status = request.get("status") or {}
    return not status.get("conditions") and not status.get("certificate")


def approved(request: JSON) -> JSON:
    """The request with an approval, for its subresource `approval`."""
    condition = {
        "type": "Approved",
        "status": "True",
        "reason": "FarletConnect",
        "message": "approved by farlet connect",
    }
    status = request.get("status") or {}
    conditions = [*(status.get("conditions") or ()), condition]
    return {**request, "status": {**status, "conditions": conditions}}


def belongs_to(request: JSON, node: str) -> bool:
    """Whether it is a request of this node, or of the manager for it."""
    spec = request.get("spec") or {}
    if spec.get("username") == names.node_user(node):
        return True
    signed = _parsed(spec.get("request"))
    users = [] if signed is None else _subject(signed).get(NameOID.COMMON_NAME, [])
    return users == [names.node_user(node)]


def _parsed(encoded: object) -> x509.CertificateSigningRequest | None:
    try:
        signed = x509.load_pem_x509_csr(base64.b64decode(str(encoded), validate=True))
        list(signed.subject)  # parsed when it is read
    except (ValueError, binascii.Error, x509.InvalidVersion):
        return None
    return signed


def _subject(signed: x509.CertificateSigningRequest) -> dict[x509.ObjectIdentifier, list[str]]:
    found: dict[x509.ObjectIdentifier, list[str]] = {}
    for attribute in signed.subject:
        found.setdefault(attribute.oid, []).append(str(attribute.value))
    return found
