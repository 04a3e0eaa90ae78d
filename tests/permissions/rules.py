"""The rules of the shipped Roles and ClusterRoles, and the objects in which each of them is.

A rule is a row of `farlet.rbac.TABLE` or of the manager's table, or some verbs of a row. It has a
text such as `foreign offloaded: get, list pods`. Rows that no Role grants have no rule.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence

from clusters import workspace
from farlet import rbac
from farlet.manager import permissions
from farlet.manager.permissions import ManagerPermission
from farlet.rbac import Permission, Side, Where

Row = Permission | ManagerPermission
GRANTED_TO_ANYONE = frozenset({Where.ANYONE, Where.URL})
"""What Kubernetes grants to every authenticated user, and no Role of farlet."""
_MANAGER = "manager"


@dataclasses.dataclass(frozen=True)
class Rule:
    """Verbs of one row."""

    row: Row
    verbs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{scope(self.row)}: {', '.join(self.verbs)} {_resource(self.row)}"

    @property
    def cluster(self) -> str:
        """The name of the cluster whose Roles contain it."""
        return self.row.side.value if isinstance(self.row, Permission) else Side.HOME.value

    @property
    def left(self) -> tuple[str, ...]:
        """The other verbs of its row."""
        return tuple(verb for verb in self.row.verbs if verb not in self.verbs)

    @property
    def roles(self) -> Sequence[str]:
        """The resources of the objects that can contain it."""
        if isinstance(self.row, ManagerPermission):
            namespaced = self.row.scope is permissions.Scope.NAMESPACE
            return ("roles",) if namespaced else ("clusterroles",)
        match self.row.where:
            case Where.CLUSTER | Where.CREATED:
                return ("clusterroles",)
            case Where.OFFLOADED if self.row.side is Side.HOME:
                return ("clusterroles",)
            case Where.OFFLOADED:  # an administrator grants it, or farlet binds it
                return ("roles", "clusterroles")
            case _:
                return ("roles",)

    @property
    def namespace(self) -> str:
        """The only namespace with Roles that contain it, or nothing."""
        if isinstance(self.row, ManagerPermission) or len(self.roles) > 1:
            return ""
        return namespace_of(self.row.where) if self.roles == ("roles",) else ""

    def can_be_in(self, namespace: str) -> str:
        """A CEL expression: whether a Role of this namespace, an expression too, can contain it."""
        if self.namespace:
            return f"{namespace} == {json.dumps(self.namespace)}"
        # The Role for farlet's own namespace contains some of the same rules.
        elsewhere = len(self.roles) > 1
        return f"{namespace} != {json.dumps(workspace.FARLET_NAMESPACE)}" if elsewhere else "true"

    def is_in(self, rule: str) -> str:
        """A CEL expression: whether the variable `rule` is the rule of its row in a Role."""
        names = f"{rule}.?resourceNames.orValue([])"
        named = [
            f"{rule}.?apiGroups.orValue([]) == {json.dumps([self.row.group])}",
            f"{rule}.?resources.orValue([]) == {json.dumps([self.row.resource])}",
            f"{rule}.verbs == {json.dumps(list(self.row.verbs))}",
            # The name of a Node differs from test to test.
            f"size({names}) == 1"
            if self.row.name == rbac.NODE
            else f"{names} == {json.dumps([self.row.name] if self.row.name else [])}",
        ]
        return " && ".join(named)


def rows() -> Iterator[Row]:
    """All rows that a Role grants."""
    yield from (row for row in rbac.TABLE if row.where not in GRANTED_TO_ANYONE)
    yield from permissions.TABLE


def parse(text: str) -> Rule:
    """The rule with this text. ValueError if there is none."""
    where, _, what = text.partition(": ")
    words, _, resource = what.rpartition(" ")
    verbs = tuple(words.split(", "))
    for row in rows():
        if (scope(row), _resource(row)) == (where, resource) and set(verbs) <= set(row.verbs):
            return Rule(row, verbs)
    raise ValueError(f"no Role contains {text}")


def scope(row: Row) -> str:
    """The cluster and the scope of a row, in two words."""
    if isinstance(row, ManagerPermission):
        return f"{_MANAGER} {row.scope.name.lower()}"
    return f"{row.side.value} {row.where.name.lower().replace('_', '-')}"


def namespace_of(where: Where) -> str:
    """The namespace of a scope that is one namespace."""
    return workspace.FARLET_NAMESPACE if where is Where.OWN else where.value


def _resource(row: Row) -> str:
    return f"{row.resource}.{row.group}" if row.group else row.resource
