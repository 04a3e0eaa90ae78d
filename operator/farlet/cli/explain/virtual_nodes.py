"""What a VirtualNode declares, as far as `farlet explain` needs it. Pure."""

from __future__ import annotations

import dataclasses

from farlet.context import Context, NamespaceMap
from farlet.manager.virtual_node import Spec

NO_TEMPLATE = "none"


def context(spec: Spec, ctx: Context) -> Context:
    """`ctx` with the namespaces and the access mode of this VirtualNode. Raises `UsageError`."""
    declared = spec.namespaces
    return dataclasses.replace(
        ctx,
        access_default=spec.access.default,
        namespaces=NamespaceMap(
            home=declared.home_name,
            own=spec.foreign.system_namespace,
            template=None if declared.template == NO_TEMPLATE else declared.template,
            pairs=tuple(declared.map.items()),
        ),
    )
