"""At which address pods abroad reach the home API server. Pure.

Flags that name an address win. Else it is that of the Service `home-api` in farlet's own foreign
namespace, behind which a gateway or a proxy passes TLS through. That address stands in no
certificate, so pods dial a name that does, and host aliases lead it there.
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
USUAL_NAME = "kubernetes.default.svc"
"""What clients dial that know the API server by its DNS name."""


def resolve_endpoint(settings: MirrorSettings, home_server_url: str) -> Endpoint | None:
    """The home API server as pods abroad are to dial it; `None` when nothing was said of it.

    `home_server_url` is the one that farlet itself uses, from the kubeconfig or the environment
    of its pod. A setting that is not given keeps the value of that URL. Raises `UsageError`
    when the URL cannot give it: pods know the API server by host and port only, and by TLS.
    """
    host, port = settings.home_api_server_host, settings.home_api_server_port
    if host is None and port is None:
        return None
    if host is not None and port is not None:
        return Endpoint(host, port)
    given, lacking = ("port", "host") if host is None else ("host", "port")
    advice = f"give --home-api-server-{lacking} too (FARLET_HOME_API_SERVER_{lacking.upper()})"
    try:
        url = urlsplit(home_server_url)
        default_host, default_port = values.host(url.hostname or ""), url.port or 443
    except ValueError as err:
        raise UsageError(
            f"--home-api-server-{given} stands alone, and the home API server's URL "
            f"{home_server_url!r} gives no {lacking}: {err}; {advice}"
        ) from err
    if url.scheme != "https" or url.path.strip("/"):
        raise UsageError(
            f"--home-api-server-{given} stands alone, and the {lacking} of {home_server_url!r} "
            f"would not do: pods can reach an API server only by https and without a path; {advice}"
        )
    return Endpoint(host or default_host, port or default_port)


@dataclass(frozen=True, slots=True)
class Passage:
    """The Service by which pods reach the home API server, as far as it matters here."""

    addresses: tuple[str, ...]
    port: int
    target: int | str
    """The port of the pods behind it, or its name there."""
    selector: Mapping[str, str]
    """Labels of those pods; empty where farlet cannot tell who they are."""

    def __str__(self) -> str:
        return f"the Service {HOME_API_SERVICE} at {Endpoint(self.addresses[0], self.port).netloc}"

    def endpoint(self, host: str) -> Endpoint:
        """For pods that are to dial `host`."""
        return Endpoint(host, self.port, self.addresses)


def passage(service: JSON) -> Passage:
    """What a Service offers to pods.

    Raises `Refused` where host aliases could not lead to it, or it has no TCP port to choose.
    """
    spec = service.get("spec", {})
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    addresses = tuple(ip for ip in listed if ip and ip != "None")
    if not addresses or spec.get("type") == "ExternalName":
        raise _unfit("has no address of its own (clusterIP): make it one of type ClusterIP")
    ports = [port for port in spec.get("ports", ()) if port.get("protocol", "TCP") == "TCP"]
    chosen = (
        next((port for port in ports if port["port"] == SERVICE_PORT), None)
        or next((port for port in ports if port.get("name") == "https"), None)
        or (ports[0] if len(ports) == 1 else None)
    )
    if chosen is None:
        raise _unfit(f"has no port {SERVICE_PORT}, and none named https: give it one")
    return Passage(
        addresses=addresses,
        port=chosen["port"],
        target=chosen.get("targetPort", chosen["port"]),
        selector=spec.get("selector") or {},
    )


def _unfit(what: str) -> Refused:
    return Refused(
        Reason.HOME_API_NOT_CONFIGURED,
        f"the Service {HOME_API_SERVICE} in farlet's foreign namespace, by which pods are to reach "
        f"the home API server, {what}",
    )


def name_for_pods(names: Sequence[str], domain: str) -> str | None:
    """Of the names in a certificate, what pods should dial; `None` where it has only addresses.

    The names that every client knows come first (some distributions lack them), and then any
    other: it becomes a host alias. A wildcard is no name, and `localhost` is somebody else.
    """
    known = (USUAL_NAME, f"{USUAL_NAME}.{domain}", "kubernetes.default", "kubernetes")
    return next(
        (name for name in (*known, *names) if name in names and _may_be_aliased(name)), None
    )


def _may_be_aliased(name: str) -> bool:
    try:
        return values.dns_name(name) == name and not _is_loopback(name) and not _is_ip(name)
    except ValueError:
        return False


def _is_ip(host: str) -> bool:
    return Endpoint(host, 0).is_ip


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def doubt(where: Endpoint) -> str | None:
    """What speaks against this address before anybody dials it, and what to do; else `None`."""
    if where.is_ip:
        wrong = ip_address(where.host).is_loopback or ip_address(where.host).is_unspecified
    else:
        wrong = _is_loopback(where.host)
    if not wrong:
        return None
    return (
        f"pods abroad are to reach the home API server at {where.netloc}, where each of them "
        "meets itself: give an address that leads to it from abroad by --home-api-server-host "
        "(FARLET_HOME_API_SERVER_HOST)"
    )
