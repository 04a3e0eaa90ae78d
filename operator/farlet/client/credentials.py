"""The credentials of farlet for one API server: loaded, and reloaded when they change or expire.

kubernetes-asyncio reads kubeconfigs, exec plugins and the files of a pod. The result becomes a
`Login`: plain values and one TLS context, with which connections are made. Its files are checked
while the process runs, since ServiceAccount tokens and client certificates are rotated. If a reload
fails, the previous login stays in use.

No request is sent from here, and no token or key reaches a log or an error text.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import structlog
from cryptography import x509
from kubernetes_asyncio import client, config
from kubernetes_asyncio.config import incluster_config, kube_config

from farlet import errors, retrying
from farlet.client import (
    file_stamps,
    json_web_token,
    kubeconfig_errors,
    kubeconfig_files,
    tls_verification,
)
from farlet.client.credential_sources import ClusterSource
from farlet.client.kubeconfig_errors import Cause, Setting
from farlet.settings import values, yaml_files

CHECK_SECONDS = 10.0
"""The files of a login are checked no more often than this."""
EARLY_SECONDS = 30.0
"""A login is reloaded this long before it expires."""
RELOAD_SECONDS = 5.0
"""Shortest time between two reloads for an API server that keeps answering 401."""
PLUGIN_SECONDS = 30.0
"""How long loading may take: exec plugins may send requests."""

BACKDATED = timedelta(minutes=10)
"""How far `notBefore` of a certificate may lie before its issue, for clocks that are behind:
kube-controller-manager backdates by 5 minutes."""

_UNLOADABLE = (*yaml_files.FAILURES, config.ConfigException, OSError, TypeError)
"""What the library raises for files that it does not understand."""

Name = Literal["home", "foreign"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Login:
    """What connections to one API server are made with. No two loads are equal."""

    server: str
    """Base URL, without a slash at its end."""
    authorization: str | None = field(repr=False)
    """Value of the `Authorization` header."""
    context: ssl.SSLContext
    http2_context: ssl.SSLContext
    """The same, for connections that offer HTTP/2 only."""
    server_hostname: str | None
    """The name that the server's certificate must contain, if it is not the URL's."""
    proxy: str | None
    verified: bool
    """Whether the server's certificate is verified."""
    ca_file: str | None
    """The CA bundle that verifies the server; `None` for the system's CAs."""
    certificate_file: str | None
    key_file: str | None
    certificate: x509.Certificate | None
    """The leaf in `certificate_file`."""
    connecting: tuple[object, ...]
    """What connections depend on. A new token alone requires no new ones."""
    seen: file_stamps.Stamps
    expires: float | None
    """When the client certificate or the exec plugin's credentials expire, in epoch seconds."""

    @property
    def valid_until(self) -> float | None:
        """When the credentials expire, in epoch seconds, as far as they say it themselves."""
        if self.expires is not None or self.authorization is None:
            return self.expires
        return json_web_token.moment(self.authorization.rpartition(" ")[2], "exp")

    def is_like(self, other: Login) -> bool:
        """Whether both show the same to the same server."""
        return (self.connecting, self.authorization) == (other.connecting, other.authorization)

    def holds(self, now: float) -> bool:
        """Whether its files are unchanged and it does not expire soon; `now` in epoch seconds."""
        early = self.expires is not None and now >= self.expires - EARLY_SECONDS
        return not early and file_stamps.unchanged(self.seen)


class Credentials:
    """The current login. For one event loop."""

    def __init__(self, name: Name, source: ClusterSource) -> None:
        self._name = name
        self._source = source
        self.seen = tls_verification.SeenCertificates()
        """Certificates of the server, on connections with any login."""
        self._login: Login | None = None
        self._loaded_at = 0.0
        self._checked_at = 0.0
        self._loading = asyncio.Lock()
        self._failures = retrying.OncePerCause()

    async def load(self) -> Login:
        """Load everything now. Raises `StartError` naming the file."""
        self._checked_at = self._loaded_at = time.monotonic()
        login = self._login = await load(self._name, self._source)
        self.seen.watch(login.context)
        self.seen.watch(login.http2_context)
        return login

    async def current(self) -> Login:
        """The login for a request now. Raises `StartError` only if none was ever loaded."""
        login = self._login
        if login is None:
            return await self.load()
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return login
        self._checked_at = time.monotonic()
        if not login.holds(time.time()):
            async with self._loading:
                await self._reload()
        return self._login or login

    async def refused(self, login: Login) -> bool:
        """After a 401 for `login`: whether there is another one to retry with."""
        async with self._loading:
            if self._login is not login:
                return True
            if time.monotonic() - self._loaded_at < RELOAD_SECONDS:
                return False
            return await self._reload()

    async def _reload(self) -> bool:
        before = self._login
        try:
            login = await self.load()
        except errors.StartError as err:
            # Perhaps only one file of a pair has been replaced so far.
            if self._failures.is_new(str(err)):
                log.warning("failed to reload credentials", cluster=self._name, err=str(err))
            return False
        if self._failures.clear() or before is None or not login.is_like(before):
            log.info("credentials reloaded", cluster=self._name)
        return True


