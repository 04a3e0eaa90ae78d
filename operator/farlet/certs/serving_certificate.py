"""Keeps the serving certificate of the kubelet API valid.

As `k8s.io/client-go/util/certificate` does for a kubelet: a stored certificate is used again, a new
one is requested after 70 to 90 % of its lifetime, and immediately if it does not contain an address
of the Node. Until then farlet serves the certificate that it has, at worst a self-signed one:
kubectl logs works with it if the home API server does not verify the certificates of kubelets.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog

from farlet import errors, retrying
from farlet.certs import key_pairs, signing_requests
from farlet.certs.serving_tls import ServingTLS
from farlet.client import file_stamps
from farlet.client.api_client import ApiClient
from farlet.constants import Signer
from farlet.settings.kubelet import KubeletSettings

CHECK_SECONDS = 10.0
"""Between two checks of addresses, files and clock."""
FILE_PREFIX = "kubelet-server"

_SELF_SIGNED = (
    "kubectl logs, exec, attach and port-forward fail if the home API server verifies the "
    "certificates of kubelets (--kubelet-certificate-authority)"
)
_SET_FILES = "set --tls-cert-file and --tls-private-key-file"

log = structlog.get_logger()


class CertificateManager(Protocol):
    """Supplies `ServingTLS` with certificates."""

    def prepare(self) -> None:
        """Supply a first certificate before the port opens. Raises `StartError`."""
        ...

    async def run(self) -> None:
        """Keep the certificate valid until cancelled."""
        ...


def certificate_manager(
    settings: KubeletSettings,
    home: ApiClient,
    tls: ServingTLS,
    *,
    node: str,
    addresses: Callable[[], Sequence[str]],
    now: Callable[[], datetime],
) -> CertificateManager:
    """The manager that the settings select. `addresses`: the Node's current IPs or names."""
    certificate, key = settings.tls_cert_file, settings.tls_private_key_file
    if certificate is not None and key is not None:
        return FileCertificate(tls, certificate=certificate, key=key)
    store = (
        None
        if settings.cert_dir is None
        else key_pairs.CertificateStore(settings.cert_dir, FILE_PREFIX)
    )
    return ServingCertificate(home, tls, node=node, addresses=addresses, store=store, now=now)


class FileCertificate:
    """Serves a certificate from files that another program renews."""

    def __init__(self, tls: ServingTLS, *, certificate: Path, key: Path) -> None:
        self._tls = tls
        self._files = certificate, key
        self._stamps: file_stamps.Stamps = ()

    def prepare(self) -> None:
        """Read the files. Raises `StartError`."""
        try:
            self._read()
        except (OSError, ValueError) as err:
            raise errors.StartError(
                f"--tls-cert-file {self._files[0]} and --tls-private-key-file {self._files[1]} "
                f"cannot be used: {err}"
            ) from err

    async def run(self) -> None:
        """Reload the files when they have changed; ignore a key of another certificate."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if file_stamps.unchanged(self._stamps):
                continue
            try:
                self._read()
                log.info("serving certificate reloaded", file=str(self._files[0]))
            except (OSError, ValueError) as err:
                log.warning("failed to reload serving certificate", err=str(err))

    def _read(self) -> None:
        self._stamps = file_stamps.stamps(self._files)
        certificate, key = (file.read_bytes() for file in self._files)
        self._tls.use(key_pairs.parse(certificate, key))


class ServingCertificate:
    """Serves a certificate from the signer `kubernetes.io/kubelet-serving`.

    `addresses`: the Node's current IPs or names. `store` None: certificates are in memory only.
    """

    def __init__(
        self,
        home: ApiClient,
        tls: ServingTLS,
        *,
        node: str,
        addresses: Callable[[], Sequence[str]],
        store: key_pairs.CertificateStore | None,
        now: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._home = home
        self._tls = tls
        self._node = node
        self._addresses = addresses
        self._store = store
        self._now = now
        self._jitter = jitter
        self._granted: key_pairs.KeyPair | None = None
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        self._request: str | None = None
        self._pending = retrying.OncePerCause()

    def prepare(self) -> None:
        """Serve the stored certificate, else a self-signed one."""
        addresses = tuple(self._addresses())
        if self._store is not None:
            try:
                stored = self._store.read()
                if stored and key_pairs.covers(stored.leaf, node=self._node, addresses=addresses):
                    self._use(stored)
            except (OSError, ValueError) as err:
                log.warning("failed to use stored serving certificate", err=str(err))
        if self._granted is None or self._granted.leaf.not_valid_after_utc <= self._now():
            self._granted = None
            now = self._now()
            self._tls.use(key_pairs.self_signed(node=self._node, addresses=addresses, now=now))

    async def run(self) -> None:
        """Request and renew certificates until cancelled."""
        while True:
            addresses = tuple(self._addresses())
            if not addresses or self._is_current(addresses):
                await asyncio.sleep(CHECK_SECONDS)
                continue
            pair = await self._while_unchanged(
                addresses,
                signing_requests.request_certificate(
                    self._home,
                    signer=Signer.SERVING,
                    node=self._node,
                    addresses=addresses,
                    on_created=self._created,
                    now=self._now,
                ),
            )
            if pair is not None:
                self._accept(pair)

    def _is_current(self, addresses: Sequence[str]) -> bool:
        return (
            self._granted is not None
            and key_pairs.covers(self._granted.leaf, node=self._node, addresses=addresses)
            and self._now() < self._renew_at
        )

    def _use(self, pair: key_pairs.KeyPair) -> None:
        self._tls.use(pair)
        self._granted, self._renew_at = pair, key_pairs.renew_at(pair.leaf, self._jitter())

    def _accept(self, pair: key_pairs.KeyPair) -> None:
        self._use(pair)
        self._request = None
        self._pending.clear()
        log.info("serving certificate granted", until=str(pair.leaf.not_valid_after_utc))
        if self._store is not None:
            try:
                self._store.write(pair, now=self._now())
            except OSError as err:
                log.warning("failed to store serving certificate", err=str(err))

    def _created(self, request: str) -> None:
        log.info("serving certificate requested", request=request)
        self._request = request

    async def _while_unchanged(
        self, addresses: Sequence[str], requesting: Coroutine[None, None, key_pairs.KeyPair]
    ) -> key_pairs.KeyPair | None:
        """The requested certificate; `None` as soon as the Node has other addresses."""
        task = asyncio.create_task(requesting)
        try:
            while not (await asyncio.wait([task], timeout=CHECK_SECONDS))[0]:
                if tuple(self._addresses()) != addresses:
                    return None
                self._report_pending()
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _report_pending(self) -> None:
        """Log once per request that the approval takes longer than an automatic approver needs."""
        if not self._pending.is_new(f"request {self._request}"):
            return
        fix = _SET_FILES
        if self._request is not None:
            fix = f"kubectl certificate approve {self._request}, or {fix}"
        if self._granted is None:
            log.warning("serving certificate is self-signed", consequence=_SELF_SIGNED, fix=fix)
        else:
            until = str(self._granted.leaf.not_valid_after_utc)
            log.warning("serving certificate renewal is pending", until=until, fix=fix)
