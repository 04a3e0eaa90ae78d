"""Operators in the foreign cluster that work on the home cluster, unchanged: Kopf and client-go."""

import secrets
from typing import Any

import pytest

from clusters import kwok, rest
from clusters.kubectl import Kubectl
from conftest import StartFarlet
from faults.environment import Environment
from integration import realpods

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
    env: Environment, start_farlet: StartFarlet
) -> None:
    namespace = env.workspace.home
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
    await env.home.create(CRDS, crd)
    await env.home.until(CRDS, _established, name=f"widgets.{group}")
    try:
        verbs = ["get", "list", "watch", "patch"]
        rule = {"apiGroups": [group], "resources": ["widgets"], "verbs": verbs}
        await _allow(env, [*CORE_RULES, rule])
        body = {"metadata": {"name": "operator"}, "data": {"operator.py": OPERATOR}}
        await env.home.create("configmaps", body, namespace=namespace)
        await start_farlet(env.node, settings=realpods.AS_REAL)
        main = realpods.container(
            "main", "python3", "-m", "kopf", "run", "--standalone", f"--namespace={namespace}",
            "/app/operator.py",
            env=[{"name": "GROUP", "value": group}, {"name": "NAMESPACE", "value": namespace}],
            volumeMounts=[{"name": "app", "mountPath": "/app"}],
        )  # fmt: skip
        volumes = [{"name": "app", "configMap": {"name": "operator"}}]
        await _start(env, main, volumes=volumes)
        widget = {
            "apiVersion": f"{group}/v1",
            "kind": "Widget",
            "metadata": {"name": "one"},
            "spec": {"size": "big"},
        }
        made = await env.home.create(widgets, widget, namespace=namespace)

        copy = await env.home.until(
            "configmaps", rest.exists, name="one-copy", namespace=namespace, seconds=180
        )
        lease = await env.home.get(LEASES, name=LEASE, namespace=namespace)
        assert copy["data"] == {"size": "big"}
        assert [owner["uid"] for owner in copy["metadata"]["ownerReferences"]] == [
            made["metadata"]["uid"]
        ]
        assert lease["spec"]["holderIdentity"] == "manager-pod"
        await env.home.until(widgets, _handled, name="one", namespace=namespace)
        assert (
            await env.foreign.find("configmaps", name="one-copy", namespace=env.workspace.foreign)
            is None
        )
    finally:
        await env.home.delete(CRDS, name=f"widgets.{group}")


async def test_a_controller_on_client_go_leads_at_home_and_hands_over_when_it_ends(
    env: Environment, start_farlet: StartFarlet
) -> None:
    await _allow(env, CORE_RULES)
    await start_farlet(env.node, settings=realpods.AS_REAL)
    main = realpods.container("main", "client-go", "manage")
    await _start(env, main)
    await Kubectl.of(env.clusters.home, env.workspace.home).until_printed("manager-pod", "leading")
    source = {
        "metadata": {"name": "one", "labels": {"client-go/wants-copy": "yes"}},
        "data": {"size": "big"},
    }
    await env.home.create("configmaps", source, namespace=env.workspace.home)

    copy = await env.home.until(
        "configmaps", rest.exists, name="one-copy", namespace=env.workspace.home
    )
    lease = await env.home.get(LEASES, name=LEASE, namespace=env.workspace.home)
    assert copy["data"] == {"size": "big"}
    assert lease["spec"]["holderIdentity"] == "manager-pod"

    await env.delete("manager-pod")
    await env.home.until(LEASES, _released, name=LEASE, namespace=env.workspace.home)


async def _allow(env: Environment, rules: list[rest.Object]) -> None:
    """Grant the namespace's default account these rules, at home only."""
    metadata = {"name": "manager"}
    await env.home.create(
        "roles", {"metadata": metadata, "rules": rules}, namespace=env.workspace.home
    )
    await env.home.create(
        "rolebindings",
        {
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "manager",
            },
            "subjects": [
                {"kind": "ServiceAccount", "name": "default", "namespace": env.workspace.home}
            ],
        },
        namespace=env.workspace.home,
    )


async def _start(env: Environment, main: rest.Object, **spec: Any) -> None:
    selector = {kwok.LABEL: "real", "kubernetes.io/hostname": env.node}
    pod = realpods.pod(
        "manager-pod",
        containers=[main],
        nodeSelector=selector,
        terminationGracePeriodSeconds=20,
        **spec,
    )
    await env.create(pod)


def _established(crd: rest.Object | None) -> bool:
    conditions = (crd or {}).get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _handled(widget: rest.Object | None) -> bool:
    """Kopf has written the handler's result."""
    return widget is not None and widget.get("status", {}).get("create") == "created"


def _released(lease: rest.Object | None) -> bool:
    return lease is not None and not lease["spec"].get("holderIdentity")
