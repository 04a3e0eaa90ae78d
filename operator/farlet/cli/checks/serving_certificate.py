"""Whether a request for the serving certificate of the kubelet API waits for its approval."""

from __future__ import annotations

import asyncio
import base64
import binascii

from cryptography import x509

from farlet.certs import key_pairs
from farlet.cli.checks.findings import ANSWER_SECONDS, Finding, Outcome, of
from farlet.client import resources
from farlet.client.cluster import Cluster
from farlet.client.reviews import User
from farlet.constants import JSON, Signer
from farlet.settings import Settings

QUIET_SECONDS = 0.5
"""Silence that ends the list of existing requests: a watch does not mark its end."""

WHAT = "serving certificate"


async def check(settings: Settings, home: Cluster, user: User) -> Finding | None:
    """The finding; `None` if farlet requests no certificate."""
    if settings.kubelet_bind_address is None or settings.tls_cert_file is not None:
        return None

    async def read() -> Finding:
        return _finding(await _newest(home, user, settings.nodename))

    return await of(WHAT, read(), hint="see the check of the home permissions")


def _finding(csr: JSON | None) -> Finding:
    if csr is None:  # Kubernetes deletes granted ones after an hour
        return Finding(WHAT, Outcome.OK, "no request is open")
    name, status = csr["metadata"]["name"], csr.get("status") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    logs = "until then kubectl logs, exec and port-forward can fail"
    for kind in ("Denied", "Failed"):
        if kind in conditions:
            why = str(conditions[kind].get("message", ""))[:300]
            hint = (
                f"in the home cluster: kubectl delete csr {name}; and restart farlet for a new "
                f"request, or set --tls-cert-file and --tls-private-key-file; {logs}"
            )
            return Finding(WHAT, Outcome.FAILED, f"request {name}: {kind} {why}".strip(), hint)
    if "Approved" not in conditions:
        hint = f"in the home cluster: kubectl certificate approve {name}; {logs}"
        return Finding(WHAT, Outcome.FAILED, f"request {name} is not approved", hint)
    if not status.get("certificate"):
        hint = f"check that the home cluster has the signer {Signer.SERVING}; {logs}"
        return Finding(WHAT, Outcome.WARNING, f"request {name} is approved, but not signed", hint)
    return Finding(WHAT, Outcome.OK, f"request {name} was granted")


async def _newest(home: Cluster, user: User, node: str) -> JSON | None:
    """The newest request of this node. Raises `FarletError` and `TimeoutError`.

    A watch from version 0 begins with the objects that exist; a list would need one permission
    more than a running farlet.
    """
    opened = asyncio.Event()
    newest: JSON | None = None
    loop = asyncio.get_running_loop()
    end = loop.time() + ANSWER_SECONDS / 2
    try:
        async with asyncio.timeout_at(end) as limit:

            def found() -> None:
                opened.set()
                limit.reschedule(min(end, loop.time() + QUIET_SECONDS))

            async for event in home.watch(
                resources.SIGNING_REQUESTS,
                version="0",
                field_selector=f"spec.signerName={Signer.SERVING}",
                opened=found,
            ):
                found()
                csr = event.object
                if event.kind in {"ADDED", "MODIFIED"} and _is_ours(csr, user, node):
                    newest = max(newest or csr, csr, key=_created)
    except TimeoutError:
        if not opened.is_set():
            raise
    return newest


def _created(csr: JSON) -> str:
    return str(csr["metadata"].get("creationTimestamp", ""))


def _is_ours(csr: JSON, user: User, node: str) -> bool:
    """A ServiceAccount can serve several nodes, so the subject decides as well."""
    spec = csr.get("spec") or {}
    if spec.get("username") != user.name:
        return False
    try:
        pem = base64.b64decode(str(spec.get("request", "")), validate=True)
        return key_pairs.is_node(x509.load_pem_x509_csr(pem), node)
    except (binascii.Error, ValueError):
        return False
