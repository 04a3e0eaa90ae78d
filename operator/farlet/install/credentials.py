"""The Secret with which farlet reaches the foreign cluster: what `connect` writes and reuses."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from farlet.constants import JSON
from farlet.forge.timestamps import rfc3339
from farlet.manager import foreign_token, kubeconfigs
from farlet.manager.kubeconfigs import Kubeconfig


@dataclass(frozen=True, slots=True)
class ForeignServer:
    """Where and how pods of the home cluster reach the foreign API server."""

    url: str
    authority: str | None = field(repr=False)
    """CA bundle in PEM; `None`: the system's CAs."""
    server_name: str | None = None
    """The name in its certificate, if that is not the host of the URL."""


def kubeconfig(server: ForeignServer, token: str) -> str:
    """Self-contained: no file, no plugin."""
    found = Kubeconfig(
        server.url, authority=server.authority, token=token, server_name=server.server_name
    )
    return found.text()


def token_for(secret: JSON | None, server: ForeignServer) -> str | None:
    """The token in a Secret for this server, as connect or the manager wrote it.

    `None`: there is none, or the Secret is for another server.
    """
    found = of_secret(secret)
    if found is None or found.token is None:
        return None
    same = (found.server, found.authority, found.server_name) == (
        server.url,
        server.authority,
        server.server_name,
    )
    return found.token if same and not found.insecure else None


def expiry(token: str) -> str | None:
    """When a token expires, as the status of a VirtualNode shows it; `None`: it does not say."""
    expires = foreign_token.read(token).expires
    return None if expires is None else rfc3339(expires.timestamp())


def of_secret(secret: JSON | None) -> Kubeconfig | None:
    """The kubeconfig in a Secret; `None` if there is none that can be used."""
    try:
        return kubeconfigs.parse(decoded(secret or {})[kubeconfigs.KEY].encode())
    except (KeyError, ValueError):
        return None


def decoded(secret: JSON) -> dict[str, str]:
    """The texts in a Secret. Raises `ValueError` for others."""
    data = secret.get("data") or {}
    return {name: base64.b64decode(text).decode() for name, text in data.items()}
