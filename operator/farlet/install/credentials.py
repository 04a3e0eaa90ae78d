"""The kubeconfig with which farlet reaches the foreign cluster: pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from farlet.constants import JSON
from farlet.install.home import KUBECONFIG

TOKEN_SECONDS = 7 * 24 * 3600
"""Requested lifetime of the token; the manager renews it at half of what is granted."""

_NAME = "foreign"


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
    cluster: JSON = {"server": server.url}
    if server.authority is not None:
        authority = base64.b64encode(server.authority.encode()).decode()
        cluster["certificate-authority-data"] = authority
    if server.server_name is not None:
        cluster["tls-server-name"] = server.server_name
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _NAME, "cluster": cluster}],
        "users": [{"name": _NAME, "user": {"token": token}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME}}],
        "current-context": _NAME,
    }
    return json.dumps(content, indent=1)


def token_for(secret: JSON | None, server: ForeignServer) -> str | None:
    """The token in a Secret that `kubeconfig` wrote for this server.

    `None`: there is none, or the Secret has another content.
    """
    try:
        text = decoded(secret or {})[KUBECONFIG]
        token: Any = json.loads(text)["users"][0]["user"]["token"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return token if isinstance(token, str) and text == kubeconfig(server, token) else None


def decoded(secret: JSON) -> dict[str, str]:
    """The texts in a Secret. Raises `ValueError` for others."""
    data = secret.get("data") or {}
    return {name: base64.b64decode(text).decode() for name, text in data.items()}


def client_certificate(kubeconfig: str) -> bytes:
    """The client certificate in a kubeconfig, in PEM.

    Raises `ValueError`, `KeyError`, `IndexError` or `TypeError` where there is none.
    """
    content = yaml.safe_load(kubeconfig)
    return base64.b64decode(content["users"][0]["user"]["client-certificate-data"])
