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
from datetime import datetime, timedelta

import structlog

from farlet import errors, retrying
from farlet.certs import key_pairs
from farlet.client import cluster, resources, shapes
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, Signer

MIN_WATCH_SECONDS = 1.0
"""Between the starts of two watches."""
UNREACHABLE_SECONDS = 10.0
"""Pause before waiting continues after the API server did not answer."""

DENIED_SECONDS = 1800.0
"""Pause before a new request after one was denied."""
RETRY_SECONDS = (2.0, 120.0)
"""First and longest pause before a new request when a request could not be created."""

log = structlog.get_logger()


_USES = {
    Signer.SERVING: ("digital signature", "server auth"),
    Signer.CLIENT: ("digital signature", "client auth"),
}
"""For a key other than RSA; signers refuse any others (`pkg/apis/certificates/helpers.go`)."""


class NotGranted(errors.FarletError):
    """The CSR was denied, failed or was deleted. An immediate new request would not help."""


async def request_certificate(
    home: ApiClient,
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
            chain = await submit(home, signer=signer, request=request, on_created=on_created)
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
    *,
    signer: Signer,
    request: bytes,
    on_created: Callable[[str], None],
) -> bytes:
    """Create one CSR and wait for its certificate in PEM. `request` is PKCS#10 in PEM.

    The write needs no leadership: standby processes must have valid certificates too.
    `on_created` is called with the name of the CSR, by which an administrator may approve it.
    Raises `NotGranted`, or another `FarletError` if the CSR cannot be created.
    """
    csr = await home.request_unqueued(
        "POST",
        resources.SIGNING_REQUESTS,
        body=body({"generateName": "csr-"}, signer=signer, request=request),
        seconds=cluster.REQUEST_SECONDS,
    )
    if (problem := shapes.problem(resources.SIGNING_REQUESTS.shape, csr)) is not None:
        cause = f"a CertificateSigningRequest that is not valid ({problem})"
        raise errors.Unreachable(cluster=home.name, request="POST", cause=cause)
    name, uid = csr["metadata"]["name"], csr["metadata"]["uid"]
    on_created(name)
    while True:
        try:
            issued = await _watch(home, csr)
            if issued is not None:
                return issued
            csr = await home.get(resources.SIGNING_REQUESTS, name)
        except errors.NotFound as err:
            raise NotGranted(f"CertificateSigningRequest {name} was deleted") from err
        except (errors.Gone, errors.Unreachable, errors.Throttled):
            await asyncio.sleep(UNREACHABLE_SECONDS)
            csr = await _read(home, name) or csr
        if csr["metadata"]["uid"] != uid:
            raise NotGranted(f"CertificateSigningRequest {name} was deleted and recreated")


def body(
    metadata: JSON, *, signer: Signer, request: bytes, lifetime: timedelta | None = None
) -> JSON:
    """A CSR to create. `lifetime`: as desired; signers shorten it, and may ignore it."""
    spec: JSON = {
        "request": base64.b64encode(request).decode(),
        "signerName": signer.value,
        "usages": list(_USES[signer]),
    }
    if lifetime is not None:
        spec["expirationSeconds"] = int(lifetime.total_seconds())
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": metadata,
        "spec": spec,
    }


async def _read(home: ApiClient, name: str) -> JSON | None:
    try:
        return await home.get(resources.SIGNING_REQUESTS, name)
    except (errors.Unreachable, errors.Throttled):
        return None


async def _watch(home: ApiClient, csr: JSON) -> bytes | None:
    """The certificate once it is issued; `None` if the watch ended before."""
    if (issued := certificate(csr)) is not None:
        return issued
    name, version = (csr["metadata"][key] for key in ("name", "resourceVersion"))
    async for event in home.watch_object(
        resources.SIGNING_REQUESTS, name, version=version, at_least=MIN_WATCH_SECONDS
    ):
        if event.kind == "DELETED":
            raise NotGranted(f"CertificateSigningRequest {name} was deleted")
        if event.kind in {"ADDED", "MODIFIED"}:
            issued = certificate(event.object)
            if issued is not None:
                return issued
    return None


def certificate(csr: JSON) -> bytes | None:
    """The certificate in PEM; `None` while the CSR is not approved or not signed yet.

    Raises `NotGranted`.
    """
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
