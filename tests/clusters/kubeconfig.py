"""Kubeconfig files: written for our clusters, read from any."""

import base64
import binascii
import dataclasses
import json
import shutil
import ssl
import tempfile
from pathlib import Path
from typing import Any

import yaml

from clusters import errors
from clusters.pki import Pair


@dataclasses.dataclass(frozen=True)
class Access:
    """Address, CA and credentials for an API server."""

    server: str
    authority: bytes
    certificate: bytes | None
    key: bytes | None
    token: str | None

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.decode())
        if self.certificate is not None and self.key is not None:
            with tempfile.NamedTemporaryFile() as file:  # the ssl module takes only paths
                file.write(self.certificate + b"\n" + self.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context


def write(
    path: Path,
    *,
    server: str,
    authority: bytes,
    user: Pair | str,
    cluster: str,
    name: str | None = None,
) -> Path:
    """Write a self-contained kubeconfig; `user` is a certificate or a token.

    The user's name is `name`, by default that of the file.
    """
    name = name or path.stem
    if isinstance(user, Pair):
        proof = {
            "client-certificate-data": _encode(user.certificate.read_bytes()),
            "client-key-data": _encode(user.key.read_bytes()),
        }
    else:
        proof = {"token": user}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster,
                "cluster": {"server": server, "certificate-authority-data": _encode(authority)},
            }
        ],
        "users": [{"name": name, "user": proof}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": name}}],
        "current-context": cluster,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
    return path


def read(path: Path) -> Access:
    """The access that the file's current context gives."""
    try:
        content = yaml.safe_load(path.read_text())
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"])["user"]
        authority = _data(cluster, "certificate-authority", path)
        if authority is None:
            raise KeyError("certificate-authority")
        return Access(
            server=cluster["server"],
            authority=authority,
            certificate=_data(user, "client-certificate", path),
            key=_data(user, "client-key", path),
            token=user.get("token"),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration, binascii.Error) as error:
        raise errors.HarnessError(
            f"kubeconfig {path} cannot be used: {type(error).__name__}: {error}; expected a "
            f"current context, a server with its certificate authority, and a user with a client "
            f"certificate or a token"
        ) from error


def exchange(path: Path, other: Path) -> None:
    """Give a kubeconfig the content of another one, at once: a reader never sees a part of it."""
    new = path.with_suffix(".new")
    shutil.copy(other, new)
    new.replace(path)


def _named(content: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in content[section] if item["name"] == name)
    return found


def _data(section: dict[str, Any], name: str, path: Path) -> bytes | None:
    if f"{name}-data" in section:
        return base64.b64decode(section[f"{name}-data"], validate=True)
    return (path.parent / section[name]).read_bytes() if name in section else None


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
