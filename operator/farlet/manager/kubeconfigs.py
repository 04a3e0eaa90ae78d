"""Kubeconfigs in Secrets: read, refused and written. Pure.

Only the current context is read, and only what is embedded in it: the manager runs no plugin and
opens no file because a Secret says so. What the manager writes, and what it connects with, is built
from the fields that were read here, so that no other reader can understand the file differently.
No error text contains a value, except names that the file gives to its entries.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from farlet import redaction
from farlet.certs import key_pairs
from farlet.client import yaml_text
from farlet.constants import JSON

KEY = "kubeconfig"
"""The data key of the Secret."""
MAX_BYTES = 128 << 10

_REFUSED = {
    "exec": "an exec plugin",
    "auth-provider": "an auth provider",
    "tokenFile": "the path of a token file",
    "client-certificate": "the path of a certificate",
    "client-key": "the path of a key",
    "certificate-authority": "the path of a CA",
}


_HOST = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[-A-Za-z0-9_]+)*\.?")


class Unusable(ValueError):
    """The kubeconfig cannot be used here; the text says why."""


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The current context of a kubeconfig. PEM is decoded."""

    server: str
    authority: str | None = None
    """CA certificates in PEM; `None`: the system's."""
    token: str | None = field(default=None, repr=False)
    pair: key_pairs.KeyPair | None = None
    """The client certificate with its key."""
    insecure: bool = False
    server_name: str | None = None
    proxy: str | None = None
    namespace: str | None = None

    def with_token(self, token: str) -> Kubeconfig:
        """The same with another token."""
        return replace(self, token=token)

    def text(self) -> str:
        """The kubeconfig, self-contained, in JSON, which is YAML."""
        cluster: JSON = {"server": self.server}
        if self.authority is not None:
            cluster["certificate-authority-data"] = _encode(self.authority)
        if self.insecure:
            cluster["insecure-skip-tls-verify"] = True
        if self.server_name is not None:
            cluster["tls-server-name"] = self.server_name
        if self.proxy is not None:
            cluster["proxy-url"] = self.proxy
        user: JSON = {}
        if self.token is not None:
            user["token"] = self.token
        if self.pair is not None:
            user["client-certificate-data"] = _encode(self.pair.chain)
            user["client-key-data"] = _encode(self.pair.key)
        context: JSON = {"cluster": "cluster", "user": "farlet"}
        if self.namespace is not None:
            context["namespace"] = self.namespace
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": "farlet", "user": user}],
            "contexts": [{"name": "farlet", "context": context}],
            "current-context": "farlet",
        }
        return json.dumps(content, indent=1)


def parse(content: bytes) -> Kubeconfig:
    """The current context. Raises `Unusable`."""
    document = _document(content)
    chosen = document.get("current-context")
    if not isinstance(chosen, str) or not chosen:
        raise Unusable("it has no current-context")
    context = _entry(document, "contexts", "context", chosen)
    cluster = _entry(document, "clusters", "cluster", context.get("cluster"))
    user = _entry(document, "users", "user", context.get("user"))
    for section in (cluster, user):
        for name, what in _REFUSED.items():
            if section.get(name):
                raise Unusable(
                    f"it contains {what} ({name}), which the manager does not use. Put a "
                    "self-contained kubeconfig with a token into the Secret"
                )
    server = _text(cluster, "server")
    if server is None or not server.startswith("https://") or not _is_address(server):
        raise Unusable("its server is not an https:// URL with a host and a port")
    proxy = _text(cluster, "proxy-url")
    if proxy is not None and not _is_proxy(proxy):
        raise Unusable("its proxy-url is not an http:// URL with a host and a port")
    server_name = _text(cluster, "tls-server-name")
    if server_name is not None and not _is_host(server_name):
        raise Unusable("its tls-server-name is not a DNS name or an IP address")
    token = _text(user, "token")
    if token is not None and not re.fullmatch("[!-~]+", token):
        raise Unusable("its token contains characters that no token has")
    found = Kubeconfig(
        server=server.rstrip("/"),
        authority=_data(cluster, "certificate-authority-data"),
        token=token,
        pair=_pair(user),
        insecure=cluster.get("insecure-skip-tls-verify") is True,
        server_name=server_name,
        proxy=proxy,
        namespace=_text(context, "namespace"),
    )
    if found.token is None and found.pair is None:
        raise Unusable("its user has neither a token nor a client certificate with its key")
    if found.authority is not None:
        try:
            x509.load_pem_x509_certificates(found.authority.encode())
        except ValueError:
            raise Unusable("its certificate-authority-data contains no certificate") from None
    return found


def _is_address(url: str) -> bool:
    """Whether this is the URL of a server, without user, query and fragment."""
    parts = _split(url)
    return (
        parts is not None
        and parts.username is None
        and not {"?", "#"} & set(url)
        and re.fullmatch("[!-~]*", parts.path) is not None
    )


def _is_proxy(url: str) -> bool:
    """Whether this is the URL of a proxy; it may contain a user and a password."""
    parts = _split(url)
    return parts is not None and parts.scheme in {"http", "https"} and parts.path in {"", "/"}


def _split(url: str) -> SplitResult | None:
    """The parts of a URL that has a host, and a port of a server if it has one."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return None
    return parts if has_port and parts.hostname and _is_host(parts.hostname) else None


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and _HOST.fullmatch(text) is not None
    return True


def _pair(user: JSON) -> key_pairs.KeyPair | None:
    chain, key = _data(user, "client-certificate-data"), _data(user, "client-key-data")
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise Unusable("its user has a client certificate without its key, or the reverse")
    try:
        return key_pairs.parse(chain.encode(), key.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("its client certificate and key are not a pair") from None


def _document(content: bytes) -> JSON:
    try:
        document = yaml_text.read(content, limit=MAX_BYTES)
    except yaml_text.Invalid as err:
        raise Unusable(f"it {err}") from None
    if not isinstance(document, dict):
        raise Unusable("it is empty or not a kubeconfig")
    return document


def _entry(document: JSON, plural: str, kind: str, name: object) -> JSON:
    """The one entry of this name."""
    entries = document.get(plural)
    found = [
        one.get(kind)
        for one in (entries if isinstance(entries, list) else ())
        if isinstance(one, dict) and one.get("name") == name and name
    ]
    if len(found) != 1 or not isinstance(found[0], dict):
        shown = redaction.value(str(name))
        raise Unusable(f"it has no {kind} {shown}, or more than one")
    return found[0]


def _text(section: JSON, name: str) -> str | None:
    value = section.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable():
        raise Unusable(f"its {name} is not a printable string")
    return value.strip()


def _data(section: JSON, name: str) -> str | None:
    value = section.get(name)
    if isinstance(value, str):  # also in lines, as the command base64 writes it
        value = "".join(value.split())
    value = _text({name: value}, name)
    if value is None:
        return None
    try:
        # Beside the PEM blocks there can be comments, in any language.
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        raise Unusable(f"its {name} is not valid base64 of PEM") from None


def _encode(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
