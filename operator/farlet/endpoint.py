"""At which address pods abroad reach the home API server.

Pure: what only the home credentials know, their server's URL, is an argument.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from farlet import values
from farlet.context import Endpoint
from farlet.errors import UsageError
from farlet.settings import MirrorSettings


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
