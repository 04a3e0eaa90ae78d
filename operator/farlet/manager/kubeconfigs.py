"""Kubeconfigs in Secrets: read, refused and written. Pure.

Only the current context is read, and only what is embedded in it: the manager runs no plugin and
opens no file because a Secret says so. What the manager writes, and what it connects with, is built
from the fields that were read here, so that no other reader can understand the file differently.
No error text contains a value, except names that the file gives to its entries.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from farlet import redaction
from farlet.certs import key_pairs
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
    if server is None or not server.startswith("https://"):
        raise Unusable("its server is not an https:// URL")
    found = Kubeconfig(
        server=server.rstrip("/"),
        authority=_data(cluster, "certificate-authority-data"),
        token=_text(user, "token"),
        pair=_pair(user),
        insecure=cluster.get("insecure-skip-tls-verify") is True,
        server_name=_text(cluster, "tls-server-name"),
        proxy=_text(cluster, "proxy-url"),
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


class _Loader(yaml.SafeLoader):
    """Without aliases: a file of a kilobyte could expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _document(content: bytes) -> JSON:
    if len(content) > MAX_BYTES:
        raise Unusable(f"it is larger than {MAX_BYTES >> 10} KiB")
    try:
        document = yaml.load(content, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Unusable("it is not valid YAML, or it contains aliases") from None
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
        raise Unusable(f"its {name} is not a text")
    return value.strip()


def _data(section: JSON, name: str) -> str | None:
    value = _text(section, name)
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unusable(f"its {name} is not valid base64 of PEM") from None


def _encode(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
