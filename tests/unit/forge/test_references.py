"""Every field by which a pod names a Secret or a ConfigMap, and Secrets that no pod can name."""

from typing import Any

import pytest

import pods
from farlet import names
from farlet.constants import Reason
from farlet.context import Allowance
from farlet.errors import Refused
from farlet.forge import guards, references

GROUPS = ("initContainers", "containers", "ephemeralContainers")
MODES = ("home", "disabled", "remote")
OWN = "farlet-11111111-2222-4333-8444-555555555555"


def _volume(kind: str, **source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", kind: source}]}


def _in_container(group: str, **fields: Any) -> dict[str, Any]:
    return {group: [pods.container("x", **fields)]}


def _secrets(name: str) -> dict[str, dict[str, Any]]:
    """Path -> a spec; the fields of `TestPodSecrets` in `pkg/api/v1/pod/util_test.go`."""
    ref = {"name": name}
    specs = {
        "spec.imagePullSecrets[0].name": {"imagePullSecrets": [ref]},
        "spec.volumes[v].azureFile.secretName": _volume("azureFile", secretName=name),
        "spec.volumes[v].csi.nodePublishSecretRef.name": _volume("csi", nodePublishSecretRef=ref),
        "spec.volumes[v].secret.secretName": _volume("secret", secretName=name),
        "spec.volumes[access].projected.sources[0].secret.name": {
            "volumes": [pods.projected({"secret": ref})]
        },
    }
    for kind in ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"):
        specs[f"spec.volumes[v].{kind}.secretRef.name"] = _volume(kind, secretRef=ref)
    for group in GROUPS:
        specs[f"spec.{group}[x].envFrom[0].secretRef.name"] = _in_container(
            group, envFrom=[{"secretRef": ref}]
        )
        specs[f"spec.{group}[x].env[E].valueFrom.secretKeyRef.name"] = _in_container(
            group, env=[{"name": "E", "valueFrom": {"secretKeyRef": {**ref, "key": "k"}}}]
        )
    return specs


def _config_maps(name: str) -> dict[str, dict[str, Any]]:
    """Path -> a spec; the fields of `TestPodConfigmaps`."""
    ref = {"name": name}
    specs = {
        "spec.volumes[v].configMap.name": _volume("configMap", **ref),
        "spec.volumes[access].projected.sources[0].configMap.name": {
            "volumes": [pods.projected({"configMap": ref})]
        },
    }
    for group in GROUPS:
        specs[f"spec.{group}[x].envFrom[0].configMapRef.name"] = _in_container(
            group, envFrom=[{"configMapRef": ref}]
        )
        specs[f"spec.{group}[x].env[E].valueFrom.configMapKeyRef.name"] = _in_container(
            group, env=[{"name": "E", "valueFrom": {"configMapKeyRef": {**ref, "key": "k"}}}]
        )
    return specs


@pytest.mark.parametrize(
    ("kind", "path", "spec"),
    [
        pytest.param(kind, path, spec, id=path)
        for kind, specs in (
            (references.Kind.SECRET, _secrets("n")),
            (references.Kind.CONFIG_MAP, _config_maps("n")),
        )
        for path, spec in specs.items()
    ],
)
def test_every_field_that_names_an_object_is_found(
    kind: references.Kind, path: str, spec: dict[str, Any]
) -> None:
    found = list(references.references(pods.pod(**spec)["spec"]))
    assert found == [references.Reference(kind, path, "n")]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"volumes": None, "imagePullSecrets": None}, id="null lists"),
        pytest.param(_volume("rbd", secretRef=None), id="a null reference"),
        pytest.param({"volumes": [{"name": "v", "projected": None}]}, id="a null volume"),
        pytest.param({"imagePullSecrets": [{"name": ""}]}, id="an empty name"),
        pytest.param(_in_container("containers", env=[{"name": "E", "value": "x"}]), id="a value"),
    ],
)
def test_absent_references_are_skipped(spec: dict[str, Any]) -> None:
    assert list(references.references(pods.pod(**spec)["spec"])) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", [p for p in _secrets("") if "ephemeral" not in p])
def test_no_pod_can_name_the_secret_of_a_mirror(path: str, mode: str) -> None:
    everything = pods.context(allow_pod_feature=frozenset(Allowance))
    with pytest.raises(Refused) as caught:
        guards.check(pods.pod(**_secrets(OWN)[path]), mode, everything)
    assert caught.value.reason is Reason.UNSUPPORTED_POD
    assert f"{path} ({OWN}) names a Secret" in caught.value.message
    assert "--allow-pod-feature" not in caught.value.message
    guards.check(pods.pod(**_secrets("farlet-settings")[path]), mode, everything)


@pytest.mark.parametrize("path", [p for p in _secrets("") if "ephemeral" in p])
def test_the_secret_of_a_mirror_in_an_ephemeral_container_is_reported(path: str) -> None:
    everything = pods.context(allow_pod_feature=frozenset(Allowance))
    pod = pods.pod(**_secrets(OWN)[path])
    guards.check(pod, "home", everything)
    [(reported, why)] = guards.refused_ephemeral(pod, everything)
    assert (reported, why.startswith("it names a Secret")) == (path, True)


def test_the_name_of_a_mirrors_secret_is_recognized() -> None:
    assert names.is_secret_name(names.secret_name(pods.UID))
    for other in ("farlet-foreign", "farlet-", f"x{OWN}", f"{OWN}-copy", f"{OWN}\n"):
        assert not names.is_secret_name(other)
