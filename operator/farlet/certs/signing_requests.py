"""A certificate from home's signers: ask with a CertificateSigningRequest, wait for who decides.

For `kubernetes.io/kube-apiserver-client-kubelet` a controller decides, where RBAC lets nodes ask
for themselves; for `kubernetes.io/kubelet-serving` nothing of Kubernetes does, but an
administrator or an approver that was installed. So waiting has no end of its own here: the
request stands until it is decided or removed (undecided ones after a day, by Kubernetes).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import structlog

from farlet import errors
from farlet.certs import key_pairs
from farlet.client import cluster as clusters
from farlet.constants import JSON

SHORTEST_SECONDS = 1.0
"""Between the beginnings of two watches."""
LOST_SECONDS = 10.0
"""Pause before waiting goes on after the API server did not answer."""

DENIED_SECONDS = 1800.0
"""Pause before what was denied is asked for again."""
AGAIN_SECONDS = (2.0, 120.0)
"""First and longest pause before asking again when asking itself failed."""

_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


log = structlog.get_logger()


class Signer(StrEnum):
    """Signers that sign for nodes (KEP-1513), by the names they have in requests."""

    SERVING = "kubernetes.io/kubelet-serving"
    CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"


_USES = {
    Signer.SERVING: ("digital signature", "server auth"),
    Signer.CLIENT: ("digital signature", "client auth"),
}
"""With a key other than RSA; a signer refuses any others (`pkg/apis/certificates/helpers.go`)."""


class NotGranted(errors.FarletError):
    """The request was denied, failed or was removed. Asking at once again would not help."""


class Send(Protocol):
    """How a request to the API server is made that is no watch: `Cluster.call`, or `ahead`."""

    async def __call__(self, method: str, path: str, *, body: object = None) -> JSON:
        """The JSON of the answer, or a `FarletError`."""
        ...


async def obtained(
    home: clusters.Cluster,
    send: Send,
    *,
    signer: Signer,
    node: str,
    addresses: Sequence[str],
    asked: Callable[[str], None],
    now: Callable[[], datetime],
) -> key_pairs.KeyPair:
    """Ask, each time with another key, until it is granted. Raises nothing but cancellation.

    `addresses` (IPs, names) are those to serve at; none for a client. `asked`: as in `granted`.
    """
    pause = AGAIN_SECONDS[0]
    while True:
        key = key_pairs.new_key()
        request = key_pairs.request(key, node=node, addresses=addresses)
        seconds = DENIED_SECONDS
        try:
            chain = await granted(home, send, signer=signer, request=request, asked=asked)
            pair = key_pairs.of(chain, key_pairs.key_pem(key))
            if key_pairs.covers(pair.leaf, node=node, addresses=addresses) and (
                now() < key_pairs.due(pair.leaf, 0.0)
            ):
                return pair
            cause = "the certificate is not what was asked for, or is nearly over already"
        except (NotGranted, ValueError) as err:
            cause = str(err)
        except errors.FarletError as err:
            cause = str(err)
            seconds, pause = pause, min(2 * pause, AGAIN_SECONDS[1])
        log.warning("certificate was not granted", signer=signer.value, err=cause, retry_in=seconds)
        await asyncio.sleep(seconds)


async def granted(
    home: clusters.Cluster,
    send: Send,
    *,
    signer: Signer,
    request: bytes,
    asked: Callable[[str], None],
) -> bytes:
    """The certificate in PEM. `request` is the PKCS#10 request in PEM.

    `asked` is told the name of the CertificateSigningRequest, by which somebody may approve it.
    Raises `NotGranted`, and other `FarletError`s if it cannot be asked for at all.
    """
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": base64.b64encode(request).decode(),
            "signerName": signer.value,
            "usages": list(_USES[signer]),
        },
    }
    standing = await send("POST", _PATH, body=body)
    name, uid = standing["metadata"]["name"], standing["metadata"]["uid"]
    asked(name)
    while True:
        try:
            certificate = await _watched(home, standing)
            if certificate is not None:
                return certificate
            standing = await send("GET", f"{_PATH}/{name}")
        except errors.NotFound as err:
            raise NotGranted(f"CertificateSigningRequest {name} was removed") from err
        except (errors.Gone, errors.Unreachable, errors.Throttled):
            await asyncio.sleep(LOST_SECONDS)
            standing = await _again(send, name) or standing
        if standing["metadata"]["uid"] != uid:
            raise NotGranted(f"CertificateSigningRequest {name} was removed and made by another")


async def _again(send: Send, name: str) -> JSON | None:
    try:
        return await send("GET", f"{_PATH}/{name}")
    except (errors.Unreachable, errors.Throttled):
        return None


async def _watched(home: clusters.Cluster, standing: JSON) -> bytes | None:
    """The certificate once it is there; `None` when the watch ended before."""
    if (certificate := _decided(standing)) is not None:
        return certificate
    started = asyncio.get_running_loop().time()
    name, version = (standing["metadata"][key] for key in ("name", "resourceVersion"))
    query = f"fieldSelector=metadata.name%3D{name}&resourceVersion={version}"
    async for event in home.watch(f"{_PATH}?{query}", opened=lambda: None):
        if event.kind == "DELETED":
            raise NotGranted(f"CertificateSigningRequest {name} was removed")
        if event.kind in {"ADDED", "MODIFIED"}:
            certificate = _decided(event.object)
            if certificate is not None:
                return certificate
    spent = asyncio.get_running_loop().time() - started
    await asyncio.sleep(max(0.0, SHORTEST_SECONDS - spent))
    return None


def _decided(csr: JSON) -> bytes | None:
    """The certificate; `None` while nobody has decided, or nobody signed yet."""
    name, status = csr["metadata"]["name"], csr.get("status") or {}
    approved = False
    for condition in status.get("conditions") or ():
        if condition["type"] in {"Denied", "Failed"}:
            raise NotGranted(
                f"CertificateSigningRequest {name}: {condition['type']}, "
                f"{condition.get('reason', 'no reason')}: {condition.get('message', '')}"
            )
        approved = approved or condition["type"] == "Approved"
    if not approved or not status.get("certificate"):
        return None
    try:
        return base64.b64decode(status["certificate"], validate=True)
    except (binascii.Error, ValueError) as err:
        raise NotGranted(f"CertificateSigningRequest {name} holds no certificate") from err
