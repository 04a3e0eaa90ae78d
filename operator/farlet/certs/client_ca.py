"""Whose client certificates the kubelet API believes: one bundle of CAs, followed while it changes.

It comes from `--client-ca-file`, else from where an API server publishes the CA by which it
itself knows clients: ConfigMap `kube-system/extension-apiserver-authentication`. That may be read
by whom the Role `extension-apiserver-authentication-reader` is bound to. Without either only
bearer tokens are left, and API servers that show a certificate, as nearly all do, are refused.

A bundle that cannot be read in full is not taken, and the one before stays in force.
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

LOOK_SECONDS = 10.0
"""How often a file is looked at."""
AGAIN_SECONDS = (5.0, 120.0)
"""First and longest pause before the ConfigMap is asked for again after a failure."""

_NAMESPACE = "kube-system"
_NAME = "extension-apiserver-authentication"
_KEY = "client-ca-file"
_CONSEQUENCE = (
    "client certificates are not accepted at the kubelet port, so kubectl logs and exec will most "
    "likely be refused. Give --client-ca-file, or bind the Role "
    "kube-system/extension-apiserver-authentication-reader to farlet"
)

log = structlog.get_logger()


class ClientCA:
    """The bundle in force."""

    def __init__(self, home: ApiClient, *, file: Path | None) -> None:
        self._home = home
        self._file = file
        self._seen: file_stamps.Stamps = ()
        self._anchors: list[x509.Certificate] = []
        self._backoff = retrying.Backoff(*AGAIN_SECONDS, factor=3.0)
        self._failures = retrying.OncePerCause()
        self.pem = ""
        """The CAs in PEM; empty while none is known."""

    def vouches(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Whether one of the CAs has issued it itself, for a client, and for a time that is now.

        TLS has verified the chain when the connection began; this holds for each request, as
        `x509.Authenticator` of `k8s.io/apiserver` does it: a connection may outlive its
        certificate, and the bundle. An intermediate CA must stand in the bundle.
        """
        return (
            _valid(certificate, now)
            and _for_clients(certificate)
            and any(_issued(certificate, by=anchor, now=now) for anchor in self._anchors)
        )

    def look(self) -> None:
        """Read the file if it has changed.

        Raises `StartError` as long as it never could be read; later a failure is a warning.
        """
        if self._file is None or (self._seen and file_stamps.unchanged(self._seen)):
            return
        self._seen = file_stamps.stamps([self._file])
        try:
            self._take(self._file.read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError) as err:
            message = f"--client-ca-file {self._file} cannot be used: {err}"
            if not self.pem:
                raise errors.StartError(f"{message}; it must hold PEM certificates") from err
            log.warning("client CA was not read again", err=message)

    async def run(self) -> None:
        """Follow the file, or the ConfigMap, for ever. Raises `StartError` like `look`."""
        while True:
            if self._file is not None:
                self.look()
                await asyncio.sleep(LOOK_SECONDS)
                continue
            try:
                await self._follow()
            except errors.FarletError as err:
                if not self.pem and self._failures.is_new(str(err)):
                    log.warning("client CA is not known", err=str(err), consequence=_CONSEQUENCE)
                await asyncio.sleep(self._backoff.next())

    async def _follow(self) -> None:
        found = await self._home.get(resources.CONFIG_MAPS, _NAME, namespace=_NAMESPACE)
        self._published(found)
        version = found["metadata"]["resourceVersion"]
        while True:
            async for event in self._home.watch_object(
                resources.CONFIG_MAPS,
                _NAME,
                namespace=_NAMESPACE,
                version=version,
                opened=self._opened,
                at_least=AGAIN_SECONDS[0],
            ):
                version = event.object["metadata"]["resourceVersion"]
                if event.kind in {"ADDED", "MODIFIED"}:
                    self._published(event.object)

    def _opened(self) -> None:
        self._backoff.reset()

    def _published(self, config_map: ConfigMap) -> None:
        try:
            self._take(str((config_map.get("data") or {}).get(_KEY, "")))
        except ValueError as err:
            log.warning(
                "client CA was not taken",
                where=f"{_KEY} of ConfigMap kube-system/{_NAME}",
                err=str(err),
                consequence="the one before stays in force" if self.pem else _CONSEQUENCE,
            )

    def _take(self, pem: str) -> None:
        """Make it the bundle in force. Raises `ValueError`."""
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
        log.info("client CA was taken", certificates=len(anchors))


def _valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _for_clients(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True  # a certificate that names no use is for any (RFC 5280, 4.2.1.12)
    any_use = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    return ExtendedKeyUsageOID.CLIENT_AUTH in uses or any_use in uses


def _issued(certificate: x509.Certificate, *, by: x509.Certificate, now: datetime) -> bool:
    try:
        constraints = by.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(by)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return constraints.ca and _valid(by, now)
