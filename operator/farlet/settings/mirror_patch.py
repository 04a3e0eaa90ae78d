"""The value of `--mirror-patch`: fields of a Pod, in a YAML file or in the file of `--config`.

Example::

    labels: {team.example.com/offloaded: "true"}
    nodeSelector: {pool: guests}
    tolerations: [{key: guests, operator: Exists, effect: NoSchedule}]
    runtimeClassName: gvisor
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from farlet.constants import JSON
from farlet.context import MirrorPatch
from farlet.settings import values, yaml_files
from farlet.settings.yaml_files import Labels, StrictModel


class _Toleration(StrictModel):
    key: str | None = None
    operator: Literal["Exists", "Equal", "Lt", "Gt"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: int | None = None  # noqa: N815


class _NodeSelector(StrictModel):
    nodeSelectorTerms: list[JSON] = Field(min_length=1)  # noqa: N815


class _NodeAffinity(StrictModel):
    requiredDuringSchedulingIgnoredDuringExecution: _NodeSelector | None = None  # noqa: N815
    preferredDuringSchedulingIgnoredDuringExecution: list[JSON] | None = None  # noqa: N815


class _PodAffinity(StrictModel):
    requiredDuringSchedulingIgnoredDuringExecution: list[JSON] | None = None  # noqa: N815
    preferredDuringSchedulingIgnoredDuringExecution: list[JSON] | None = None  # noqa: N815


class _Affinity(StrictModel):
    nodeAffinity: _NodeAffinity | None = None  # noqa: N815
    podAffinity: _PodAffinity | None = None  # noqa: N815
    podAntiAffinity: _PodAffinity | None = None  # noqa: N815


class _Patch(StrictModel):
    labels: Labels = Field(default_factory=dict)
    nodeSelector: Labels = Field(default_factory=dict)  # noqa: N815
    tolerations: list[_Toleration] = Field(default_factory=list)
    affinity: _Affinity | None = None
    runtimeClassName: Annotated[str, BeforeValidator(values.dns_name)] | None = None  # noqa: N815


def read(value: object) -> MirrorPatch:
    """A patch, the path of a file that contains one, or its mapping. Raises `ValueError`."""
    if isinstance(value, MirrorPatch):
        return value
    patch = yaml_files.read(value, _Patch, what="a mirror patch")
    return MirrorPatch(
        labels=patch.labels,
        node_selector=patch.nodeSelector,
        tolerations=tuple(one.model_dump(exclude_none=True) for one in patch.tolerations),
        affinity=None if patch.affinity is None else patch.affinity.model_dump(exclude_none=True),
        runtime_class_name=patch.runtimeClassName,
    )
