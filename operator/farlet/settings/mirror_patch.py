"""The value of `--mirror-patch`: fields of a Pod, in a YAML file or in the file of `--config`.

Example::

    labels: {team.example.com/offloaded: "true"}
    nodeSelector: {pool: guests}
    tolerations: [{key: guests, operator: Exists, effect: NoSchedule}]
    runtimeClassName: gvisor
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from farlet.constants import JSON, RESERVED
from farlet.context import MirrorPatch
from farlet.settings import node_values, values


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a mapping")
    for name, content in value.items():
        if not isinstance(content, str):
            raise ValueError(f"{name}: {content!r} is not a string; quote it")
        node_values.label(f"{name}={content}")
        if str(name).startswith(RESERVED):
            raise ValueError(f"{name}: {RESERVED} is reserved for farlet")
    return value


_Labels = Annotated[dict[str, str], BeforeValidator(_labels)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Toleration(_Model):
    key: str | None = None
    operator: Literal["Exists", "Equal", "Lt", "Gt"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: int | None = None  # noqa: N815


class _NodeSelector(_Model):
    nodeSelectorTerms: list[JSON] = Field(min_length=1)  # noqa: N815


class _NodeAffinity(_Model):
    requiredDuringSchedulingIgnoredDuringExecution: _NodeSelector | None = None  # noqa: N815
    preferredDuringSchedulingIgnoredDuringExecution: list[JSON] | None = None  # noqa: N815


class _PodAffinity(_Model):
    requiredDuringSchedulingIgnoredDuringExecution: list[JSON] | None = None  # noqa: N815
    preferredDuringSchedulingIgnoredDuringExecution: list[JSON] | None = None  # noqa: N815


class _Affinity(_Model):
    nodeAffinity: _NodeAffinity | None = None  # noqa: N815
    podAffinity: _PodAffinity | None = None  # noqa: N815
    podAntiAffinity: _PodAffinity | None = None  # noqa: N815


class _Patch(_Model):
    labels: _Labels = {}
    nodeSelector: _Labels = {}  # noqa: N815
    tolerations: list[_Toleration] = []
    affinity: _Affinity | None = None
    runtimeClassName: Annotated[str, BeforeValidator(values.dns_name)] | None = None  # noqa: N815


def read(value: object) -> MirrorPatch:
    """A patch, the path of a file that contains one, or its mapping. Raises `ValueError`."""
    if isinstance(value, MirrorPatch):
        return value
    where, given = "", value
    if isinstance(value, str | Path):
        path = values.file(value)
        where = f"{path}: "
        try:
            given = yaml.safe_load(path.read_bytes())
        except (yaml.YAMLError, UnicodeDecodeError) as err:
            raise ValueError(f"{path} is not valid YAML: {' '.join(str(err).split())}") from None
    if not isinstance(given, dict):
        raise ValueError(f"{where}expected a mapping with {', '.join(_Patch.model_fields)}")
    try:
        patch = _Patch.model_validate(given)
    except ValidationError as err:
        raise ValueError(where + "; ".join(_fault(fault) for fault in err.errors())) from None
    return MirrorPatch(
        labels=patch.labels,
        node_selector=patch.nodeSelector,
        tolerations=tuple(one.model_dump(exclude_none=True) for one in patch.tolerations),
        affinity=None if patch.affinity is None else patch.affinity.model_dump(exclude_none=True),
        runtime_class_name=patch.runtimeClassName,
    )


def _fault(fault: ErrorDetails) -> str:
    path = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{path} is not a field of a mirror patch"
    return f"{path}: {fault['msg'].removeprefix('Value error, ')}"
