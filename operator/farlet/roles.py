"""The table of rights as Kubernetes objects: the roles in `manifests/`, as text with comments.

Only text is made here; `reference.py` writes it, and compares what stands in the repository.
People read these files before they apply them, so each rule says what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farlet import rbac
from farlet.rbac import Identity, Permission, Side, Where

NAME = "farlet"
"""Of farlet's namespace and ServiceAccount on both sides, and the beginning of its roles' names."""

NODENAME = "far"
"""The virtual node's name as the manifests have it until somebody names theirs."""

_MADE = "# Made by `python -m reference.pages` from operator/farlet/rbac.py; change that.\n"

_NAMESPACES = {
    Where.OWN: NAME,
    Where.DEFAULT: "default",
    Where.KUBE_NODE_LEASE: "kube-node-lease",
    Where.KUBE_SYSTEM: "kube-system",
}


@dataclass(frozen=True, slots=True)
class _Role:
    """What is granted under one name; `namespace` None: in the whole cluster."""

    name: str
    namespace: str | None
    rights: tuple[Permission, ...]

    @property
    def kind(self) -> str:
        return "ClusterRole" if self.namespace is None else "Role"


def files() -> Mapping[str, str]:
    """Path below the repository's root to content."""
    own = _Role("farlet-registry", NAME, _of(Side.FOREIGN, Where.OWN))
    offloaded = _Role(NAME, "", _of(Side.FOREIGN, Where.OFFLOADED))
    nodes = _Role("farlet-capacity", None, _of(Side.FOREIGN, Where.CLUSTER))
    return {
        "manifests/foreign/farlet-namespace.yaml": _MADE
        + "# farlet's own namespace in the foreign cluster (--foreign-system-namespace).\n"
        "# It never receives pods. One ConfigMap per virtual node remembers which namespaces are\n"
        "# in use; a Service and the pods behind it may lead to the home API server.\n"
        + _documents(_namespace(), _account(), _role(own), _binding(own)),
        "manifests/foreign/offloaded-namespace.yaml": _MADE
        + "# All that farlet may do in a foreign namespace that receives pods. Apply in each:\n"
        "#   kubectl apply -n NAMESPACE -f offloaded-namespace.yaml\n"
        + _documents(_role(offloaded), _binding(offloaded)),
        "manifests/foreign/capacity.yaml": _MADE
        + "# Only where the virtual node is to be as large as the foreign nodes together, that is\n"
        "# without --capacity. All else that farlet does abroad needs no right in the whole "
        "cluster.\n"
        + _documents(_role(nodes), _binding(nodes)),
        "manifests/home/service-account/roles.yaml": _MADE
        + "# What farlet needs at home as a ServiceAccount. It is more than a node may, see\n"
        "# docs/reference/rbac.md. The ClusterRole farlet-pods is bound to nobody: bind it in\n"
        "# each namespace whose pods run abroad.\n"
        + _documents(*_home()),
    }  # fmt: skip


def _home() -> Iterable[str]:
    everywhere = _of(Side.HOME, Where.CLUSTER)
    bound = [
        _Role(NAME, None, tuple(one for one in everywhere if not one.name)),
        _Role("farlet-node", None, tuple(one for one in everywhere if one.name)),
        *(_Role(NAME, name, _of(Side.HOME, place)) for place, name in _NAMESPACES.items()),
    ]
    for role in bound:
        yield _role(role)
        yield _binding(role)
    yield _role(_Role("farlet-pods", None, _of(Side.HOME, Where.OFFLOADED)))


def _of(side: Side, place: Where) -> tuple[Permission, ...]:
    """What a role must hold: a node has its own rights from the API server."""
    return tuple(
        right
        for right in rbac.TABLE
        if right.side is side and right.place is place and right.who is not Identity.NODE
    )


def _documents(*documents: str) -> str:
    return "---\n".join(documents)


def _metadata(name: str, namespace: str | None) -> str:
    """A namespace that is empty is for `kubectl apply -n` to say."""
    place = f"  namespace: {namespace}\n" if namespace else ""
    return f"metadata:\n  name: {name}\n{place}"


def _namespace() -> str:
    return f"apiVersion: v1\nkind: Namespace\n{_metadata(NAME, None)}"


def _account() -> str:
    return f"apiVersion: v1\nkind: ServiceAccount\n{_metadata(NAME, NAME)}"


def _role(role: _Role) -> str:
    return (
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {role.kind}\n"
        f"{_metadata(role.name, role.namespace)}rules:\n" + "".join(map(_rule, role.rights))
    )


def _rule(right: Permission) -> str:
    name = NODENAME if right.name == rbac.NODE else right.name
    return (
        f"# {right.why}{f' ({right.needs})' if right.needs else ''}\n"
        f'- apiGroups: ["{right.group}"]\n'
        f"  resources: [{right.resource}]\n"
        + (f"  resourceNames: [{name}]\n" if name else "")
        + f"  verbs: [{', '.join(right.verbs)}]\n"
    )


def _binding(role: _Role) -> str:
    return (
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {role.kind}Binding\n"
        f"{_metadata(role.name, role.namespace)}"
        "roleRef:\n  apiGroup: rbac.authorization.k8s.io\n"
        f"  kind: {role.kind}\n  name: {role.name}\n"
        f"subjects:\n- kind: ServiceAccount\n  name: {NAME}\n  namespace: {NAME}\n"
    )
