"""Mode `disabled`: the pod reaches no Kubernetes API by itself.

No token is requested, none is mounted, and the variables by which client libraries find an API
server are empty, so that they say "not in a cluster". This is no network barrier: a pod that
knows an address can still dial it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from farlet.access import (
    Mutation,
    ServiceAccountRequirement,
    Token,
    TokenSpec,
    environment,
    identity,
    no_foreign_account,
    removal,
)
from farlet.access.changes import ChangeLog
from farlet.context import Context
from farlet.k8s_types import Container, OwnerReference, Pod, PodSpec, Secret


class DisabledAccess:
    """The pod asked for no API."""

    name = "disabled"
    summary = "no API: no token, no CA, empty KUBERNETES_* variables"

    def requirements(self, pod: Pod, ctx: Context) -> tuple[ServiceAccountRequirement, ...]:
        """Nothing has to exist."""
        return ()

    def token_specs(self, pod: Pod, ctx: Context) -> tuple[TokenSpec, ...]:
        """No token is requested."""
        return ()

    def mutate(self, spec: PodSpec, pod: Pod, ctx: Context) -> Mutation:
        """A spec without token sources, whose identity is still the home pod's."""
        changes = ChangeLog()
        shaped = no_foreign_account.without_account(spec, changes)
        removed = removal.without_access(spec.get("volumes") or (), changes)
        if removed.volumes:
            shaped["volumes"] = [identity.in_volume(v, changes) for v in removed.volumes]
        else:
            shaped.pop("volumes", None)
        empty = environment.nowhere()
        known = identity.values(pod, ctx)

        def shape(container: Container, path: str) -> Container:
            env = identity.in_env(container.get("env") or [], known, path, changes)
            env = environment.first(empty, env, path, changes)
            changes.added(f"{path}.env", "KUBERNETES_* are empty: no API", routine=True)
            result: Container = {**container, "env": env}
            mounts = removed.mounts(result.pop("volumeMounts", []), path, changes)
            if mounts:
                result["volumeMounts"] = mounts
            return result

        no_foreign_account.each_container(shaped, shape)
        return Mutation(spec=cast("PodSpec", shaped), changes=tuple(changes))

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        """No object goes with the mirror."""
        return ()
