"""The comparison of audit logs with the table of permissions finds each kind of difference."""

from __future__ import annotations

import datetime

import pytest

import permissions_audit
from clusters import auditlog
from farlet.rbac import Side

NODE = "system:node:far"
ACCOUNT = "system:serviceaccount:farlet:far"


def entry(
    verb: str,
    resource: str,
    *,
    group: str = "",
    namespace: str = "",
    name: str = "",
    user: str = NODE,
    uri: str = "",
) -> auditlog.Entry:
    resource, _, subresource = resource.partition("/")
    return auditlog.Entry(
        stage="ResponseComplete",
        time=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        verb=verb,
        user=user,
        user_agent="farlet/0.1.0",
        uri=uri,
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
        code=200,
        message="",
        raw={"objectRef": {"apiGroup": group}} if group else {},
    )


LEASES = "coordination.k8s.io"
HOME, FOREIGN = Side.HOME, Side.FOREIGN

ALLOWED = [
    pytest.param(HOME, entry("list", "pods"), id="pods of the node"),
    pytest.param(HOME, entry("list", "pods", namespace="shop"), id="one pod by a list"),
    pytest.param(HOME, entry("patch", "pods/status", namespace="shop", name="web"), id="status"),
    pytest.param(HOME, entry("patch", "nodes", name="far"), id="own node"),
    pytest.param(
        HOME,
        entry("update", "leases", group=LEASES, namespace="kube-node-lease", name="far"),
        id="own heartbeat",
    ),
    pytest.param(
        HOME,
        entry("update", "leases", group=LEASES, namespace="farlet", name="lock", user=ACCOUNT),
        id="the lock of an account",
    ),
    pytest.param(HOME, entry("get", "", uri="/api/v1"), id="discovery"),
    pytest.param(FOREIGN, entry("patch", "configmaps", namespace="farlet"), id="registry"),
    pytest.param(FOREIGN, entry("create", "secrets", namespace="shop-home"), id="secret"),
    pytest.param(
        FOREIGN,
        entry("get", "namespaces", namespace="shop-home", name="shop-home"),
        id="the foreign namespace itself",
    ),
]

STRANGERS = [
    pytest.param(HOME, entry("get", "services", namespace="shop"), id="another resource"),
    pytest.param(HOME, entry("update", "pods/status", namespace="shop"), id="another verb"),
    pytest.param(HOME, entry("patch", "pods", namespace="shop"), id="no subresource"),
    pytest.param(HOME, entry("patch", "nodes", name="other"), id="another node"),
    pytest.param(
        HOME,
        entry("update", "leases", group=LEASES, namespace="kube-node-lease", name="other"),
        id="another heartbeat",
    ),
    pytest.param(
        HOME,
        entry("update", "leases", group=LEASES, namespace="farlet", name="lock"),
        id="the lock of an account, as a node",
    ),
    pytest.param(HOME, entry("create", "leases", namespace="farlet"), id="another API group"),
    pytest.param(HOME, entry("get", "", uri="/metrics"), id="another path"),
    pytest.param(FOREIGN, entry("create", "pods", namespace="farlet"), id="a pod in our own"),
    pytest.param(
        FOREIGN,
        entry("patch", "namespaces", namespace="shop-home", name="shop-home"),
        id="another verb on a namespace",
    ),
    pytest.param(FOREIGN, entry("list", "pods"), id="pods of all namespaces"),
]


@pytest.mark.parametrize(("side", "request_"), ALLOWED)
def test_a_request_with_a_row_uses_it(side: Side, request_: auditlog.Entry) -> None:
    found = permissions_audit.compare(side, [request_])
    assert not found.without_row
    assert {one.verb for one in found.used} == {request_.verb}
    assert all(str(one) not in permissions_audit.unused(found.used) for one in found.used)


@pytest.mark.parametrize(("side", "request_"), STRANGERS)
def test_a_request_without_a_row_is_reported(side: Side, request_: auditlog.Entry) -> None:
    found = permissions_audit.compare(side, [request_, request_])
    ((told, count),) = found.without_row.items()
    assert count == 2
    assert request_.verb in told
    assert request_.user in told
    assert found.used == frozenset()
    with pytest.raises(AssertionError, match="allows these requests of farlet"):
        found.check()


def test_a_row_that_nothing_used_is_reported_verb_by_verb() -> None:
    found = permissions_audit.compare(FOREIGN, [entry("get", "pods", namespace="shop-home")])
    where = "foreign, each offloaded namespace"
    unused = permissions_audit.unused(found.used)
    assert f"{where}: get pods" not in unused
    assert {f"{where}: watch pods", f"{where}: create secrets"} <= set(unused)