async def load(name: Name, source: ClusterSource) -> Login:
    """The login of a cluster. Raises `StartError` naming its source."""
    configuration = client.Configuration()
    read: Sequence[kubeconfig_files.File] = ()
    files: Sequence[str | Path]
    try:
        if source.kubeconfig is None:
            files = [
                incluster_config.SERVICE_TOKEN_FILENAME,
                incluster_config.SERVICE_CERT_FILENAME,
            ]
            before = file_stamps.stamps(files)
            config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration, try_refresh_token=False
            )
            plugin_expires = None
        else:
            files = values.kubeconfig_paths(source.kubeconfig)
            before = file_stamps.stamps(files)
            read = await asyncio.to_thread(kubeconfig_files.read, source.kubeconfig)
            loader = kube_config.KubeConfigLoader(
                kubeconfig_files.merged(read), active_context=source.context, config_base_path=None
            )
            async with asyncio.timeout(PLUGIN_SECONDS):
                await loader.load_and_set(configuration)
            before += file_stamps.stamps(_token_file(loader))
            plugin_expires = getattr(loader, "exec_plugin_expiry", None)
        return _login(source, configuration, before=before, plugin_expires=plugin_expires)
    except TimeoutError as err:
        late = TimeoutError(f"its exec plugin did not answer within {PLUGIN_SECONDS:g} s")
        raise _unloadable(name, source, late, read) from err
    except _UNLOADABLE as err:
        # Without its cause, whose text can be a part of a file.
        raise _unloadable(name, source, err, read) from None


def _login(
    source: ClusterSource,
    configuration: client.Configuration,
    *,
    before: file_stamps.Stamps,
    plugin_expires: datetime | None,
) -> Login:
    pair = (configuration.cert_file, configuration.key_file)
    before += file_stamps.stamps(p for p in (configuration.ssl_ca_cert, *pair, source.rotated) if p)
    ends = [plugin_expires.timestamp()] if plugin_expires else []
    certificate = None
    if pair[0]:
        pair, certificate = _newest(pair, source.rotated)
        ends.append(certificate.not_valid_after_utc.timestamp())
    token = configuration.api_key.get("BearerToken")
    server = str(configuration.host).rstrip("/")
    return Login(
        server=server,
        # A token file may end in a newline, which is not allowed in a header.
        authorization=token.strip() if token else None,
        context=_context(configuration, *pair),
        http2_context=_http2_context(configuration, *pair),
        server_hostname=configuration.tls_server_name or None,
        proxy=configuration.proxy or _environment_proxy(server),
        verified=configuration.verify_ssl,
        ca_file=configuration.ssl_ca_cert,
        certificate_file=pair[0],
        key_file=pair[1],
        certificate=certificate,
        connecting=(
            server,
            *(_digest(file) for file in (configuration.ssl_ca_cert, *pair)),
            configuration.verify_ssl,
            configuration.tls_server_name,
        ),
        seen=before,
        expires=min(ends) if ends else None,
    )


def _newest(
    pair: tuple[str | None, str | None], rotated: Path | None
) -> tuple[tuple[str | None, str | None], x509.Certificate]:
    """The given pair, or the rotated one if it has the same subject and was not issued before it.

    The one that expires later would be wrong: after a change of the CA the API server accepts the
    administrator's new certificate only, even if the old one would last longer.
    """
    given = x509.load_pem_x509_certificate(Path(str(pair[0])).read_bytes())
    if rotated is None or not rotated.is_file():
        return pair, given
    ours = x509.load_pem_x509_certificate(rotated.read_bytes())
    older = ours.not_valid_before_utc + BACKDATED < given.not_valid_before_utc
    if ours.subject != given.subject or older or ours.not_valid_after_utc < datetime.now(UTC):
        return pair, given
    return (str(rotated), str(rotated)), ours


def _context(
    configuration: client.Configuration, certificate: str | None, key: str | None
) -> ssl.SSLContext:
    context = tls_verification.context(cafile=configuration.ssl_ca_cert)
    if certificate:
        context.load_cert_chain(certificate, keyfile=key)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _http2_context(
    configuration: client.Configuration, certificate: str | None, key: str | None
) -> ssl.SSLContext:
    context = _context(configuration, certificate, key)
    context.set_alpn_protocols(["h2"])
    return context


def _token_file(loader: kube_config.KubeConfigLoader) -> list[Path]:
    # The library exposes nowhere else which file contained the token.
    user = loader._user
    if user is None or "tokenFile" not in user or "token" in user:
        return []
    return [Path(user.path or "").parent / str(user["tokenFile"])]


def _digest(file: str | None) -> bytes | None:
    return hashlib.sha256(Path(file).read_bytes()).digest() if file else None


def _unloadable(
    name: Name, source: ClusterSource, err: Exception, read: Sequence[kubeconfig_files.File]
) -> errors.StartError:
    if source.kubeconfig is None:
        cause = Cause(f"the pod's ServiceAccount: {kubeconfig_errors.words(err)}")
    elif isinstance(err, TimeoutError):
        cause = Cause(f"{source.kubeconfig}: {err}")
    elif isinstance(err, kubeconfig_files.Unreadable):
        cause = Cause(str(err))
    else:
        cause = kubeconfig_errors.cause(read, source.kubeconfig, source.context, err)
    fix = "one that exists" if cause.setting is Setting.CONTEXT else "a valid kubeconfig"
    return errors.StartError(
        f"cannot load the configuration of the {name} cluster: {cause.text}. "
        f"Set --{name}-{cause.setting} to {fix}"
    )


def _environment_proxy(server: str) -> str | None:
    """The proxy that `HTTPS_PROXY` and `NO_PROXY` select for a server; `None`: no proxy."""
    url = urlsplit(server)
    if not url.hostname or urllib.request.proxy_bypass(url.hostname):
        return None
    return urllib.request.getproxies().get(url.scheme)
