"""A small API server: applies a strategic merge patch to a pod's status, returns the new pod.

Written from k8s.io/apimachinery/pkg/util/strategicpatch and the patch strategies in k8s.io/api
core/v1, knowing nothing of farlet. Only what a status needs: lists that merge by key, lists that
are replaced, objects that merge, nulls, and the directives `replace` and `delete`.
"""

import copy
from typing import Any

MERGE_KEYS = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}


def apply(pod: Any, patch: Any) -> Any:
    """The pod as the server returns it after the patch."""
    result = copy.deepcopy(pod)
    assert patch["metadata"]["uid"] == pod["metadata"]["uid"]
    assert set(patch) <= {"metadata", "status"}
    assert set(patch["metadata"]) <= {"uid", "annotations"}
    result["metadata"] = _object(result["metadata"], patch["metadata"])
    result["status"] = _object(result.get("status", {}), patch.get("status", {}))
    return _printed(result)


def _object(old: Any, patch: Any) -> Any:
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _object(result.get(key) or {}, value)
        elif key in MERGE_KEYS:
            result[key] = _list(result.get(key) or [], value, MERGE_KEYS[key])
        else:
            result[key] = copy.deepcopy(value)
    return result


def _list(old: Any, patch: Any, key: str) -> Any:
    if any(element.get("$patch") == "replace" for element in patch):
        old = []
    result = list(old)
    for element in patch:
        directive = element.get("$patch")
        if directive == "delete":
            result = [r for r in result if r[key] != element[key]]
        elif directive is None:
            for i, present in enumerate(result):
                if present[key] == element[key]:
                    result[i] = _object(present, element)
                    break
            else:
                result.append(_object({}, element))
    return result


def _printed(pod: Any) -> Any:
    """Fields without `omitempty` are printed, empty ones with it are not."""
    status = pod["status"]
    for condition in status.get("conditions", []):
        condition.setdefault("lastProbeTime", None)
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for row in status.get(kind, []):
            for state in ("state", "lastState"):
                for name, detail in row.setdefault(state, {}).items():
                    if name == "terminated":
                        detail.setdefault("startedAt", None)
                        detail.setdefault("finishedAt", None)
    for key in [k for k, v in status.items() if v in ("", [], 0)]:
        del status[key]
    if not pod["metadata"].get("annotations"):
        pod["metadata"].pop("annotations", None)
    return pod
