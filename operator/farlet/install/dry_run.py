"""What `farlet connect --dry-run` prints: all objects of both clusters as YAML, for GitOps. Pure.

Secrets have content that no repository should contain. They are printed as commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import yaml

from farlet.constants import JSON, TOKEN_BINDING
from farlet.install import foreign, gateway, home, manager
from farlet.install.connection import HOME_SYSTEM, Connection
from farlet.manager.virtual_node import Identity


class Side(StrEnum):
    """Which cluster's objects are printed."""

    BOTH = "both"
    HOME = "home"
    FOREIGN = "foreign"


def text(connection: Connection, side: Side) -> str:
    """YAML documents with comments. Every line that is not YAML is a comment."""
    parts = []
    if side in (Side.BOTH, Side.FOREIGN):
        parts.append(_documents("foreign", foreign_objects(connection)))
    if side in (Side.BOTH, Side.HOME):
        parts.append(_documents("home", home_objects(connection)))
    return "".join((*parts, _comments(commands(connection))))


def foreign_objects(connection: Connection) -> tuple[JSON, ...]:
    """Without the content of Secrets."""
    return (*foreign.namespaces(connection), *foreign.objects(connection))


def home_objects(connection: Connection) -> tuple[JSON, ...]:
    """The manager, the bindings and the VirtualNode, without Secrets."""
    return (
        manager.namespace(),
        manager.custom_resource_definition(),
        *manager.objects(image=connection.image),
        *home.bindings(connection),
        home.virtual_node(connection),
    )


def commands(connection: Connection) -> str:
    """How the Secrets are created, and the client certificate is approved, without `connect`."""
    system, name = connection.system, connection.name
    parts = [_TOKEN.format(system=system, name=name)]
    if connection.gateway:
        parts.append(_KEYS.format(system=system, name=name))
    parts.append("\nThe manager renews the token from then on. Delete the files.\n")
    if connection.identity is Identity.NODE:
        parts.append(_CERTIFICATE.format(node=connection.node))
    return "".join(parts)


_HOURS = 7 * 24
"""As `foreign_token.LIFETIME`."""
_TOKEN = f"""\
Secrets are not printed. Create them once, in this order:

  TOKEN=$(kubectl --context FOREIGN create token {foreign.ACCOUNT} -n {{system}} \\
    --bound-object-kind Secret --bound-object-name {TOKEN_BINDING} \\
    --duration {_HOURS}h)

foreign.kubeconfig: server and CA of the foreign cluster, and this token as users[0].user.token.

  kubectl --context HOME create secret generic {{name}}-foreign -n {HOME_SYSTEM} \\
    --from-file=kubeconfig=foreign.kubeconfig
"""
_KEYS = f"""\
  farlet gateway-keys keys
  kubectl --context FOREIGN create secret generic {gateway.NAME} -n {{system}} \\
    --from-file=keys/foreign
  kubectl --context HOME create secret generic {{name}}-gateway -n {HOME_SYSTEM} \\
    --from-file=keys/home
"""
_CERTIFICATE = f"""\
Approve the first client certificate of the node; the VirtualNode shows the command:

  kubectl --context HOME describe virtualnode {{node}} -n {HOME_SYSTEM}
"""


def _documents(cluster: str, objects: Sequence[JSON]) -> str:
    documents = "".join(
        f"---\n{yaml.dump(one, Dumper=_Dumper, sort_keys=False)}" for one in objects
    )
    return f"# Objects of the {cluster} cluster\n{documents}"


def _comments(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


class _Dumper(yaml.SafeDumper):
    """Without anchors, which GitOps tools do not all read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True
