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


def text(connection: Connection, side: Side, *, server: str | None) -> str:
    """YAML documents with comments. Every line that is not YAML is a comment.

    `server`: the URL at which pods of the home cluster reach the foreign API server, if given.
    """
    parts = []
    if side in (Side.BOTH, Side.FOREIGN):
        parts.append(_documents("foreign", foreign_objects(connection)))
    if side in (Side.BOTH, Side.HOME):
        parts.append(_documents("home", home_objects(connection)))
    return "".join((*parts, _comments(commands(connection, server=server))))


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


def commands(connection: Connection, *, server: str | None) -> str:
    """How the Secrets are created, and the client certificate is approved, without `connect`."""
    system, name = connection.system, connection.name
    parts = [_TOKEN.format(system=system)]
    if server is None:
        parts.append(_SERVER)
    parts.append(_KUBECONFIG.format(system=system, name=name, server=server or _ANY_SERVER))
    if connection.gateway:
        parts.append(_KEYS.format(system=system, name=name, node=connection.node))
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
"""
_ANY_SERVER = "https://FOREIGN:6443"
_SERVER = f"""
Replace {_ANY_SERVER} by the address at which pods of the home cluster reach the foreign API
server, or run this command with --foreign-server.
"""
_KUBECONFIG = f"""
  kubectl --context FOREIGN get configmap kube-root-ca.crt -n {{system}} \\
    -o jsonpath='{{{{.data.ca\\.crt}}}}' > foreign-ca.crt
  kubectl config --kubeconfig foreign.kubeconfig set-cluster foreign \\
    --server {{server}} --certificate-authority foreign-ca.crt --embed-certs
  kubectl config --kubeconfig foreign.kubeconfig set-credentials farlet --token "$TOKEN"
  kubectl config --kubeconfig foreign.kubeconfig set-context foreign \\
    --cluster foreign --user farlet
  kubectl config --kubeconfig foreign.kubeconfig use-context foreign
  kubectl --context HOME create secret generic {{name}}-foreign -n {HOME_SYSTEM} \\
    --from-file=kubeconfig=foreign.kubeconfig
"""
_KEYS = f"""
  farlet gateway-keys keys --node {{node}} --foreign-system-namespace {{system}}
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
