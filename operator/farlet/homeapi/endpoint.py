"""The endpoint at which pods in the foreign cluster reach the home API server. Pure.

Flags that name an address win. Otherwise it is the address of the Service `home-api` in farlet's
foreign system namespace, behind which a gateway or a proxy passes TLS through. No certificate
contains that address, so pods dial a name that the certificate contains, and host aliases resolve
the name to the address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from farlet.constants import HOME_API_SERVICE, JSON, Reason
from farlet.context import Endpoint
from farlet.errors import Refused, UsageError
from farlet.settings import MirrorSettings, values

SERVICE_PORT = 443
DEFAULT_NAME = "kubernetes.default.svc"
"""The DNS name at which Kubernetes clients expect the API server."""


def resolve_endpoint(settings: MirrorSettings, home_server_url: str) -> Endpoint | None:
    """The endpoint that the flags for host and port give; `None` if both are absent.

    With one of the two, the other comes from `home_server_url`, which farlet itself uses. Raises
    `UsageError` for a URL that cannot give it: pods dial a host and a port, and speak TLS.
    """
    host, port = settings.home_api_server_host, settings.home_api_server_port
    if host is None and port is None:
        return None
    if host is not None and port is not None:
        return Endpoint(host, port)
    given, lacking = ("port", "host") if host is None else ("host", "port")
    advice = f"set --home-api-server-{lacking} too (FARLET_HOME_API_SERVER_{lacking.upper()})"
    try:
        url = urlsplit(home_server_url)
        if host is None:
            host = values.host(url.hostname or "")
        if port is None:
            port = url.port or 443
    except ValueError as err:
        raise UsageError(
            f"--home-api-server-{given} is set without --home-api-server-{lacking}, and the URL "
            f"{home_server_url!r} of the home API server has no usable {lacking}: {err}; {advice}"
        ) from err
    if url.scheme != "https" or url.path.strip("/"):
        raise UsageError(
            f"--home-api-server-{given} is set without --home-api-server-{lacking}, and the "
            f"{lacking} of {home_server_url!r} is not usable: pods reach an API server only over "
            f"https and without a path; {advice}"
        )
    return Endpoint(host, port)


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where the Service `home-api` listens, and the pods that it sends to."""

    addresses: tuple[str, ...]
    port: int
    target_port: int | str
    """Number or name of the port of the pods."""
    selector: Mapping[str, str]
    """Labels of the pods; empty if something else fills the EndpointSlices."""

    def __str__(self) -> str:
        return f"the Service {HOME_API_SERVICE} at {Endpoint(self.addresses[0], self.port).netloc}"

    def endpoint(self, host: str) -> Endpoint:
        """The endpoint for pods that dial `host`."""
        return Endpoint(host, self.port, self.addresses)


def service_address(service: JSON) -> ServiceAddress:
    """Raises `Refused` for a Service without a cluster IP for host aliases, or without a TCP port
    that farlet can choose.
    """
    spec = service.get("spec", {})
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    addresses = tuple(ip for ip in listed if ip and ip != "None")
    if not addresses or spec.get("type") == "ExternalName":
        raise _unusable("has no cluster IP: change its type to ClusterIP")
    ports = [port for port in spec.get("ports", ()) if port.get("protocol", "TCP") == "TCP"]
    chosen = (
        next((port for port in ports if port["port"] == SERVICE_PORT), None)
        or next((port for port in ports if port.get("name") == "https"), None)
        or (ports[0] if len(ports) == 1 else None)
    )
    if chosen is None:
        raise _unusable(f"has neither a port {SERVICE_PORT} nor a port named https: add one")
    return ServiceAddress(
        addresses=addresses,
        port=chosen["port"],
        target_port=chosen.get("targetPort", chosen["port"]),
        selector=spec.get("selector") or {},
    )


def _unusable(what: str) -> Refused:
    return Refused(
        Reason.HOME_API_NOT_CONFIGURED,
        f"the Service {HOME_API_SERVICE} in farlet's foreign system namespace, through which pods "
        f"reach the home API server, {what}",
    )


def names_for_pods(own: Sequence[str], domain: str) -> tuple[str, ...]:
    """The names that pods may dial, the best first; empty if there are only addresses.

    `own`: the names in the certificates of the home API server that farlet is connected to. Any
    other server with a certificate of the home CA, such as a kubelet, has other names. A node of
    the control plane shares its own name with its API server, so that counts only where the names
    are missing that Kubernetes clients expect, as in some distributions. Host aliases can be
    neither wildcards nor `localhost`.
    """
    expected = (DEFAULT_NAME, f"{DEFAULT_NAME}.{domain}", "kubernetes.default", "kubernetes")
    usual = tuple(name for name in expected if name in own)
    return usual or tuple(name for name in own if _can_be_aliased(name))


def _can_be_aliased(name: str) -> bool:
    try:
        return values.dns_name(name) == name and not _is_loopback(name) and not _is_ip(name)
    except ValueError:
        return False


def _is_ip(host: str) -> bool:
    return Endpoint(host, 0).is_ip


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def loopback_warning(endpoint: Endpoint) -> str | None:
    """A warning for an endpoint at which every pod would reach itself; `None` for others."""
    if endpoint.is_ip:
        wrong = ip_address(endpoint.host).is_loopback or ip_address(endpoint.host).is_unspecified
    else:
        wrong = _is_loopback(endpoint.host)
    if not wrong:
        return None
    return (
        f"{endpoint.netloc} is a loopback address, at which each pod reaches itself: set "
        "--home-api-server-host (FARLET_HOME_API_SERVER_HOST) to an address of the home API server "
        "that pods in the foreign cluster can reach"
    )
