"""Read a home Pod from a file, and complete it as the home API server would.

The input is a Pod as an API server returned it (it has a uid), or a bare manifest. A bare manifest
gets what every home API server adds and what matters for the mirror pod: the namespace, the
ServiceAccount, and the token volume of ServiceAccount admission. Values that only that server knows
become `RESOLVED`, which is not valid in any field and so cannot be mistaken for a real value.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, cast

import yaml

from farlet import names
from farlet.access.changes import Change, ChangeLog
from farlet.cli import workloads
from farlet.constants import API_ACCESS_MOUNT, JSON, KUBE_ROOT_CA
from farlet.errors import UsageError
from farlet.k8s_types import NamespacedMeta, Pod, Volume
from farlet.settings import yaml_files

RESOLVED = "<resolved at run time>"

_TOKEN_VOLUME = "kube-api-access-"  # noqa: S105

_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(
        r"[-+]?(0|[1-9][0-9_]*|0[0-7_]+|0o[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)$"
    ),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
    ),
}
_TAGS = {*_NUMBERS, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}
"""Tags of plain values that kubectl reads differently from PyYAML."""


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it (`resolve` in `go.yaml.in/yaml/v2`): times, also such as `20:30`,
    and `=` are strings."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))


def read(text: str, *, source: str) -> Pod:
    """The one Pod in `text` (YAML or JSON), or the first Pod of the one workload in it.

    Raises `UsageError` with `source` and the fault.
    """
    try:
        documents = [d for d in yaml.load_all(text, Loader=_Loader) if d is not None]
    except yaml_files.FAILURES as err:
        fault = yaml_files.fault(err)
        raise UsageError(f"{source} is not valid YAML or JSON: {fault}") from err
    if not documents:
        raise UsageError(f"{source} is empty; expected one Pod as YAML or JSON")
    if len(documents) > 1:
        raise UsageError(f"{source} contains {len(documents)} documents; expected one Pod")
    document = documents[0]
    if not isinstance(document, dict):
        raise UsageError(
            f"{source} contains a {type(document).__name__}, not an object; expected one Pod"
        )
    document = _without_nulls(document)
    document = workloads.pod(document) or document
    version, kind = document.get("apiVersion"), document.get("kind")
    if (version, kind) != ("v1", "Pod"):
        raise UsageError(
            f"{source} contains {kind or 'an object without kind'} ({version or 'no apiVersion'}), "
            f"not a Pod (v1) or {', '.join(kind for _, kind in workloads.KINDS)}. For a List or "
            "another kind of workload, use one of its Pods: kubectl get pod NAME -o yaml"
        )
    for fault in _faults(document):
        raise UsageError(f"{source}: {fault}")
    return cast("Pod", document)


def is_bare(pod: Pod) -> bool:
    """Whether no API server has created it yet."""
    return "uid" not in pod["metadata"]


@contextlib.contextmanager
def trusted(pod: Pod, *, source: str) -> Iterator[None]:
    """The forge trusts that an API server has validated the Pod; none has seen a bare one.

    Raises `UsageError` if that is what fails.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        if not is_bare(pod):
            raise
        raise UsageError(
            f"{source}: a key is missing, or a value has another type than its field. kubectl "
            "create --dry-run=server -f FILE names it"
        ) from err


def complete(pod: Pod, *, namespace: str, node: str | None) -> tuple[Pod, tuple[Change, ...]]:
    """A copy of `pod` with all that the forge requires, and what was added to a bare one.

    `namespace` and `node` apply where the Pod has none.
    """
    metadata: JSON = {**pod["metadata"]}
    spec = pod["spec"].copy()
    if "name" not in metadata:
        metadata["name"] = f"{metadata.get('generateName', '')}{RESOLVED}"
    metadata.setdefault("namespace", namespace)
    if is_bare(pod):
        metadata |= {"uid": RESOLVED, "creationTimestamp": RESOLVED}
    spec.setdefault("nodeName", node or RESOLVED)
    completed: Pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": cast("NamespacedMeta", metadata),
        "spec": spec,
    }
    changes = ChangeLog()
    if not is_bare(pod):
        return completed, tuple(changes)
    alias = cast("JSON", spec).get("serviceAccount")
    if alias and not spec.get("serviceAccountName"):
        # `Convert_v1_PodSpec_To_core_PodSpec` in `pkg/apis/core/v1/conversion.go`.
        spec["serviceAccountName"] = alias
    spec["serviceAccountName"] = names.service_account(spec)
    if volumes := spec.get("volumes"):
        # `SetDefaults_Volume` in `pkg/apis/core/v1/defaults.go`.
        spec["volumes"] = [v if len(v) > 1 else {**v, "emptyDir": {}} for v in volumes]
    if spec.get("automountServiceAccountToken") is not False:
        _mount_token(cast("JSON", spec), changes)
    return completed, tuple(changes)


