"""Operators in the foreign cluster that work on the home cluster, unchanged: Kopf and client-go."""

import secrets
from typing import Any

import pytest

from clusters import kwok, pair, rest
from clusters.workspace import Workspace
from conftest import StartFarlet
from integration import realpods
from integration.kubectl import Kubectl

pytestmark = [pytest.mark.clusters, pytest.mark.takes(60)]

CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"
LEASES = "coordination.k8s.io/v1/leases"
CORE_RULES = [
    {"apiGroups": [""], "resources": ["configmaps"],
     "verbs": ["get", "list", "watch", "create", "patch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
     "verbs": ["get", "create", "update", "patch"]},
]  # fmt: skip
LEASE = "manager"
OPERATOR = """
import datetime, os, socket
import kopf, kubernetes

GROUP, NAMESPACE = os.environ["GROUP"], os.environ["NAMESPACE"]
kubernetes.config.load_incluster_config()
leases = kubernetes.client.CoordinationV1Api()


@kopf.on.startup()
def configure(settings, **_):
    settings.scanning.disabled = True
    lease = {
        "metadata": {"name": "manager"},
        "spec": {"holderIdentity": socket.gethostname(), "leaseDurationSeconds": 15},
    }
    leases.create_namespaced_lease(NAMESPACE, lease)


@kopf.on.create(GROUP, "v1", "widgets")
def create(name, namespace, spec, **_):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    leases.patch_namespaced_lease("manager", namespace, {"spec": {"renewTime": now}})
    child = {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": f"{name}-copy"}, "data": {"size": spec["size"]},
    }
    kopf.adopt(child)
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, child)
    return "created"
"""


async def test_an_operator_on_kopf_watches_a_crd_and_creates_children_at_home(
    home: rest.Api,
    foreign: rest.Api,
    workspace: Workspace,
    node: str,
    clusters: pair.Clusters,
    start_farlet: StartFarlet,
) -> None:
    group = f"{secrets.token_hex(3)}.example.com"
    widgets = f"{group}/v1/widgets"
    crd = {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }
    await home.create(CRDS, crd)
    await home.until(CRDS, _established, name=f"widgets.{group}")
    try:
        verbs = ["get", "list", "watch", "patch"]
        rule = {"apiGroups": [group], "resources": ["widgets"], "verbs": verbs}
        await _allow(home, workspace, [*CORE_RULES, rule])
        body = {"metadata": {"name": "operator"}, "data": {"operator.py": OPERATOR}}
        await home.create("configmaps", body, namespace=workspace.home)
        await start_farlet(node, settings=realpods.AS_REAL)
        main = realpods.container(
            "main", "python3", "-m", "kopf", "run", "--standalone", f"--namespace={workspace.home}",
            "/app/operator.py",
            env=[{"name": "GROUP", "value": group}, {"name": "NAMESPACE", "value": workspace.home}],
            volumeMounts=[{"name": "app", "mountPath": "/app"}],
        )  # fmt: skip
        volumes = [{"name": "app", "configMap": {"name": "operator"}}]
        await _start(home, workspace, node, main, volumes=volumes)
        widget = {
            "apiVersion": f"{group}/v1",
            "kind": "Widget",
            "metadata": {"name": "one"},
            "spec": {"size": "big"},
        }
        made = await home.create(widgets, widget, namespace=workspace.home)

        copy = await home.until(
            "configmaps", rest.exists, name="one-copy", namespace=workspace.home, seconds=180
        )
        lease = await home.get(LEASES, name=LEASE, namespace=workspace.home)
        assert copy["data"] == {"size": "big"}
        assert [owner["uid"] for owner in copy["metadata"]["ownerReferences"]] == [
            made["metadata"]["uid"]
        ]
        assert lease["spec"]["holderIdentity"] == "manager-pod"
        await home.until(widgets, _handled, name="one", namespace=workspace.home)
        assert (
            await foreign.find("configmaps", name="one-copy", namespace=workspace.foreign) is None
        )
    finally:
        await home.delete(CRDS, name=f"widgets.{group}")


async def test_a_controller_on_client_go_leads_at_home_and_hands_over_when_it_ends(
    home: rest.Api,
    workspace: Workspace,
    node: str,
    clusters: pair.Clusters,
    start_farlet: StartFarlet,
) -> None:
    await _allow(home, workspace, CORE_RULES)
    await start_farlet(node, settings=realpods.AS_REAL)
    main = realpods.container("main", "client-go", "manage")
    await _start(home, workspace, node, main)
    await Kubectl.of(clusters.home, workspace.home).until_printed("manager-pod", "leading")
    source = {
        "metadata": {"name": "one", "labels": {"client-go/wants-copy": "yes"}},
        "data": {"size": "big"},
    }
    await home.create("configmaps", source, namespace=workspace.home)

    copy = await home.until("configmaps", rest.exists, name="one-copy", namespace=workspace.home)
    lease = await home.get(LEASES, name=LEASE, namespace=workspace.home)
    assert copy["data"] == {"size": "big"}
    assert lease["spec"]["holderIdentity"] == "manager-pod"

    await home.delete("pods", name="manager-pod", namespace=workspace.home)
    await home.until(LEASES, _released, name=LEASE, namespace=workspace.home)


async def _allow(home: rest.Api, workspace: Workspace, rules: list[rest.Object]) -> None:
    """Grant the namespace's default account these rules, at home only."""
    metadata = {"name": "manager"}
    await home.create("roles", {"metadata": metadata, "rules": rules}, namespace=workspace.home)
    await home.create(
        "rolebindings",
        {
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "manager",
            },
            "subjects": [
                {"kind": "ServiceAccount", "name": "default", "namespace": workspace.home}
            ],
        },
        namespace=workspace.home,
    )


async def _start(
    home: rest.Api, workspace: Workspace, node: str, main: rest.Object, **spec: Any
) -> None:
    selector = {kwok.LABEL: "real", "kubernetes.io/hostname": node}
    pod = realpods.pod(
        "manager-pod",
        containers=[main],
        nodeSelector=selector,
        terminationGracePeriodSeconds=20,
        **spec,
    )
    await home.create("pods", pod, namespace=workspace.home)


def _established(crd: rest.Object | None) -> bool:
    conditions = (crd or {}).get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _handled(widget: rest.Object | None) -> bool:
    """Kopf has written the handler's result."""
    return widget is not None and widget.get("status", {}).get("create") == "created"


def _released(lease: rest.Object | None) -> bool:
    return lease is not None and not lease["spec"].get("holderIdentity")
