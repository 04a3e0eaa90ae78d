"""Access mode `disabled`: the pod gets no access to a Kubernetes API.

No token is requested or mounted, and the variables by which client libraries find an API server
are empty, so that they report "not in a cluster". The network is not blocked: a pod that knows an
address can still connect to it.
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
    home_identity,
    identity,
    no_foreign_account,
    pod_secret,
    removal,
)
from farlet.access.changes import ChangeLog
from farlet.context import Context
from farlet.k8s_types import Container, OwnerReference, Pod, PodSpec, Secret


class DisabledAccess:
    """The pod gets no API access."""

    name = "disabled"
    summary = "no API: no token, no CA, empty KUBERNETES_* variables"

    def requirements(self, pod: Pod, ctx: Context) -> tuple[ServiceAccountRequirement, ...]:
        return ()

    def token_specs(self, pod: Pod, ctx: Context) -> tuple[TokenSpec, ...]:
        return ()

    def mutate(self, spec: PodSpec, pod: Pod, ctx: Context) -> Mutation:
        """The spec without token sources, with the home pod's identity."""
        changes = ChangeLog()
        shaped = no_foreign_account.without_account(spec, changes)
        environment.without_service_links(shaped, ctx, changes)
        removed = removal.without_access(spec.get("volumes") or (), changes)
        identified = home_identity.in_volumes(pod, ctx, changes)
        if removed.volumes:
            shaped["volumes"] = [identified(volume) for volume in removed.volumes]
        else:
            shaped.pop("volumes", None)
        empty = environment.empty_variables()

        def shape(container: Container, path: str) -> Container:
            env = identity.in_env(container.get("env") or [], pod, ctx, path, changes)
            env = environment.prepend(empty, env, path, changes)
            changes.added(f"{path}.env", "KUBERNETES_* are empty: no API", routine=True)
            result: Container = {**container, "env": env}
            mounts = removed.remaining_mounts(result.pop("volumeMounts", []), path, changes)
            if mounts:
                result["volumeMounts"] = mounts
            return result

        no_foreign_account.replace_containers(shaped, shape)
        home_identity.keep_names(shaped, spec, pod, ctx, changes)
        return Mutation(cast("PodSpec", shaped), tuple(changes))

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        """The Secret with labels and annotations, if files of the pod contain them."""
        return pod_secret.build(pod, {}, {}, ctx, owner)
