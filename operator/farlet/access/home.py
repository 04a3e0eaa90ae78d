"""Access mode `home`, the default: a pod cannot tell that it runs in the foreign cluster.

Its variables, host names, files and identity name the home cluster. farlet requests its tokens in
the home cluster, bound to the home pod, and stores them in one Secret beside the mirror.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from farlet import context, names
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
    token_mounts,
    volumes,
)
from farlet.access.changes import ChangeLog
from farlet.constants import (
    DEFAULT_AUDIENCE_EXTENDED_SECONDS,
    HOME_API_SERVICE,
    HOME_API_SETTINGS,
    HOME_CA,
    Reason,
)
from farlet.context import Context, Endpoint
from farlet.errors import Refused
from farlet.k8s_types import Container, HostAlias, OwnerReference, Pod, PodSpec, Secret

DEFAULT_TOKEN_SECONDS = 3600
"""Lifetime of a projected token that sets none (`SetDefaults_ServiceAccountTokenProjection`)."""

MAX_TOKENS = 32
"""Limit for one pod. Each token is one request at home, again after half of its lifetime, and up to
4 KiB of the mirror's Secret, which can have 1 MiB."""

_ACCESS_ADDRESS = "KUBERNETES_* name the home API server"


class HomeAccess:
    """The pod is a client of the home cluster."""

    name = "home"
    summary = "the home API, as if the pod ran in the home cluster"

    def requirements(self, pod: Pod, ctx: Context) -> tuple[ServiceAccountRequirement, ...]:
        """No foreign object has to exist. Raises `Refused` while pods cannot reach the home API.

        This includes pods without a token: in the home cluster such a pod can connect without
        one, and without our variables it would connect to the foreign API.
        """
        _endpoint(ctx)
        return ()

    def token_specs(self, pod: Pod, ctx: Context) -> tuple[TokenSpec, ...]:
        """One token per audience, with the shortest lifetime that a volume requests for it.

        Raises `Refused` for more than `MAX_TOKENS`.
        """
        token_specs: dict[str | None, TokenSpec] = {}
        for source in volumes.token_sources(pod["spec"]):
            audience = volumes.audience(source)
            seconds = _lifetime(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS, ctx)
            other = token_specs.get(audience)
            if other is None or seconds < other.expiration_seconds:
                token_specs[audience] = TokenSpec(
                    key=volumes.token_key(audience), audience=audience, expiration_seconds=seconds
                )
        if len(token_specs) > MAX_TOKENS:
            raise Refused(
                Reason.UNSUPPORTED_POD,
                f"the pod's volumes project ServiceAccount tokens for {len(token_specs):,} "
                f"audiences, and farlet provides tokens for {MAX_TOKENS} at most. Remove "
                "serviceAccountToken sources from its projected volumes, or keep the pod off this "
                "node",
            )
        return tuple(token_specs.values())

    def mutate(self, spec: PodSpec, pod: Pod, ctx: Context) -> Mutation:
        """The spec, changed to reach the home API. Raises as `requirements`."""
        endpoint = _endpoint(ctx)
        changes = ChangeLog()
        shaped = no_foreign_account.without_account(spec, changes)
        environment.without_service_links(shaped, ctx, changes)
        secret = names.secret_name(pod["metadata"]["uid"])
        files = token_mounts.SecretFiles(secret=secret, mode=volumes.token_mode(spec))
        identified = home_identity.in_volumes(pod, ctx, changes)
        if "volumes" in spec:
            shaped["volumes"] = [
                identified(files.volume(volume, changes)) for volume in spec["volumes"]
            ]
        variables = environment.api_variables(endpoint)

        def shape(container: Container, path: str) -> Container:
            result = files.environment(container, path, changes)
            env = identity.in_env(result.get("env") or [], pod, ctx, path, changes)
            env = environment.bypass_proxies(env, endpoint.host, path, changes)
            env = environment.prepend(variables, env, path, changes)
            changes.added(f"{path}.env", _ACCESS_ADDRESS, routine=True)
            return {**result, "env": env}

        no_foreign_account.replace_containers(shaped, shape)
        home_identity.keep_names(shaped, spec, pod, ctx, changes)
        if endpoint.aliased:
            aliases = spec.get("hostAliases") or []
            shaped["hostAliases"] = _aliases(aliases, endpoint, ctx, changes)
        elif found := limits(endpoint):
            changes.unchanged("spec.hostAliases", found)
        volumes.report_stale_mounts(spec, changes)
        return Mutation(cast("PodSpec", shaped), tuple(changes), home_api=str(endpoint))

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        """The Secret with tokens, CA, namespace, labels and annotations, as far as files of the pod
        contain them; none if they contain nothing of it.
        """
        spec = pod["spec"]
        if next(volumes.token_sources(spec), None) is None and not volumes.reads_root_ca(spec):
            return pod_secret.build(pod, {}, {}, ctx, owner)
        data = {key: token.value for key, token in tokens.items()}
        data[volumes.CA_KEY] = ctx.home_ca
        data[volumes.NAMESPACE_KEY] = pod["metadata"]["namespace"]
        return pod_secret.build(pod, data, {HOME_CA: ctx.home_ca_digest}, ctx, owner)


