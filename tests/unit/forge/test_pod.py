"""The mirror's metadata, the field table, and the time that forging takes."""

import json
from typing import Any

import pytest

import pods
from farlet import access
from farlet.access.changes import Change, ChangeKind
from farlet.constants import Reason
from farlet.context import Context, NamespaceMap
from farlet.errors import Refused
from farlet.forge import fields
from farlet.forge import pod as forge
from farlet.k8s_types import OwnerReference, Pod

HOME = access.load_strategies()["home"]
ANCHOR: OwnerReference = {"apiVersion": "v1", "kind": "Namespace", "name": "a", "uid": "b"}


def _forge(pod: Pod, ctx: Context | None = None, **given: Any) -> forge.Forged:
    usual: dict[str, Any] = {"anchor": ANCHOR, "token_times": {}, "restarts": {}}
    return forge.forge_mirror(pod, strategy=HOME, ctx=ctx or pods.context(), **{**usual, **given})


def _change(forged: forge.Forged, path: str) -> Change | None:
    return next((change for change in forged.changes if change.path == path), None)


def test_a_mirror_has_the_name_of_its_pod_and_identifies_it() -> None:
    metadata = _forge(pods.pod(annotations={"team": "a"})).pod["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("web", "shop-home")
    assert metadata["labels"] == {
        "app": "web",
        "farlet.io/virtual-node-id": pods.context().virtual_node_id,
        "farlet.io/access-mode": "home",
    }
    assert metadata["annotations"] == {
        "team": "a",
        "farlet.io/applied": metadata["annotations"]["farlet.io/applied"],
        "farlet.io/home-namespace": "shop",
        "farlet.io/home-name": "web",
        "farlet.io/home-uid": pods.UID,
        "farlet.io/home-node": "far",
        "farlet.io/home-service-account": "default",
        "farlet.io/api-access": "home",
        "farlet.io/home-api": "192.0.2.10:443",
    }
    assert metadata["ownerReferences"] == [ANCHOR]


def test_token_times_and_restarts_are_json_in_annotations() -> None:
    forged = _forge(pods.pod(), token_times={"token": (1.5, 2.0)}, restarts={"app": 3})
    annotations = forged.pod["metadata"]["annotations"]
    assert json.loads(annotations["farlet.io/tokens"]) == {"token": [1.5, 2.0]}
    assert json.loads(annotations["farlet.io/restarts"]) == {"app": 3}


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [
        ({}, None),
        ({"restartPolicy": "Always"}, None),
        ({"restartPolicy": "Never"}, ["farlet.io/observed"]),
        ({"restartPolicy": "OnFailure"}, ["farlet.io/observed"]),
        ({"containers": [pods.container(restartPolicy="Always")]}, None),
        ({"containers": [pods.container(restartPolicy="Never")]}, ["farlet.io/observed"]),
        ({"initContainers": [pods.container("a", restartPolicy="Never")]}, None),
    ],
)
def test_only_pods_that_can_end_have_the_finalizer(
    policy: dict[str, Any], finalizers: list[str] | None
) -> None:
    assert _forge(pods.pod(**policy)).pod["metadata"].get("finalizers") == finalizers


def test_a_mirror_without_anchor_has_no_owner() -> None:
    assert "ownerReferences" not in _forge(pods.pod(), anchor=None).pod["metadata"]


@pytest.mark.parametrize(
    ("key", "reported"),
    [
        pytest.param("farlet.io/home-uid", True, id="users cannot set farlet's annotations"),
        pytest.param("farlet.io/anything", True, id="nor any other of its prefix"),
        pytest.param(
            "farlet.io/foreign-pod-ip", False, id="farlet's own on the home pod is not reported"
        ),
        pytest.param("kubernetes.io/config.mirror", True, id="annotations of static pods"),
        pytest.param("kubectl.kubernetes.io/last-applied-configuration", False, id="last applied"),
    ],
)
def test_annotations_that_are_dropped(key: str, reported: bool) -> None:
    forged = _forge(pods.pod(annotations={key: "x"}))
    assert forged.pod["metadata"]["annotations"].get(key) != "x"
    change = _change(forged, f"metadata.annotations[{key}]")
    assert (change is not None and not change.routine) is reported


@pytest.mark.parametrize(
    "key", ["liqo.io/api-server-support", "kubectl.kubernetes.io/restartedAt", "x.farlet.io/y"]
)
def test_annotations_that_are_copied(key: str) -> None:
    assert _forge(pods.pod(annotations={key: "home"})).pod["metadata"]["annotations"][key] == "home"


