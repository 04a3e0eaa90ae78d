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

from farlet import errors, retrying
from farlet.certs import key_pairs
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON

SHORTEST_SECONDS = 1.0
"""Between the beginnings of two watches."""
LOST_SECONDS = 10.0
"""Pause before waiting goes on after the API server did not answer."""

DENIED_SECONDS = 1800.0
"""Pause before what was denied is asked for again."""
AGAIN_SECONDS = (2.0, 120.0)
"""First and longest pause before asking again when asking itself failed."""


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


class Requests(Protocol):
    """How CertificateSigningRequests are written and read: queued, or not."""

    async def create(self, body: JSON) -> JSON:
        """POST one."""
        ...

    async def get(self, name: str) -> JSON:
        """GET one."""
        ...


class Queued:
    """They wait for other requests and for leadership, as all writes do."""

    def __init__(self, home: ApiClient) -> None:
        self._home = home

    async def create(self, body: JSON) -> JSON:
        """POST one."""
        return await self._home.create(resources.SIGNING_REQUESTS, body)

    async def get(self, name: str) -> JSON:
        """GET one."""
        return await self._home.get(resources.SIGNING_REQUESTS, name)


class Unqueued:
    """They wait for nothing: a process that does not lead must be able to log in as well."""

    def __init__(self, home: ApiClient, *, seconds: float) -> None:
        self._home = home
        self._seconds = seconds

    async def create(self, body: JSON) -> JSON:
        """POST one."""
        return await self._home.request_unqueued(
            "POST", resources.SIGNING_REQUESTS, body=body, seconds=self._seconds
        )

    async def get(self, name: str) -> JSON:
        """GET one."""
        return await self._home.request_unqueued(
            "GET", resources.SIGNING_REQUESTS, name, seconds=self._seconds
        )


async def obtained(
    home: ApiClient,
    requests: Requests,
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
    backoff = retrying.Backoff(*AGAIN_SECONDS)
    while True:
        key = key_pairs.new_key()
        request = key_pairs.request(key, node=node, addresses=addresses)
        seconds = DENIED_SECONDS
        try:
            chain = await granted(home, requests, signer=signer, request=request, asked=asked)
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
            seconds = backoff.next()
        log.warning("certificate was not granted", signer=signer.value, err=cause, retry_in=seconds)
        await asyncio.sleep(seconds)


async def granted(
    home: ApiClient,
    requests: Requests,
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
    standing = await requests.create(body)
    name, uid = standing["metadata"]["name"], standing["metadata"]["uid"]
    asked(name)
    while True:
        try:
            certificate = await _watched(home, standing)
            if certificate is not None:
                return certificate
            standing = await requests.get(name)
        except errors.NotFound as err:
            raise NotGranted(f"CertificateSigningRequest {name} was removed") from err
        except (errors.Gone, errors.Unreachable, errors.Throttled):
            await asyncio.sleep(LOST_SECONDS)
            standing = await _again(requests, name) or standing
        if standing["metadata"]["uid"] != uid:
            raise NotGranted(f"CertificateSigningRequest {name} was removed and made by another")


async def _again(requests: Requests, name: str) -> JSON | None:
    try:
        return await requests.get(name)
    except (errors.Unreachable, errors.Throttled):
        return None


async def _watched(home: ApiClient, standing: JSON) -> bytes | None:
    """The certificate once it is there; `None` when the watch ended before."""
    if (certificate := _decided(standing)) is not None:
        return certificate
    name, version = (standing["metadata"][key] for key in ("name", "resourceVersion"))
    async for event in home.watch_object(
        resources.SIGNING_REQUESTS, name, version=version, at_least=SHORTEST_SECONDS
    ):
        if event.kind == "DELETED":
            raise NotGranted(f"CertificateSigningRequest {name} was removed")
        if event.kind in {"ADDED", "MODIFIED"}:
            certificate = _decided(event.object)
            if certificate is not None:
                return certificate
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
