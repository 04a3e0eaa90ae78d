"""Requests a certificate from the home cluster with a CertificateSigningRequest (CSR).

For `kubernetes.io/kube-apiserver-client-kubelet` a controller approves the request, if RBAC lets
nodes renew their own certificates. For `kubernetes.io/kubelet-serving` nothing in Kubernetes does:
an administrator or an installed approver must. So farlet waits without a limit: until the CSR is
approved, denied or deleted (Kubernetes deletes pending ones after a day).
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

MIN_WATCH_SECONDS = 1.0
"""Between the starts of two watches."""
UNREACHABLE_SECONDS = 10.0
"""Pause before waiting continues after the API server did not answer."""

DENIED_SECONDS = 1800.0
"""Pause before a new request after one was denied."""
RETRY_SECONDS = (2.0, 120.0)
"""First and longest pause before a new request when a request could not be created."""

log = structlog.get_logger()


class Signer(StrEnum):
    """Signers for nodes (KEP-1513), by the names that a CSR uses."""

    SERVING = "kubernetes.io/kubelet-serving"
    CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"


_USES = {
    Signer.SERVING: ("digital signature", "server auth"),
    Signer.CLIENT: ("digital signature", "client auth"),
}
"""For a key other than RSA; signers refuse any others (`pkg/apis/certificates/helpers.go`)."""


class NotGranted(errors.FarletError):
    """The CSR was denied, failed or was deleted. An immediate new request would not help."""


class Requests(Protocol):
    """Creates and reads CSRs. Raises `FarletError`."""

    async def create(self, body: JSON) -> JSON: ...

    async def get(self, name: str) -> JSON: ...


class Queued:
    """Requests that wait for other requests and for leadership, as all writes do."""

    def __init__(self, home: ApiClient) -> None:
        self._home = home

    async def create(self, body: JSON) -> JSON:
        return await self._home.create(resources.SIGNING_REQUESTS, body)

    async def get(self, name: str) -> JSON:
        return await self._home.get(resources.SIGNING_REQUESTS, name)


class Unqueued:
    """Requests that do not wait: standby processes must keep their credentials valid too."""

    def __init__(self, home: ApiClient, *, seconds: float) -> None:
        self._home = home
        self._seconds = seconds

    async def create(self, body: JSON) -> JSON:
        return await self._home.request_unqueued(
            "POST", resources.SIGNING_REQUESTS, body=body, seconds=self._seconds
        )

    async def get(self, name: str) -> JSON:
        return await self._home.request_unqueued(
            "GET", resources.SIGNING_REQUESTS, name, seconds=self._seconds
        )


async def request_certificate(
    home: ApiClient,
    requests: Requests,
    *,
    signer: Signer,
    node: str,
    addresses: Sequence[str],
    on_created: Callable[[str], None],
    now: Callable[[], datetime],
) -> key_pairs.KeyPair:
    """Create CSRs, each with a new key, until one is granted. Raises only cancellation.

    `addresses` (IPs, names) are those of a serving certificate, none for a client certificate.
    `on_created` is called with the name of each CSR.
    """
    backoff = retrying.Backoff(*RETRY_SECONDS)
    while True:
        key = key_pairs.new_key()
        request = key_pairs.request(key, node=node, addresses=addresses)
        seconds = DENIED_SECONDS
        try:
            chain = await submit(
                home, requests, signer=signer, request=request, on_created=on_created
            )
            pair = key_pairs.parse(chain, key_pairs.key_pem(key))
            if key_pairs.covers(pair.leaf, node=node, addresses=addresses) and (
                now() < key_pairs.renew_at(pair.leaf, 0.0)
            ):
                return pair
            cause = "the certificate differs from the request, or expires too soon"
        except (NotGranted, ValueError) as err:
            cause = str(err)
        except errors.FarletError as err:
            cause = str(err)
            seconds = backoff.next()
        log.warning(
            "failed to obtain certificate", signer=signer.value, err=cause, retry_in=seconds
        )
        await asyncio.sleep(seconds)


async def submit(
    home: ApiClient,
    requests: Requests,
    *,
    signer: Signer,
    request: bytes,
    on_created: Callable[[str], None],
) -> bytes:
    """Create one CSR and wait for its certificate in PEM. `request` is PKCS#10 in PEM.

    `on_created` is called with the name of the CSR, by which an administrator may approve it.
    Raises `NotGranted`, or another `FarletError` if the CSR cannot be created.
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
    csr = await requests.create(body)
    name, uid = csr["metadata"]["name"], csr["metadata"]["uid"]
    on_created(name)
    while True:
        try:
            certificate = await _watch(home, csr)
            if certificate is not None:
                return certificate
            csr = await requests.get(name)
        except errors.NotFound as err:
            raise NotGranted(f"CertificateSigningRequest {name} was deleted") from err
        except (errors.Gone, errors.Unreachable, errors.Throttled):
            await asyncio.sleep(UNREACHABLE_SECONDS)
            csr = await _read(requests, name) or csr
        if csr["metadata"]["uid"] != uid:
            raise NotGranted(f"CertificateSigningRequest {name} was deleted and recreated")


async def _read(requests: Requests, name: str) -> JSON | None:
    try:
        return await requests.get(name)
    except (errors.Unreachable, errors.Throttled):
        return None


async def _watch(home: ApiClient, csr: JSON) -> bytes | None:
    """The certificate once it is issued; `None` if the watch ended before."""
    if (certificate := _certificate(csr)) is not None:
        return certificate
    name, version = (csr["metadata"][key] for key in ("name", "resourceVersion"))
    async for event in home.watch_object(
        resources.SIGNING_REQUESTS, name, version=version, at_least=MIN_WATCH_SECONDS
    ):
        if event.kind == "DELETED":
            raise NotGranted(f"CertificateSigningRequest {name} was deleted")
        if event.kind in {"ADDED", "MODIFIED"}:
            certificate = _certificate(event.object)
            if certificate is not None:
                return certificate
    return None


def _certificate(csr: JSON) -> bytes | None:
    """The certificate; `None` while the CSR is not approved or not signed yet."""
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
        raise NotGranted(
            f"CertificateSigningRequest {name} contains a certificate that is not valid base64"
        ) from err
