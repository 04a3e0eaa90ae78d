"""What a pod reads of itself: every field that the downward API knows, in every access mode.

The lists are those of `validEnvDownwardAPIFieldPathExpressions` and its neighbours in
pkg/apis/core/validation of Kubernetes.
"""

from __future__ import annotations

from typing import Any

import pytest

import pods
from farlet import access
from farlet.constants import HOME_NAMESPACE, HOME_UID
from farlet.forge import pod as forge
from farlet.k8s_types import Pod

STRATEGIES = access.load_strategies()
MODES = ("disabled", "home", "remote")
MIRROR = "the mirror's own"

VARIABLES: dict[str, str] = {
    "metadata.name": MIRROR,  # which is the home pod's name
    "metadata.namespace": "shop",
    "metadata.uid": pods.UID,
    "metadata.labels['app']": MIRROR,
    "metadata.labels['istio.io/rev']": "stable",
    "metadata.labels['topology.kubernetes.io/zone']": "home-1",
    "metadata.labels['topology.kubernetes.io/region']": "",
    "metadata.annotations['team']": MIRROR,
    "metadata.annotations['iam.amazonaws.com/role']": "reader",
    "spec.nodeName": "far",
    "spec.host": "far",
    "spec.serviceAccountName": "builder",
    "status.hostIP": MIRROR,
    "status.hostIPs": MIRROR,
    "status.podIP": MIRROR,
    "status.podIPs": MIRROR,
}
"""Field path -> what a variable has in modes `home` and `disabled`."""

FILES: dict[str, tuple[str, str]] = {
    "metadata.name": ("fieldRef", "metadata.name"),
    "metadata.namespace": ("fieldRef", f"metadata.annotations['{HOME_NAMESPACE}']"),
    "metadata.uid": ("fieldRef", f"metadata.annotations['{HOME_UID}']"),
    "metadata.labels": ("secret", "labels"),
    "metadata.annotations": ("secret", "annotations"),
    "metadata.labels['app']": ("fieldRef", "metadata.labels['app']"),
    "metadata.labels['istio.io/rev']": ("secret", "field-"),
    "metadata.labels['topology.kubernetes.io/zone']": ("secret", "field-"),
    "metadata.annotations['team']": ("fieldRef", "metadata.annotations['team']"),
    "metadata.annotations['iam.amazonaws.com/role']": ("secret", "field-"),
}
"""Field path -> where a file comes from in modes `home` and `disabled`."""

RESOURCES = [
    f"{kind}.{name}"
    for kind in ("limits", "requests")
    for name in ("cpu", "memory", "ephemeral-storage", "hugepages-2Mi")
]


def _pod(**spec: Any) -> Pod:
    pod = pods.pod(serviceAccountName="builder", **spec)
    labels = {"app": "web", "istio.io/rev": "stable", "topology.kubernetes.io/zone": "home-1"}
    pod["metadata"]["labels"] = labels
    pod["metadata"]["annotations"] = {"team": "a", "iam.amazonaws.com/role": "reader"}
    return pod


def _forge(pod: Pod, mode: str) -> Any:
    forged = forge.forge_mirror(
        pod,
        strategy=STRATEGIES[mode],
        ctx=pods.context(),
        anchor=None,
        token_times={},
        restarts={},
    )
    return forged.pod["spec"], forged.changes


@pytest.mark.parametrize("field", VARIABLES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("group", ["initContainers", "containers"])
def test_a_variable_has_the_identity_of_the_mode(field: str, mode: str, group: str) -> None:
    entry = {"name": "V", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}}
    spec, changes = _forge(_pod(**{group: [pods.container(env=[entry])]}), mode)
    variable = spec[group][0]["env"][-1]
    if mode == "remote" or VARIABLES[field] == MIRROR:
        assert variable == entry
    else:
        assert variable == {"name": "V", "value": VARIABLES[field]}
    reported = [c for c in changes if c.path.endswith("env[V]") and c.kind == "unchanged"]
    assert bool(reported) is (mode != "remote" and field.startswith("status."))
    assert all(change.routine for change in reported)


@pytest.mark.parametrize("field", FILES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["downwardAPI", "projected"])
def test_a_file_has_the_identity_of_the_mode(field: str, mode: str, kind: str) -> None:
    source: dict[str, Any] = {"items": [{"path": "f", "fieldRef": {"fieldPath": field}}]}
    volume: dict[str, Any] = {"name": "info", "downwardAPI": source}
    if kind == "projected":
        volume = {"name": "info", "projected": {"sources": [{"downwardAPI": source}]}}
    spec, _ = _forge(_pod(volumes=[volume]), mode)
    (got,) = spec["volumes"]
    if mode == "remote":
        assert got == volume
        return
    where, expected = FILES[field]
    (shown,) = got["projected"]["sources"] if "projected" in got else [got]
    if where == "secret":
        (item,) = shown["secret"]["items"]
        assert item["key"].startswith(expected)
    else:
        (item,) = shown["downwardAPI"]["items"]
        assert item["fieldRef"]["fieldPath"] == expected
    assert item["path"] == "f"


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("mode", MODES)
def test_resources_are_those_of_the_mirror_which_has_the_same(resource: str, mode: str) -> None:
    reference = {"resourceFieldRef": {"containerName": "app", "resource": resource}}
    entry = {"name": "V", "valueFrom": reference}
    volume = {"name": "info", "downwardAPI": {"items": [{"path": "r", **reference}]}}
    spec, _ = _forge(_pod(containers=[pods.container(env=[entry])], volumes=[volume]), mode)
    assert spec["containers"][0]["env"][-1] == entry
    assert spec["volumes"] == [volume]


@pytest.mark.parametrize("mode", ["disabled", "home"])
def test_a_sub_path_is_built_from_home_values(mode: str) -> None:
    env = [
        {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "POD", "value": "$(NS)-pod"},
    ]
    mounts = [{"name": "work", "mountPath": "/w", "subPathExpr": "$(NS)/$(POD)"}]
    container = pods.container(env=env, volumeMounts=mounts)
    spec, _ = _forge(_pod(containers=[container], volumes=[{"name": "work", "emptyDir": {}}]), mode)
    (got,) = spec["containers"]
    assert got["volumeMounts"] == mounts
    assert got["env"][-2:] == [{"name": "NS", "value": "shop"}, env[1]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("volume", "routine"),
    [
        pytest.param({"csi": {"driver": "secrets.example"}}, False, id="a driver in the pod"),
        pytest.param({"persistentVolumeClaim": {"claimName": "data"}}, True, id="a claim"),
        pytest.param({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, True, id="ephemeral"),
        pytest.param({"emptyDir": {}}, None, id="no driver"),
    ],
)
def test_what_drivers_learn_of_the_pod_is_reported(
    volume: dict[str, Any], routine: bool | None, mode: str
) -> None:
    pod = _pod(volumes=[{"name": "v", **volume}])
    mutation = STRATEGIES[mode].mutate(pod["spec"], pod, pods.context())
    found = [change for change in mutation.changes if "podInfoOnMount" in change.why]
    if mode == "remote" or routine is None:
        assert not found
    else:
        assert [change.routine for change in found] == [routine]
        assert "namespace shop-home" in found[0].why
