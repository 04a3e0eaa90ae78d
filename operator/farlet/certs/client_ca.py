"""The bundle of CAs whose client certificates the kubelet API accepts, kept up to date.

It comes from `--client-ca-file`, else from the ConfigMap in which an API server publishes its own
client CA: `kube-system/extension-apiserver-authentication`. The Role
`extension-apiserver-authentication-reader` permits to read it. Without either the kubelet API
accepts bearer tokens only, and rejects API servers that present a certificate, as nearly all do.

A bundle that cannot be read completely is not used; the previous one stays in use.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from farlet import errors, retrying
from farlet.client import file_stamps, resources
from farlet.client.api_client import ApiClient
from farlet.k8s_types import ConfigMap

CHECK_SECONDS = 10.0
"""Between two checks of the file."""
RETRY_SECONDS = (5.0, 120.0)
"""First and longest pause before the ConfigMap is read again after a failure."""

_NAMESPACE = "kube-system"
_NAME = "extension-apiserver-authentication"
_KEY = "client-ca-file"
_CONSEQUENCE = (
    "the kubelet port does not accept client certificates, so kubectl logs and exec will most "
    "likely fail. Set --client-ca-file, or bind the Role "
    "kube-system/extension-apiserver-authentication-reader to farlet (farlet connect does; by "
    "hand: manifests/home)"
)

log = structlog.get_logger()


class ClientCA:
    """The bundle in use."""

    def __init__(self, home: ApiClient, *, file: Path | None) -> None:
        self._home = home
        self._file = file
        self._stamps: file_stamps.Stamps = ()
        self._anchors: list[x509.Certificate] = []
        self._backoff = retrying.Backoff(*RETRY_SECONDS, factor=3.0)
        self._failures = retrying.OncePerCause()
        self.pem = ""
        """The CAs in PEM; empty until the first was read."""

    def verifies(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Whether the certificate is valid now, for clients, and directly issued by one of the CAs.

        TLS has verified the chain at the start of the connection. This check runs for each request,
        as in `x509.Authenticator` of `k8s.io/apiserver`, since a connection may outlive its
        certificate and the bundle. The bundle must contain intermediate CAs.
        """
        return (
            _valid(certificate, now)
            and _for_clients(certificate)
            and any(_issued(certificate, by=anchor, now=now) for anchor in self._anchors)
        )

    def read_file(self) -> None:
        """Read the file if it has changed.

        Raises `StartError` if it could never be read; a later failure is logged.
        """
        if self._file is None or (self._stamps and file_stamps.unchanged(self._stamps)):
            return
        self._stamps = file_stamps.stamps([self._file])
        try:
            self._use(self._file.read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError) as err:
            message = f"--client-ca-file {self._file} cannot be used: {err}"
            if not self.pem:
                raise errors.StartError(f"{message}; expected PEM certificates") from err
            log.warning("failed to reload client CA", err=message)

    async def run(self) -> None:
        """Follow file or ConfigMap until cancelled. Raises `StartError` like `read_file`."""
        while True:
            if self._file is not None:
                self.read_file()
                await asyncio.sleep(CHECK_SECONDS)
                continue
            try:
                await self._follow()
            except errors.FarletError as err:
                if not self.pem and self._failures.is_new(str(err)):
                    log.warning("failed to read client CA", err=str(err), consequence=_CONSEQUENCE)
                await asyncio.sleep(self._backoff.next())

    async def _follow(self) -> None:
        config_map = await self._home.get(resources.CONFIG_MAPS, _NAME, namespace=_NAMESPACE)
        self._read(config_map)
        version = config_map["metadata"]["resourceVersion"]
        while True:
            async for event in self._home.watch_object(
                resources.CONFIG_MAPS,
                _NAME,
                namespace=_NAMESPACE,
                version=version,
                opened=self._opened,
                at_least=RETRY_SECONDS[0],
            ):
                version = event.object["metadata"]["resourceVersion"]
                if event.kind in {"ADDED", "MODIFIED"}:
                    self._read(event.object)

    def _opened(self) -> None:
        self._backoff.reset()

    def _read(self, config_map: ConfigMap) -> None:
        try:
            self._use(str((config_map.get("data") or {}).get(_KEY, "")))
        except ValueError as err:
            log.warning(
                "published client CA is invalid",
                where=f"{_KEY} of ConfigMap kube-system/{_NAME}",
                err=str(err),
                consequence="the previous one stays in use" if self.pem else _CONSEQUENCE,
            )

    def _use(self, pem: str) -> None:
        """Use this bundle from now on. Raises `ValueError`."""
        anchors = x509.load_pem_x509_certificates(pem.encode())
        clean = "".join(
            one.public_bytes(serialization.Encoding.PEM).decode("ascii") for one in anchors
        )
        if clean == self.pem:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=clean)
        except ssl.SSLError as err:
            raise ValueError(str(err)) from err
        self._anchors, self.pem = anchors, clean
        log.info("client CA loaded", certificates=len(anchors))


def _valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _for_clients(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True  # a certificate without this extension is for any use (RFC 5280, 4.2.1.12)
    any_use = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    return ExtendedKeyUsageOID.CLIENT_AUTH in uses or any_use in uses


def _issued(certificate: x509.Certificate, *, by: x509.Certificate, now: datetime) -> bool:
    try:
        constraints = by.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(by)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return constraints.ca and _valid(by, now)