def _endpoint(ctx: Context) -> Endpoint:
    if isinstance(ctx.home_api, context.Refused):
        raise Refused(ctx.home_api.reason, ctx.home_api.message)
    if ctx.endpoint is None:
        raise Refused(
            Reason.HOME_API_NOT_CONFIGURED,
            "farlet has no address at which pods in the foreign cluster reach the home API "
            f"server: the foreign namespace {ctx.namespaces.own} has no Service "
            f"{HOME_API_SERVICE}. Install the gateway (farlet connect does; by hand: "
            f"manifests/foreign/gateway), or set {HOME_API_SETTINGS}, or recreate the pod with the "
            "annotation liqo.io/api-server-support set to remote or disabled",
        )
    if not ctx.home_ca:
        raise Refused(
            Reason.HOME_API_NOT_CONFIGURED,
            "farlet has no CA certificate with which pods can verify the home API server. Start "
            "farlet with --home-api-server-ca-file",
        )
    return ctx.endpoint


def _lifetime(requested: int, ctx: Context) -> int:
    seconds = requested if ctx.token_lifetime is None else ctx.token_lifetime
    if seconds == DEFAULT_AUDIENCE_EXTENDED_SECONDS and not ctx.token_as_requested:
        return DEFAULT_TOKEN_SECONDS
    return seconds


def service_names(domain: str) -> tuple[str, ...]:
    """DNS names of the API server in its own cluster (`kubernetes.default` and longer)."""
    service = "kubernetes.default.svc"
    return ("kubernetes", "kubernetes.default", service, f"{service}.{domain}")


def _aliases(
    aliases: list[HostAlias], endpoint: Endpoint, ctx: Context, changes: ChangeLog
) -> list[HostAlias]:
    """Host aliases with the names of the home API server; names that the pod sets itself stay.

    They work with hostNetwork too: the kubelet appends them to the node's own hosts file
    (`nodeHostsFileContent` in `pkg/kubelet/kubelet_pods.go`).
    """
    taken = {name for alias in aliases for name in alias.get("hostnames") or ()}
    hostnames = service_names(ctx.cluster_domain)
    if not (endpoint.is_ip or endpoint.host in hostnames):
        hostnames = (*hostnames, endpoint.host)
    ours = [name for name in hostnames if name not in taken]
    for name in hostnames:
        if name in taken:
            changes.unchanged(
                f"spec.hostAliases[{name}]", "the pod sets this name itself; it is kept"
            )
    limit = limits(endpoint)
    if not ours:
        if limit:
            changes.unchanged("spec.hostAliases", limit)
        return aliases
    why = f"names of the home API server; {limit}" if limit else "names of the home API server"
    changes.added("spec.hostAliases", why, routine=limit is None)
    ips = endpoint.aliased
    merged: list[HostAlias] = [
        {"ip": alias["ip"], "hostnames": [*(alias.get("hostnames") or ()), *ours]}
        if alias["ip"] in ips  # the server merges the list by IP
        else alias
        for alias in aliases
    ]
    present = {alias["ip"] for alias in aliases}
    added: list[HostAlias] = [
        {"ip": ip, "hostnames": list(ours)} for ip in ips if ip not in present
    ]
    return [*merged, *added]


def limits(endpoint: Endpoint) -> str | None:
    """Why clients that use the Service's DNS name and port 443, whatever their environment, cannot
    reach the home API server; `None`: they can.
    """
    obstacles = []
    if not endpoint.aliased:
        obstacles.append("has a DNS name (host aliases require an IP address)")
    if endpoint.port != environment.SERVICE_PORT:
        obstacles.append(f"listens on port {endpoint.port}")
    if not obstacles:
        return None
    return (
        f"the home API server at {endpoint.netloc} {' and '.join(obstacles)}: clients that "
        "always use https://kubernetes.default.svc (Kopf's own login, kube-rs incluster_dns, many "
        f"shell scripts) cannot reach it. They need a Service {HOME_API_SERVICE} with port 443 in "
        "farlet's foreign system namespace"
    )
