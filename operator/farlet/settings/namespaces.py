"""Settings of foreign namespaces that farlet creates.

Example of a file of `--namespace-defaults`::

    labels: {team: guests}
    podSecurityLevel: restricted
    resourceQuota: {hard: {pods: "50", requests.memory: 64Gi}}
    networkPolicy: {podSelector: {}, policyTypes: [Ingress]}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from farlet.constants import JSON
from farlet.context import NewNamespaces
from farlet.forge import quantities
from farlet.forge.foreign_namespace import ENFORCE, NAME_LABEL
from farlet.settings import yaml_files
from farlet.settings.base import BaseFarletSettings
from farlet.settings.loading import Flag, Group
from farlet.settings.yaml_files import Annotations, StrictModel


def _labels(value: object) -> dict[str, str]:
    found = yaml_files.labels(value)
    if ENFORCE in found:
        raise ValueError(f"set podSecurityLevel in place of the label {ENFORCE}")
    if NAME_LABEL in found:
        raise ValueError(f"{NAME_LABEL} is a label of the API server")
    return found


def _hard(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        raise ValueError("expected a mapping of resources to quantities")
    for amount in value.values():
        quantities.parse(str(amount))
    return {str(name): str(amount) for name, amount in value.items()}


class _Quota(StrictModel):
    hard: Annotated[dict[str, str], BeforeValidator(_hard)]
    scopes: list[str] | None = None
    scopeSelector: JSON | None = None  # noqa: N815


class _Policy(StrictModel):
    podSelector: JSON  # noqa: N815
    policyTypes: list[Literal["Ingress", "Egress"]] | None = None  # noqa: N815
    ingress: list[JSON] | None = None
    egress: list[JSON] | None = None


class _Defaults(StrictModel):
    labels: Annotated[dict[str, str], BeforeValidator(_labels)] = Field(default_factory=dict)
    annotations: Annotations = Field(default_factory=dict)
    podSecurityLevel: Literal["privileged", "baseline", "restricted"] = "baseline"  # noqa: N815
    resourceQuota: _Quota | None = None  # noqa: N815
    networkPolicy: _Policy | None = None  # noqa: N815


def _read(value: object) -> NewNamespaces:
    if isinstance(value, NewNamespaces):
        return value
    found = yaml_files.read(value, _Defaults, what="the defaults of namespaces")
    quota, policy = found.resourceQuota, found.networkPolicy
    return NewNamespaces(
        labels=found.labels,
        annotations=found.annotations,
        pod_security_level=found.podSecurityLevel,
        resource_quota=None if quota is None else quota.model_dump(exclude_none=True),
        network_policy=None if policy is None else policy.model_dump(exclude_none=True),
    )


class NamespaceSettings(BaseFarletSettings):
    """Whether farlet creates foreign namespaces, and how."""

    create_namespaces: Annotated[bool, Flag(Group.NAMESPACES, "true|false")] = Field(
        False,
        description="Create the foreign namespace of an offloaded home namespace when its first "
        "pod needs it, and delete it when the home namespace is gone. Requires "
        "manifests/foreign/created-namespaces, and for the deletion "
        "manifests/home/created-namespaces.yaml.",
    )
    namespace_defaults: Annotated[
        NewNamespaces, Flag(Group.NAMESPACES, "FILE", default="none"), BeforeValidator(_read)
    ] = Field(
        NewNamespaces(),
        description="YAML file with labels, annotations, podSecurityLevel (baseline unless it is "
        "set), resourceQuota and networkPolicy of the foreign namespaces that farlet creates; "
        "docs/namespaces.md describes it.",
    )

    @model_validator(mode="after")
    def _defaults_are_used(self) -> NamespaceSettings:
        if self.namespace_defaults != NewNamespaces() and not self.create_namespaces:
            raise ValueError(
                "--namespace-defaults has no effect without --create-namespaces; set both or none"
            )
        return self
