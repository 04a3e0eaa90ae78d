"""The two tables contain every field of Kubernetes, and the code follows them."""

import pytest
from kubernetes_asyncio import client

from farlet.forge import desired_status, status_fields
from farlet.forge.status_fields import Rule

POD_STATUS_1_37 = {
    "allocatedResources", "conditions", "containerStatuses", "ephemeralContainerStatuses",
    "extendedResourceClaimStatus", "hostIP", "hostIPs", "initContainerStatuses", "message",
    "nodeAllocatableResourceClaimStatuses", "nominatedNodeName", "observedGeneration", "phase",
    "podIP", "podIPs", "qosClass", "reason", "resize", "resourceClaimStatuses", "resources",
    "startTime", "volumeHealth",
}  # fmt: skip
CONTAINER_STATUS_1_37 = {
    "allocatedResources", "allocatedResourcesStatus", "containerID", "image", "imageID",
    "lastState", "name", "ready", "resources", "restartCount", "started", "state", "stopSignal",
    "user", "volumeMounts",
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "fields", "model"),
    [
        pytest.param(status_fields.POD_STATUS, POD_STATUS_1_37, client.V1PodStatus, id="pod"),
        pytest.param(
            status_fields.CONTAINER_STATUS,
            CONTAINER_STATUS_1_37,
            client.V1ContainerStatus,
            id="container",
        ),
    ],
)
def test_every_field_has_a_row_with_a_reason(
    table: dict[str, status_fields.Field], fields: set[str], model: type
) -> None:
    assert set(table) == fields
    assert set(model.attribute_map.values()) <= fields  # type: ignore[attr-defined]
    assert all(row.why for row in table.values())


def test_dropped_fields_are_never_written() -> None:
    dropped = {k for k, v in status_fields.POD_STATUS.items() if v.rule is Rule.DROPPED}
    assert {
        "qosClass",
        "resourceClaimStatuses",
        "nominatedNodeName",
    } <= dropped
    assert dropped.isdisjoint(desired_status.WRITTEN)
    assert dropped | set(desired_status.WRITTEN) == POD_STATUS_1_37