def _mount_token(spec: JSON, changes: ChangeLog) -> None:
    """Change `spec` as `mountServiceAccountToken` of ServiceAccount admission does."""
    volumes: list[Volume] = spec.get("volumes") or []
    name = next((v["name"] for v in volumes if v["name"].startswith(_TOKEN_VOLUME)), None)
    mount = {
        "name": name or f"{_TOKEN_VOLUME}{RESOLVED}",
        "mountPath": API_ACCESS_MOUNT,
        "readOnly": True,
    }
    why = (
        "the home API server adds it, unless the ServiceAccount "
        f"{spec['serviceAccountName']} has automountServiceAccountToken: false"
    )
    mounted = False
    for field in ("initContainers", "containers"):
        containers = []
        for container in spec.get(field) or ():
            mounts = container.get("volumeMounts") or []
            if any(m["mountPath"] == API_ACCESS_MOUNT for m in mounts):
                containers.append(container)
                continue
            mounted = True
            containers.append({**container, "volumeMounts": [*mounts, mount]})
        if containers:
            spec[field] = containers
    if mounted and name is None:
        spec["volumes"] = [*volumes, {"name": mount["name"], "projected": _token_volume()}]
    if mounted:
        changes.added(f"spec.volumes[{mount['name']}]", why)


def _token_volume() -> JSON:
    """`TokenVolumeSource` in `plugin/pkg/admission/serviceaccount/admission.go`."""
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": KUBE_ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ],
    }


def _without_nulls(value: Any) -> Any:
    """Null is absent, as for API servers."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _faults(document: JSON) -> Iterator[str]:
    """Faults that would make the forge fail; API servers validate the rest."""
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, dict):
        yield "metadata is missing or not a mapping"
        return
    if not any(isinstance(metadata.get(key), str) for key in ("name", "generateName")):
        yield "metadata has neither name nor generateName; add one"
    for field in ("labels", "annotations"):
        found = metadata.get(field) or {}
        if not isinstance(found, dict):
            yield f"metadata.{field} is not a mapping"
            return
        for key, value in found.items():
            if not isinstance(value, str):
                yield f"metadata.{field}[{key}] is {value!r}, not a string; quote it"
    if not isinstance(spec, dict):
        yield "spec is missing or not a mapping"
        return
    if not spec.get("containers"):
        yield "spec.containers is missing or empty"
    yield from _empty_items(spec, "spec")
    yield from _list_faults(spec, "spec", "volumes", ("name",))
    for field in ("containers", "initContainers", "ephemeralContainers"):
        yield from _list_faults(spec, "spec", field, ("name",))
        for index, container in enumerate(spec.get(field) or ()):
            path = f"spec.{field}[{index}]"
            yield from _list_faults(container, path, "volumeMounts", ("name", "mountPath"))
            yield from _list_faults(container, path, "env", ("name",))
            for entry in container.get("env") or ():
                if not isinstance(entry.get("value", ""), str):
                    value = entry["value"]
                    yield f"{path}.env[{entry['name']}] is {value!r}, not a string; quote it"


def _empty_items(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _empty_items(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if item is None:
                yield f"{path}[{index}] is null; remove it"
            yield from _empty_items(item, f"{path}[{index}]")


def _list_faults(parent: Any, path: str, field: str, required: tuple[str, ...]) -> Iterator[str]:
    rows = parent.get(field) or []
    if not isinstance(rows, list):
        yield f"{path}.{field} is not a list"
        return
    for index, row in enumerate(rows):
        for key in required:
            if not isinstance(row, dict) or not isinstance(row.get(key), str):
                yield f"{path}.{field}[{index}] has no {key}"
                return
