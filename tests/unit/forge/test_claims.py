"""Foreign claims, placeholder volumes, and the volumes of mirrors."""

import dataclasses
import re
from typing import Any, cast

import pytest

import pods
from farlet import names
from farlet.access.changes import ChangeLog
from farlet.constants import ObjectKey
from farlet.errors import Refused
from farlet.forge import claims, copies
from farlet.forge.claims import ClaimKey, ForeignClaim, HomeClaim, HomeVolume

CONTEXT = dataclasses.replace(pods.context(), storage_class_map=(("far", "fast"),))
KEY = ClaimKey("shop", "data", "uid-1")
FOREIGN = ObjectKey("shop-home", claims.foreign_name(KEY, CONTEXT))


def claim(**spec: Any) -> HomeClaim:
    """As the API server sends it."""
    return HomeClaim.of(
        cast(
            "Any",
            {
                "metadata": {
                    "namespace": "shop",
                    "name": "data",
                    "uid": "uid-1",
                    "resourceVersion": "7",
                    "labels": {"app": "db"},
                    "annotations": {claims.SELECTED_NODE: "far"},
                },
                "spec": {
                    "accessModes": ["ReadWriteOncePod"],
                    "storageClassName": "far",
                    "volumeMode": "Block",
                    "resources": {"requests": {"storage": "1Gi"}, "limits": {"storage": "2Gi"}},
                    **spec,
                },
                "status": {"phase": "Pending"},
            },
        )
    )


def test_the_foreign_claim_has_the_mapped_class_and_nothing_but_what_a_volume_needs() -> None:
    assert claims.forge_claim(claim(), CONTEXT) == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": FOREIGN.name,
            "labels": {"farlet.io/virtual-node-id": CONTEXT.virtual_node_id},
            "annotations": {
                "farlet.io/home-namespace": "shop",
                "farlet.io/home-name": "data",
                "farlet.io/home-uid": "uid-1",
            },
        },
        "spec": {
            "accessModes": ["ReadWriteOncePod"],
            "volumeMode": "Block",
            "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def test_the_placeholder_is_for_this_claim_on_this_node_and_nothing_can_mount_it() -> None:
    assert claims.forge_volume(claim(), FOREIGN, policy="Retain", ctx=CONTEXT) == {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": "farlet-uid-1",
            "labels": {"farlet.io/virtual-node-id": CONTEXT.virtual_node_id},
            "annotations": {"pv.kubernetes.io/provisioned-by": "farlet.io/foreign"},
        },
        "spec": {
            "accessModes": ["ReadWriteOncePod"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": "shop",
                "name": "data",
                "uid": "uid-1",
            },
            "csi": {"driver": "foreign.farlet.io", "volumeHandle": str(FOREIGN)},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {
                                    "key": "kubernetes.io/hostname",
                                    "operator": "In",
                                    "values": [CONTEXT.node],
                                }
                            ]
                        }
                    ]
                }
            },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "far",
            "volumeMode": "Block",
        },
    }


@pytest.mark.parametrize(
    "field",
    ["dataSource", "dataSourceRef", "selector", "volumeAttributesClassName"],
)
def test_a_claim_that_refers_to_objects_of_the_home_cluster_is_refused(field: str) -> None:
    value = "gold" if field == "volumeAttributesClassName" else {"name": "x"}
    with pytest.raises(Refused, match=field):
        claims.forge_claim(claim(**{field: value}), CONTEXT)


def test_the_name_of_the_foreign_claim_depends_on_the_uid_of_the_home_claim() -> None:
    assert re.fullmatch(r"data-[0-9a-f]{16}", FOREIGN.name)
    again = claims.foreign_name(KEY._replace(uid="uid-2"), CONTEXT)
    assert again != FOREIGN.name
    assert len(claims.foreign_name(KEY._replace(name="a" * 253), CONTEXT)) == 253


