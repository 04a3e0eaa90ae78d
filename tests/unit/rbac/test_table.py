"""The table of permissions, and the roles generated from it."""

from __future__ import annotations

import collections

import pytest
import yaml

from farlet import rbac, roles
from farlet.rbac import Identity, Side, When, Where
from reference import role_manifests

Rule = tuple[str, str, str, str]
"""API group, resource, name or empty, verb."""


def granted(path: str, kind: str, name: str, namespace: str | None = None) -> set[Rule]:
    """The rules of a role in a generated file."""
    (found,) = (
        document
        for document in yaml.safe_load_all(role_manifests.files()[path])
        if document["kind"] == kind
        and document["metadata"]["name"] == name
        and document["metadata"].get("namespace") == namespace
    )
    return {
        (group, resource, object_name, verb)
        for rule in found["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for object_name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


OPTIONS = (When.CREATES_NAMESPACES, When.REFLECTS_SERVICES)


def in_table(side: Side, place: Where, option: When | None = None) -> set[Rule]:
    """The permissions of an option, or those of none."""
    return {
        (row.group, row.resource, "far" if row.name == rbac.NODE else row.name, verb)
        for row in rbac.TABLE
        if (row.side, row.where) == (side, place)
        and row.identity not in {Identity.NODE, Identity.STORAGE}
        and (row.when is option if option else row.when not in OPTIONS)
        for verb in row.verbs
    }


FOREIGN = "manifests/foreign"
HOME = "manifests/home/service-account/roles.yaml"

ROLES = [
    pytest.param(
        f"{FOREIGN}/farlet-namespace.yaml", "Role", "farlet-inventory", "farlet",
        Side.FOREIGN, Where.OWN, id="foreign-own",
    ),
    pytest.param(
        f"{FOREIGN}/offloaded-namespace.yaml", "Role", "farlet", None,
        Side.FOREIGN, Where.OFFLOADED, id="foreign-offloaded",
    ),
    pytest.param(
        f"{FOREIGN}/capacity.yaml", "ClusterRole", "farlet-capacity", None,
        Side.FOREIGN, Where.CLUSTER, id="foreign-cluster",
    ),
    pytest.param(
        HOME, "ClusterRole", "farlet-far-pods", None, Side.HOME, Where.OFFLOADED, id="pods",
    ),
    pytest.param(HOME, "Role", "farlet-far", "farlet", Side.HOME, Where.OWN, id="own"),
    pytest.param(HOME, "Role", "farlet-far", "default", Side.HOME, Where.DEFAULT, id="default"),
    pytest.param(
        HOME, "Role", "farlet-far", "kube-node-lease",
        Side.HOME, Where.KUBE_NODE_LEASE, id="leases",
    ),
    pytest.param(
        HOME, "Role", "farlet-far", "kube-system", Side.HOME, Where.KUBE_SYSTEM, id="kube-system",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "kind", "name", "namespace", "side", "place"), ROLES)
def test_a_role_grants_what_the_table_says_and_no_more(
    path: str, kind: str, name: str, namespace: str | None, side: Side, place: Where
) -> None:
    assert granted(path, kind, name, namespace) == in_table(side, place)


def test_the_home_cluster_has_one_role_by_name_and_one_without_names() -> None:
    anything = granted(HOME, "ClusterRole", "farlet-far")
    own_node = granted(HOME, "ClusterRole", "farlet-far-node")
    assert anything | own_node == in_table(Side.HOME, Where.CLUSTER)
    assert {name for _, _, name, _ in anything} == {""}
    assert {name for _, _, name, _ in own_node} == {"far"}


CREATED = f"{FOREIGN}/created-namespaces/roles.yaml"
HOME_CREATED = "manifests/home/created-namespaces.yaml"


def test_the_permissions_to_create_namespaces_are_in_roles_of_their_own() -> None:
    creation = granted(CREATED, "ClusterRole", "farlet-namespaces")
    assert creation == in_table(Side.FOREIGN, Where.CLUSTER, When.CREATES_NAMESPACES)
    reading = granted(HOME_CREATED, "ClusterRole", "farlet-namespaces")
    assert reading == in_table(Side.HOME, Where.CLUSTER, When.CREATES_NAMESPACES)
    assert reading == {("", "namespaces", "", "get")}


def test_farlet_binds_what_an_administrator_grants_and_what_it_creates_and_checks() -> None:
    bound = granted(CREATED, "ClusterRole", rbac.OFFLOADED_ROLE)
    offloaded = in_table(Side.FOREIGN, Where.OFFLOADED)
    created = in_table(Side.FOREIGN, Where.CREATED, When.CREATES_NAMESPACES)
    reflected = in_table(Side.FOREIGN, Where.OFFLOADED, When.REFLECTS_SERVICES)
    assert bound == offloaded | created | reflected
    assert {verb for *_, verb in created} == {"create"}
    bindings = [
        document["roleRef"]["name"]
        for document in yaml.safe_load_all(role_manifests.files()[CREATED])
        if document["kind"] == "ClusterRoleBinding"
    ]
    assert bindings == ["farlet-namespaces"], "farlet-offloaded is never bound cluster-wide"


def test_volumes_have_a_role_of_their_own() -> None:
    volumes = granted("manifests/home/volumes/role.yaml", "ClusterRole", "farlet-volumes")
    assert volumes == {
        (row.group, row.resource, row.name, verb)
        for row in rbac.TABLE
        if row.identity is Identity.STORAGE
        for verb in row.verbs
    }


def test_the_permissions_to_reflect_services_are_in_roles_of_their_own() -> None:
    place = When.REFLECTS_SERVICES
    found = granted(f"{FOREIGN}/reflected-services.yaml", "Role", "farlet-services")
    assert found == in_table(Side.FOREIGN, Where.OFFLOADED, place)
    found = granted("manifests/home/reflected-services.yaml", "ClusterRole", "farlet-services")
    assert found == in_table(Side.HOME, Where.CLUSTER, place)
    assert {verb for *_, verb in found} == {"list", "watch"}


def test_tokens_are_granted_namespace_by_namespace() -> None:
    places = {row.where for row in rbac.TABLE if row.resource == "serviceaccounts/token"}
    assert places == {Where.OFFLOADED}
    bound = [
        document["roleRef"]["name"]
        for document in yaml.safe_load_all(role_manifests.files()[HOME])
        if document["kind"] == "ClusterRoleBinding"
    ]
    assert "farlet-far-pods" not in bound


def test_no_two_rows_grant_the_same() -> None:
    rows = collections.Counter(
        (row.side, row.where, row.group, row.resource, row.name, row.identity, verb)
        for row in rbac.TABLE
        for verb in row.verbs
    )
    assert [row for row, count in rows.items() if count > 1] == []


def test_no_role_grants_the_same_twice() -> None:
    for path, content in role_manifests.files().items():
        for role in yaml.safe_load_all(content):
            granted = collections.Counter(
                (group, resource, *rule.get("resourceNames", [""]), verb)
                for rule in role.get("rules", ())
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            )
            twice = [one for one, count in granted.items() if count > 1]
            assert not twice, f"{path}: {role['metadata']['name']}"


def test_nothing_is_allowed_by_a_wildcard() -> None:
    for row in rbac.TABLE:
        assert "*" not in {row.group, row.resource, row.name, *row.verbs}


@pytest.mark.parametrize(
    ("path", "role"),
    [
        pytest.param(f"{FOREIGN}/farlet-namespace.yaml", roles.foreign_system(), id="own"),
        pytest.param(f"{FOREIGN}/offloaded-namespace.yaml", roles.foreign_offloaded(), id="pods"),
        pytest.param(f"{FOREIGN}/capacity.yaml", roles.foreign_capacity(), id="capacity"),
        pytest.param(CREATED, roles.foreign_namespaces(), id="creation"),
        *(
            pytest.param(HOME, role, id=f"home {role.name}-{role.namespace}")
            for role in roles.home(role_manifests.HOME_ACCOUNT)
        ),
        pytest.param(
            HOME, roles.home_offloaded(role_manifests.HOME_ACCOUNT), id="home farlet-far-pods"
        ),
    ],
)
def test_the_object_of_a_role_is_what_the_manifest_contains(path: str, role: roles.Role) -> None:
    documents = list(yaml.safe_load_all(role_manifests.files()[path]))
    assert role.manifest(node=role_manifests.NODENAME) in documents
    assert (role.binding() in documents) is (role.name != "farlet-far-pods")
