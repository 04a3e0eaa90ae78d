"""Whether farlet accepts the settings of a VirtualNode, before a pod is changed by them.

With wrong settings the new pods would not become ready, and the rollout would stop. Here the same
checks run first, and a condition names the field.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from farlet.errors import UsageError
from farlet.manager import variables
from farlet.manager.objects import PodParameters
from farlet.manager.virtual_node import VirtualNode
from farlet.settings import Settings, loading

_OF_THE_POD = {
    "config": "the pod has no such file",
    "nodename": "it is metadata.name",
    "home_kubeconfig": "it follows from spec.identity",
    "home_context": "it follows from spec.identity",
    "foreign_kubeconfig": "set spec.foreign.kubeconfigSecret",
    "foreign_context": "the kubeconfig has a current context",
    "gateway_keys": "set spec.gateway",
    "leader_elect": "it is always on",
    "node_ip": "it is the address of the pod",
    "cert_dir": "the manager mounts one",
    "rotate_certificates": "the manager renews the certificate",
    "kubelet_port": "the NetworkPolicy opens the default port",
    "kubelet_bind_address": "the NetworkPolicy opens the default port",
    "metrics_bind_address": "the NetworkPolicy opens the default port",
    "health_probe_bind_address": "the manager reads the default port",
}
"""Settings that the manager sets itself or relies on."""


class _Given(Settings):
    """Settings from arguments alone: neither the environment nor a file of this process."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `_Given(...)` gets."""
        return (init_settings,)


def check(node: VirtualNode) -> Settings:
    """The settings, but for paths of mounted files. Raises `UsageError` naming the field."""
    given: dict[str, object] = {
        **variables.of_spec(node.spec),
        **_extra(node.spec.extra_args),
        "nodename": node.name,
        # The files exist in the pod, not here.
        "foreign_kubeconfig": variables.IN_CLUSTER,
    }
    try:
        return loading.load(_Given, given)
    except UsageError as err:
        raise UsageError(_in_terms_of_the_spec(str(err))) from None


def parameters(node: VirtualNode, checked: Settings, *, image: str) -> PodParameters:
    """What its pods need beyond the spec. `image`: the default."""
    drain = checked.drain_timeout if checked.drain_on_exit else 0.0
    return PodParameters(
        image=node.spec.image or image,
        stop_seconds=checked.shutdown_grace_period + drain,
        own_account=checked.home_storage_kubeconfig == variables.IN_CLUSTER,
    )


def _extra(arguments: Sequence[str]) -> dict[str, object]:
    """Name of a setting to its value, or values. Raises `UsageError`."""
    fields = {loading.flag_name(field): field for field in Settings.model_fields}
    found: dict[str, object] = {}
    for argument in arguments:
        flag, _, value = argument.partition("=")
        field = fields.get(flag)
        if field is None:
            raise UsageError(
                f"spec.extraArgs: {flag} is not a flag of farlet run; `farlet run --help-all` "
                "lists all"
            )
        if (advice := _OF_THE_POD.get(field)) is not None:
            raise UsageError(f"spec.extraArgs: {flag} cannot be set: {advice}")
        if field in variables.FIELDS:
            raise UsageError(f"spec.extraArgs: set {variables.FIELDS[field]} in place of {flag}")
        shape = loading.flag_of(Settings.model_fields[field])
        if {"FILE", "DIR"} & set(shape.metavar.split("|")) and value != variables.IN_CLUSTER:
            raise UsageError(
                f"spec.extraArgs: {flag} names a file, and the pod has none. Run this farlet with "
                "a Deployment of its own (docs/installation.md)"
            )
        before = found.get(field)
        if shape.many:
            found[field] = (*before, value) if isinstance(before, tuple) else (value,)
        elif before is not None:
            raise UsageError(f"spec.extraArgs: {flag} is set more than once; set it once")
        else:
            found[field] = value
    return found


def _in_terms_of_the_spec(message: str) -> str:
    """Flags and variables of fields replaced by the fields."""
    for setting in Settings.model_fields:
        flag = loading.flag_name(setting)
        place = variables.FIELDS.get(setting, f"spec.extraArgs: {flag}")
        message = message.replace(f"{flag} ({loading.env_name(setting)})", place)
        if setting in variables.FIELDS:
            message = message.replace(f"{flag} ", f"{place} ")
    return message