def test_only_a_foreign_claim_with_our_label_name_and_annotations_is_ours() -> None:
    obj: Any = claims.forge_claim(claim(), CONTEXT)
    obj["metadata"] |= {"uid": "f", "namespace": "shop-home"}
    found = ForeignClaim.of(obj, home="shop", ctx=CONTEXT)
    assert found is not None
    assert found.key == KEY
    assert ForeignClaim.of(obj, home="other", ctx=CONTEXT) is None
    assert ForeignClaim.of(obj, home="shop", ctx=dataclasses.replace(CONTEXT, node="x")) is None
    obj["metadata"]["annotations"]["farlet.io/home-uid"] = "uid-2"
    assert ForeignClaim.of(obj, home="shop", ctx=CONTEXT) is None


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"uid": "u" * 100_000}, id="long uid"),
        pytest.param({"uid": ""}, id="no uid"),
        pytest.param({"uid": "../nodes"}, id="path as uid"),
        pytest.param({"name": "a" * 254}, id="long name"),
        pytest.param({"name": ""}, id="no name"),
        pytest.param({"name": "a/b"}, id="path as name"),
    ],
)
def test_a_foreign_claim_with_annotations_that_farlet_does_not_write_is_not_ours(
    forged: dict[str, str],
) -> None:
    key = KEY._replace(**forged)
    obj: Any = claims.forge_claim(dataclasses.replace(claim(), key=key), CONTEXT)
    obj["metadata"] |= {"uid": "f", "namespace": "shop-home"}
    assert ForeignClaim.of(obj, home="shop", ctx=CONTEXT) is None


def test_only_a_volume_of_our_driver_and_name_is_a_placeholder() -> None:
    obj: Any = claims.forge_volume(claim(), FOREIGN, policy="Delete", ctx=CONTEXT)
    obj["metadata"]["uid"] = "v"
    found = HomeVolume.of(obj)
    assert found is not None
    assert (found.key, found.foreign) == (KEY, str(FOREIGN))
    others: list[Any] = [
        {**obj, "metadata": {**obj["metadata"], "name": "pvc-uid-1"}},
        {**obj, "spec": {**obj["spec"], "csi": {"driver": "d"}}},
        {**obj, "spec": {"nfs": {}}},
    ]
    assert [HomeVolume.of(other) for other in others] == [None, None, None]


VOLUMES = [
    {"name": "disk", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
    {"name": "tmp", "emptyDir": {}},
]


def test_the_claims_of_a_pod_include_those_of_generic_ephemeral_volumes() -> None:
    assert claims.claim_names(pods.pod(volumes=VOLUMES)) == {"data", "web-scratch"}
    assert claims.claim_names(pods.pod()) == frozenset()


def test_a_mirror_mounts_foreign_claims_in_place_of_both_kinds() -> None:
    before = pods.pod(volumes=VOLUMES)["spec"]
    names = {"data": "data-x", "web-scratch": "web-scratch-y"}
    after: Any = claims.rewritten(before, "web", names, ChangeLog())
    assert after["volumes"] == [
        {"name": "disk", "persistentVolumeClaim": {"claimName": "data-x", "readOnly": True}},
        {"name": "scratch", "persistentVolumeClaim": {"claimName": "web-scratch-y"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert cast("Any", before)["volumes"] == VOLUMES, "the home pod is unchanged"


def test_without_a_map_the_volumes_stay_as_they_are() -> None:
    before = pods.pod(volumes=VOLUMES)["spec"]
    assert claims.rewritten(before, "web", {}, ChangeLog()) is before


def test_messages_name_home_claims() -> None:
    pod = pods.pod(volumes=VOLUMES)
    text = f'persistentvolumeclaim "{FOREIGN.name}" not found. Other: other-0123456789abcdef.'
    expected = 'persistentvolumeclaim "data" not found. Other: other-0123456789abcdef.'
    assert copies.HomeNames(pod, CONTEXT)(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "larger"),
    [
        pytest.param("2Gi", "1Gi", True, id="larger"),
        pytest.param("1Gi", "1024Mi", False, id="equal in another notation"),
        pytest.param("1Gi", "2Gi", False, id="smaller"),
        pytest.param("1Gi", "", False, id="unknown"),
        pytest.param("a lot", "1Gi", False, id="not an amount"),
    ],
)
def test_amounts_are_compared_by_their_values(one: str, other: str, larger: bool) -> None:
    assert claims.is_larger(one, other) is larger


def test_the_name_of_a_placeholder_is_valid() -> None:
    assert names.volume_name("0c2f4c0e-2f2d-4d3b-8f0e-0b1f1b0a1c1d").startswith("farlet-0c2f")
