"""Keeps the certificate good with which the kubelet API is served.

As `k8s.io/client-go/util/certificate` does for a kubelet: what lies in the folder is used again,
a new one is asked for after 70 to 90 % of a life, and at once when an address is not covered. What
is served in the meantime is shown anyhow, a self-signed certificate as the last resort: kubectl
logs works with it wherever home's API server does not check certificates of kubelets.
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
from farlet.settings.kubelet import KubeletSettings

LOOK_SECONDS = 10.0
"""How often addresses, files and the clock are looked at."""
SERVER = "kubelet-server"
"""How the files of the folder are called."""

_UNSIGNED = (
    "kubectl logs, exec, attach and port-forward fail where home's API server checks the "
    "certificates of kubelets (--kubelet-certificate-authority)"
)
_GIVE_FILES = "give --tls-cert-file and --tls-private-key-file"

log = structlog.get_logger()


class CertificateManager(Protocol):
    """Keeps `ServingTLS` supplied."""

    def prepare(self) -> None:
        """Give it something to serve with, before the port opens. Raises `StartError`."""
        ...

    async def run(self) -> None:
        """Keep it good, for ever."""
        ...


def keeper(
    settings: KubeletSettings,
    home: ApiClient,
    tls: ServingTLS,
    *,
    node: str,
    addresses: Callable[[], Sequence[str]],
) -> CertificateManager:
    """What the settings ask for. `addresses`: those of the Node at that moment, IPs or names."""
    certificate, key = settings.tls_cert_file, settings.tls_private_key_file
    if certificate is not None and key is not None:
        return FileCertificate(tls, certificate=certificate, key=key)
    folder = (
        None if settings.cert_dir is None else key_pairs.CertificateStore(settings.cert_dir, SERVER)
    )
    return ServingCertificate(home, tls, node=node, addresses=addresses, folder=folder)


class FileCertificate:
    """The serving certificate is a pair of files that somebody else keeps good."""

    def __init__(self, tls: ServingTLS, *, certificate: Path, key: Path) -> None:
        self._tls = tls
        self._files = certificate, key
        self._seen: file_stamps.Stamps = ()

    def prepare(self) -> None:
        """Read them. Raises `StartError`."""
        try:
            self._read()
        except (OSError, ValueError) as err:
            raise errors.StartError(
                f"--tls-cert-file {self._files[0]} and --tls-private-key-file {self._files[1]} "
                f"cannot be used: {err}"
            ) from err

    async def run(self) -> None:
        """Read them again when they have changed; a pair that does not fit is not taken."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if file_stamps.unchanged(self._seen):
                continue
            try:
                self._read()
                log.info("serving certificate was read again", file=str(self._files[0]))
            except (OSError, ValueError) as err:
                log.warning("serving certificate was not read again", err=str(err))

    def _read(self) -> None:
        self._seen = file_stamps.stamps(self._files)
        certificate, key = (file.read_bytes() for file in self._files)
        self._tls.use(key_pairs.of(certificate, key))


class ServingCertificate:
    """The serving certificate is asked for from the signer `kubernetes.io/kubelet-serving`.

    `addresses`: those of the Node now, IPs or names. `folder` None: it is in memory only.
    """

    def __init__(
        self,
        home: ApiClient,
        tls: ServingTLS,
        *,
        node: str,
        addresses: Callable[[], Sequence[str]],
        folder: key_pairs.CertificateStore | None,
        now: Callable[[], datetime] = retrying.utc_now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._home = home
        self._tls = tls
        self._node = node
        self._addresses = addresses
        self._folder = folder
        self._now = now
        self._jitter = jitter
        self._granted: key_pairs.KeyPair | None = None
        self._due = datetime.min.replace(tzinfo=UTC)
        self._request: str | None = None
        self._told = False

    def prepare(self) -> None:
        """Serve with the pair of the folder, else with one that nobody signed."""
        addresses = tuple(self._addresses())
        if self._folder is not None:
            try:
                kept = self._folder.read()
                if kept and key_pairs.covers(kept.leaf, node=self._node, addresses=addresses):
                    self._use(kept)
            except (OSError, ValueError) as err:
                log.warning("kept certificate was not used", err=str(err))
        if self._granted is None or self._granted.leaf.not_valid_after_utc <= self._now():
            self._granted = None
            now = self._now()
            self._tls.use(key_pairs.self_signed(node=self._node, addresses=addresses, now=now))

    async def run(self) -> None:
        """Ask, wait, renew, for ever."""
        while True:
            addresses = tuple(self._addresses())
            if not addresses or self._good(addresses):
                await asyncio.sleep(LOOK_SECONDS)
                continue
            pair = await self._meanwhile(
                addresses,
                signing_requests.obtained(
                    self._home,
                    signing_requests.Queued(self._home),
                    signer=signing_requests.Signer.SERVING,
                    node=self._node,
                    addresses=addresses,
                    asked=self._asked,
                    now=self._now,
                ),
            )
            if pair is not None:
                self._take(pair)

    def _good(self, addresses: Sequence[str]) -> bool:
        return (
            self._granted is not None
            and key_pairs.covers(self._granted.leaf, node=self._node, addresses=addresses)
            and self._now() < self._due
        )

    def _use(self, pair: key_pairs.KeyPair) -> None:
        self._tls.use(pair)
        self._granted, self._due = pair, key_pairs.due(pair.leaf, self._jitter())

    def _take(self, pair: key_pairs.KeyPair) -> None:
        self._use(pair)
        self._request, self._told = None, False
        log.info("serving certificate was granted", until=str(pair.leaf.not_valid_after_utc))
        if self._folder is not None:
            try:
                self._folder.store(pair, now=self._now())
            except OSError as err:
                log.warning("certificate was not stored", err=str(err))

    def _asked(self, request: str) -> None:
        log.info("serving certificate was asked for", request=request)
        self._request, self._told = request, False

    async def _meanwhile(
        self, addresses: Sequence[str], asking: Coroutine[None, None, key_pairs.KeyPair]
    ) -> key_pairs.KeyPair | None:
        """What comes of asking; `None` as soon as other addresses are wanted."""
        task = asyncio.create_task(asking)
        try:
            while not (await asyncio.wait([task], timeout=LOOK_SECONDS))[0]:
                if tuple(self._addresses()) != addresses:
                    return None
                self._tell()
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _tell(self) -> None:
        """Say once that it takes longer than an approver that runs by itself would need."""
        if self._told:
            return
        self._told = True
        cure = _GIVE_FILES
        if self._request is not None:
            cure = f"kubectl certificate approve {self._request}, or {cure}"
        if self._granted is None:
            log.warning("serving certificate is self-signed", consequence=_UNSIGNED, cure=cure)
        else:
            until = str(self._granted.leaf.not_valid_after_utc)
            log.warning("serving certificate is not renewed yet", until=until, cure=cure)
