"""The Pod that a workload controller creates from its template, for `farlet render`. Pure."""

from __future__ import annotations

from typing import Any

from farlet.constants import JSON

KINDS = {
    ("apps/v1", "Deployment"): ("template",),
    ("apps/v1", "ReplicaSet"): ("template",),
    ("apps/v1", "StatefulSet"): ("template",),
    ("apps/v1", "DaemonSet"): ("template",),
    ("batch/v1", "Job"): ("template",),
    ("batch/v1", "CronJob"): ("jobTemplate", "spec", "template"),
}
"""Where below `spec` the template of each kind is."""


def pod(workload: JSON) -> JSON | None:
    """The first Pod of a workload; `None` for any other object.

    A template that is missing or has a wrong type becomes a Pod without that part, which
    `manifest.read` reports.
    """
    path = KINDS.get((str(workload.get("apiVersion")), str(workload.get("kind"))))
    if path is None:
        return None
    spec = _mapping(workload.get("spec"))
    template: JSON = spec
    for key in path:
        template = _mapping(template.get(key))
    own = _mapping(workload.get("metadata"))
    metadata = {**_mapping(template.get("metadata"))}
    name = own.get("name")
    made: JSON = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    if "spec" in template:
        made["spec"] = template["spec"]
    if "namespace" in own:
        metadata["namespace"] = own["namespace"]
    if workload["kind"] == "StatefulSet":
        metadata["name"] = f"{name}-0"
        _add_claims(made, spec, f"{name}-0")
    else:
        metadata["generateName"] = f"{name}-"
    if workload["kind"] == "DaemonSet":  # by which farlet decides whether it may run
        owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "controller": True}
        metadata["ownerReferences"] = [owner]
    return made


def _add_claims(made: JSON, spec: JSON, name: str) -> None:
    """As `updateStorage` in `pkg/controller/statefulset/stateful_set_utils.go`."""
    templates = spec.get("volumeClaimTemplates")
    if not isinstance(templates, list) or not isinstance(made.get("spec"), dict):
        return
    claims = [
        {"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}"}}
        for claim in (_mapping(_mapping(one).get("metadata")).get("name") for one in templates)
    ]
    replaced = {one["name"] for one in claims}
    volumes = made["spec"].get("volumes") or []
    kept = [one for one in volumes if _mapping(one).get("name") not in replaced]
    made["spec"] = {**made["spec"], "volumes": [*claims, *kept]}


def _mapping(value: Any) -> JSON:
    return value if isinstance(value, dict) else {}
