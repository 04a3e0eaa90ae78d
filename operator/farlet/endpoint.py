"""Two questions about addresses that settings leave open until the environment is known.

At which address do pods abroad reach the home API server, and where do the credentials of the
two clusters come from. Pure: what the environment says is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from farlet.context import Endpoint
from farlet.errors import UsageError
from farlet.settings import MirrorSettings, Settings, values


@dataclass(frozen=True, slots=True)
class ClusterSource:
    """Where the credentials of a cluster come from.

    `kubeconfig` None: those of the pod farlet runs in. A string may be a list of paths, as in
    `$KUBECONFIG`. `context` None: the kubeconfig's current one. `rotated`: where certificate and
    key lie that this process was granted in place of the kubeconfig's, if it was.
    """

    kubeconfig: str | None
    context: str | None
    rotated: Path | None = None


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


def doubt(where: Endpoint) -> str | None:
    """What speaks against this address before anybody dials it, and what to do; else `None`."""
    if where.is_ip:
        wrong = ip_address(where.host).is_loopback or ip_address(where.host).is_unspecified
    else:
        wrong = where.host == "localhost" or where.host.endswith(".localhost")
    if not wrong:
        return None
    return (
        f"pods abroad are to reach the home API server at {where.netloc}, where each of them "
        "meets itself: give an address that leads to it from abroad by --home-api-server-host "
        "(FARLET_HOME_API_SERVER_HOST)"
    )


def home_source(settings: Settings, environ: Mapping[str, str]) -> ClusterSource:
    """Home credentials: as set, else the pod's own inside one, else as kubectl finds them.

    Raises `UsageError` for a context without a kubeconfig.
    """
    if settings.home_kubeconfig is not None:
        return _source("home", settings.home_kubeconfig, settings.home_context)
    if "KUBERNETES_SERVICE_HOST" in environ:
        return _source("home", values.IN_CLUSTER, settings.home_context)
    default = environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    return ClusterSource(kubeconfig=default, context=settings.home_context)


def foreign_source(settings: Settings, environ: Mapping[str, str]) -> ClusterSource:
    """Foreign credentials. Raises `UsageError` when they are those of home."""
    source = _source("foreign", settings.foreign_kubeconfig, settings.foreign_context)
    if source == home_source(settings, environ):
        raise UsageError(
            "--foreign-kubeconfig and --foreign-context name the same credentials as home: "
            "give the foreign cluster's kubeconfig, or another --foreign-context of this one"
        )
    return source


def _source(side: str, kubeconfig: Path | str, context: str | None) -> ClusterSource:
    if kubeconfig != values.IN_CLUSTER:
        return ClusterSource(kubeconfig=str(kubeconfig), context=context)
    if context is not None:
        raise UsageError(
            f"--{side}-context {context!r} needs a kubeconfig, but the {side} credentials are "
            f"{values.IN_CLUSTER}: give --{side}-kubeconfig, or leave the context out"
        )
    return ClusterSource(kubeconfig=None, context=None)
