"""The environment variables by which a container finds its API server and other Services.

A kubelet injects `KUBERNETES_*` for the `kubernetes` Service of *its own* cluster into every
container, `enableServiceLinks` or not, but the container's own variables take precedence
(`makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go`). So a mirror without farlet's
variables would connect to the foreign API. They come first, since the kubelet expands `$(VAR)` in
order.
"""

from __future__ import annotations

from collections.abc import Sequence

from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.context import Context, Endpoint, Reflection
from farlet.k8s_types import Container, EnvVar

SERVICE_PORT = 443
"""Port of the `kubernetes` Service in every cluster (`controlplane` `KubernetesService`)."""

SERVICES_ENDPOINT = "kubernetes-services-endpoint"
"""ConfigMap by which Calico, Tigera and others name the API server to their pods."""

_OWN = "the pod sets it itself; its value is kept, whatever API server it names"
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_NO_PROXY = ("NO_PROXY", "no_proxy")


def api_variables(endpoint: Endpoint) -> list[EnvVar]:
    """The variables that a kubelet injects for a `kubernetes` Service at `endpoint` (`envvars.go`).

    For another port than 443 the names with 443 are set, too: the foreign kubelet would inject
    them for the foreign API.
    """
    port, url = str(endpoint.port), f"tcp://{endpoint.netloc}"
    env: list[EnvVar] = [
        {"name": "KUBERNETES_SERVICE_HOST", "value": endpoint.host},
        {"name": "KUBERNETES_SERVICE_PORT", "value": port},
        {"name": "KUBERNETES_SERVICE_PORT_HTTPS", "value": port},
        {"name": "KUBERNETES_PORT", "value": url},
    ]
    for number in dict.fromkeys((endpoint.port, SERVICE_PORT)):
        env += [
            {"name": f"KUBERNETES_PORT_{number}_TCP", "value": url},
            {"name": f"KUBERNETES_PORT_{number}_TCP_PROTO", "value": "tcp"},
            {"name": f"KUBERNETES_PORT_{number}_TCP_PORT", "value": port},
            {"name": f"KUBERNETES_PORT_{number}_TCP_ADDR", "value": endpoint.host},
        ]
    return env


def empty_variables() -> list[EnvVar]:
    """The same names, empty: client libraries then report that they are not in a cluster."""
    names = api_variables(Endpoint(host="", port=SERVICE_PORT))
    return [{"name": variable["name"], "value": ""} for variable in names]


_NAMES = frozenset(variable["name"] for variable in empty_variables())


def without_service_links(spec: JSON, ctx: Context, changes: ChangeLog) -> None:
    """No variables of Services in the mirror's namespace; changes `spec`.

    They are Services of the foreign cluster, perhaps with names of home ones. A program would take
    their addresses for those that it has in the home cluster. With --reflect=services they are
    those of the home cluster.
    """
    if Reflection.SERVICES in ctx.reflect:
        return
    if spec.get("enableServiceLinks") is not False:
        changes.forced(
            "spec.enableServiceLinks",
            "variables would name Services of the foreign namespace",
            routine=True,
        )
    spec["enableServiceLinks"] = False


def prepend(
    ours: Sequence[EnvVar], env: list[EnvVar], path: str, changes: ChangeLog
) -> list[EnvVar]:
    """`ours` before `env`; a variable that the pod sets itself keeps the pod's value.

    Where the pod refers to such a variable as `$(NAME)` before or while it sets it, ours is kept
    as well: the kubelet applies a duplicate name in order, so the reference gets our value and
    the process gets the pod's, as in the home cluster. The content of `envFrom` is not known here;
    our variables take precedence over it.
    """
    kept: list[EnvVar] = []
    positions = {variable["name"]: index for index, variable in enumerate(env)}
    for variable in ours:
        position = positions.get(variable["name"])
        if position is not None:
            changes.unchanged(
                f"{path}.env[{variable['name']}]",
                _OWN,
            )
            reference = f"$({variable['name']})"
            if not any(reference in (e.get("value") or "") for e in env[: position + 1]):
                continue
        kept.append(variable)
    return [*kept, *env]


def report_own(container: Container, path: str, changes: ChangeLog) -> None:
    """Reports variables of the pod that name an API server, for a pod that gets none of ours."""
    for entry in container.get("env") or ():
        if entry["name"] in _NAMES:
            changes.unchanged(f"{path}.env[{entry['name']}]", _OWN)
    why = "KUBERNETES_* variables in it take precedence, whatever API server they name"
    _report_env_from(container, path, why, changes)


def report_env_from(container: Container, path: str, changes: ChangeLog) -> None:
    """Reports ConfigMaps and Secrets whose variables ours take precedence over.

    In the home cluster they would win over those of a kubelet.
    """
    why = "KUBERNETES_* variables in it have no effect, since farlet sets them"
    _report_env_from(container, path, why, changes)


def _report_env_from(container: Container, path: str, why: str, changes: ChangeLog) -> None:
    """The content is not known here, so only a name with a known meaning is worth an Event."""
    for source in container.get("envFrom") or ():
        reference = source.get("configMapRef") or source.get("secretRef") or {}
        name = reference.get("name", "")
        if any(variable.startswith(source.get("prefix") or "") for variable in _NAMES):
            changes.unchanged(
                f"{path}.envFrom[{name}]",
                why,
                routine=name != SERVICES_ENDPOINT,
            )


def bypass_proxies(env: list[EnvVar], host: str, path: str, changes: ChangeLog) -> list[EnvVar]:
    """`env` with `host` in `NO_PROXY`, where the pod sets a proxy.

    In the home cluster the pod's own `NO_PROXY` names the Service range; it cannot name `host`.
    """
    if not any(e["name"].lower() in _PROXIES and _is_set(e) for e in env):
        return env
    result: list[EnvVar] = []
    present = False
    for entry in env:
        if entry["name"] not in _NO_PROXY:
            result.append(entry)
            continue
        present = True
        at = f"{path}.env[{entry['name']}]"
        if entry.get("valueFrom"):
            changes.unchanged(at, f"farlet cannot add to it; its source must name {host}")
            result.append(entry)
            continue
        value = entry.get("value") or ""
        named = {part.strip() for part in value.split(",")}
        if host in named or "*" in named:
            result.append(entry)
            continue
        changes.rewritten(at, "pods reach the home API server without their proxy")
        result.append({"name": entry["name"], "value": f"{value},{host}" if value else host})
    if present:
        return result
    changes.added(f"{path}.env[NO_PROXY]", "pods reach the home API server without their proxy")
    added: list[EnvVar] = [{"name": name, "value": host} for name in _NO_PROXY]
    return [*added, *env]


def _is_set(entry: EnvVar) -> bool:
    return bool(entry.get("value") or entry.get("valueFrom"))
