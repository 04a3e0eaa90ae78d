"""`farlet render` of a workload shows the pod of its template."""

import json
from typing import Any

import pytest

from farlet.cli import manifest

SPEC = {"containers": [{"name": "app", "image": "x"}]}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": SPEC}
CLAIMS = [{"metadata": {"name": "data"}}]
DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}
CACHE = {"name": "cache", "emptyDir": {}}
SHADOWED = {"name": "data", "emptyDir": {}}


def _workload(kind: str, spec: dict[str, Any], group: str = "apps") -> str:
    metadata = {"name": "web", "namespace": "shop", "uid": "u"}
    return json.dumps(
        {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": spec}
    )


GENERATED = {"labels": {"app": "web"}, "namespace": "shop", "generateName": "web-"}
OWNER = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "controller": True}


@pytest.mark.parametrize(
    ("text", "metadata", "spec"),
    [
        pytest.param(_workload("Deployment", {"template": TEMPLATE}), GENERATED, SPEC, id="deploy"),
        pytest.param(_workload("ReplicaSet", {"template": TEMPLATE}), GENERATED, SPEC, id="rs"),
        pytest.param(_workload("Job", {"template": TEMPLATE}, "batch"), GENERATED, SPEC, id="job"),
        pytest.param(
            _workload("CronJob", {"jobTemplate": {"spec": {"template": TEMPLATE}}}, "batch"),
            GENERATED,
            SPEC,
            id="cron job",
        ),
        pytest.param(
            _workload("DaemonSet", {"template": TEMPLATE}),
            {**GENERATED, "ownerReferences": [OWNER]},
            SPEC,
            id="daemon set, by which farlet refuses it",
        ),
        pytest.param(
            _workload(
                "StatefulSet",
                {
                    "template": {"spec": {**SPEC, "volumes": [CACHE, SHADOWED]}},
                    "volumeClaimTemplates": CLAIMS,
                },
            ),
            {"namespace": "shop", "name": "web-0"},
            {**SPEC, "volumes": [DATA, CACHE]},
            id="stateful set with claims",
        ),
    ],
)
def test_a_workload_is_read_as_the_pod_of_its_template(
    text: str, metadata: dict[str, Any], spec: dict[str, Any]
) -> None:
    read = manifest.read(text, source="f")
    assert (read["metadata"], read["spec"]) == (metadata, spec)
    assert manifest.is_bare(read)