def test_a_list_of_prefixes_replaces_the_default() -> None:
    pod = pods.pod(annotations={"sidecar.istio.io/inject": "true", "mine.example/x": "y"})
    pod["metadata"]["labels"] = {"sidecar.istio.io/inject": "true", "mine.example/x": "y"}
    ctx = pods.context(keep_labels=("mine.example/",), keep_annotations=())
    metadata = _forge(pod, ctx).pod["metadata"]
    assert metadata["labels"].get("sidecar.istio.io/inject") == "true"
    assert "mine.example/x" not in metadata["labels"]
    assert metadata["annotations"]["mine.example/x"] == "y"
    assert metadata["annotations"]["sidecar.istio.io/inject"] == "true"


@pytest.mark.parametrize("mode", ["home", "disabled", "remote"])
def test_zone_and_region_of_the_home_node_stay_at_home(mode: str) -> None:
    zone = {"topology.kubernetes.io/zone": "home-1", "topology.kubernetes.io/region": "home"}
    pod = pods.pod()
    pod["metadata"]["labels"] = {**zone, "topology.kubernetes.io/rack": "7"}
    forged = forge.forge_mirror(
        pod,
        strategy=access.load_strategies()[mode],
        ctx=pods.context(),
        anchor=ANCHOR,
        token_times={},
        restarts={},
    )
    labels = forged.pod["metadata"]["labels"]
    assert labels["topology.kubernetes.io/rack"] == "7"
    assert zone.keys() & labels.keys() == set()


def test_users_cannot_set_farlets_labels() -> None:
    pod = pods.pod()
    pod["metadata"]["labels"] = {
        "farlet.io/virtual-node-id": "stolen",
        "farlet.io/access-mode": "disabled",
        "farlet.io/x": "y",
    }
    forged = _forge(pod)
    assert forged.pod["metadata"]["labels"] == {
        "farlet.io/virtual-node-id": pods.context().virtual_node_id,
        "farlet.io/access-mode": "home",
    }
    assert _change(forged, "metadata.labels[farlet.io/x]") is not None


@pytest.mark.parametrize(
    "namespaces",
    [
        pytest.param(NamespaceMap(home="home", own="farlet", template=None), id="only pairs"),
        pytest.param(NamespaceMap(home="home", own="shop-home"), id="farlet's own namespace"),
    ],
)
def test_a_namespace_that_is_not_offloaded_is_refused(namespaces: NamespaceMap) -> None:
    with pytest.raises(Refused, match="--namespace-map=shop=") as caught:
        _forge(pods.pod(), pods.context(namespaces=namespaces))
    assert caught.value.reason is Reason.NAMESPACE_NOT_OFFLOADED


FILLED_BY_SERVER = {
    "nodeName": "far",
    "priority": 1000,
    "preemptionPolicy": "PreemptLowerPriority",
    "overhead": {"cpu": "1"},
    "serviceAccount": "default",
    "ephemeralContainers": [{"name": "debug"}],
    "schedulerName": "default-scheduler",
}
SET_BY_USER = {
    "schedulerName": "batch",
    "schedulingGates": [{"name": "wait"}],
    "schedulingGroup": {"podGroupName": "g"},
    "workloadRef": {"name": "w", "podGroup": "g"},
    "evictionResponders": [{"name": "example.com/r", "priority": 1}],
    "readinessGates": [{"conditionType": "example.com/x"}],
}


@pytest.mark.parametrize(
    ("field", "value", "routine"),
    [
        *(pytest.param(f, v, True, id=f"{f}, filled in") for f, v in FILLED_BY_SERVER.items()),
        *(pytest.param(f, v, False, id=f"{f}, set by a user") for f, v in SET_BY_USER.items()),
    ],
)
def test_a_field_that_is_dropped_is_reported(field: str, value: object, routine: bool) -> None:
    spec: dict[str, Any] = {field: value}
    forged = _forge(pods.pod(**spec))
    change = _change(forged, f"spec.{field}")
    assert field not in forged.pod["spec"]
    assert change is not None
    assert (change.kind, change.routine) == (ChangeKind.DROPPED, routine)


COPIED = [name for name, field in fields.FIELDS.items() if field.rule is fields.Rule.COPIED]


@pytest.mark.parametrize("field", COPIED)
def test_a_field_that_is_copied_is_the_same_object(field: str) -> None:
    value: Any = [{"name": "thing"}] if field == "imagePullSecrets" else {"any": "thing"}
    forged = _forge(pods.pod(**{field: value}))
    spec: Any = forged.pod["spec"]
    assert spec[field] is value
    assert _change(forged, f"spec.{field}") is None


def test_a_newer_field_is_copied_and_reported() -> None:
    forged = _forge(pods.pod(starboard={"port": "left"}))
    spec: Any = forged.pod["spec"]
    assert spec["starboard"] == {"port": "left"}
    assert forged.unknown_fields == ("starboard",)


def test_every_row_has_a_reason() -> None:
    assert all(field.why for field in fields.FIELDS.values())
    assert all(
        (field.rewrite is not None) is (field.rule in (fields.Rule.REWRITTEN, fields.Rule.REPORTED))
        for field in fields.FIELDS.values()
    )
