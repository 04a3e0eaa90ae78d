"""The way from farlet to the home API server, as its own kubeconfig goes: by the proxy, if any.

What is dialled carries TLS of pods, so farlet adds none of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from farlet import errors
from farlet.client import raw_response, tls_stream
from farlet.client.cluster import Cluster


class HomeDialer:
    """Dials for `tunnel`; where to is asked anew each time, as credentials are read again."""

    def __init__(self, home: Cluster) -> None:
        self._home = home
        self._scratch = bytearray(tls_stream.CHUNK)

    def check(self) -> None:
        """Raises `StartError` where pods could not use what a gateway leads to."""
        url = urlsplit(self._home.server)
        if url.scheme != "https" or not url.hostname or url.path.strip("/"):
            raise errors.StartError(
                f"a gateway cannot lead to the home API server at {self._home.server!r}: pods "
                "reach one only by https and without a path. Give farlet a home kubeconfig with "
                "such a URL, or leave --gateway-keys out"
            )
        proxy = urlsplit(self._home.proxy or "http:")
        if proxy.scheme != "http":
            raise errors.StartError(
                f"a gateway cannot lead to the home API server by the proxy {proxy.scheme}://"
                f"{proxy.hostname}: give the home kubeconfig a proxy-url that is spoken to by "
                "http, or leave --gateway-keys out"
            )

    async def __call__(self, factory: Callable[[], asyncio.Protocol]) -> object:
        """A connection, served by what `factory` makes. Raises `OSError`."""
        login = await self._home.login()
        url = urlsplit(login.server)
        host, port = url.hostname or "", url.port or 443
        if login.proxy is None:
            loop = asyncio.get_running_loop()
            made: object = await loop.create_connection(
                factory, host, port, happy_eyeballs_delay=0.25
            )
            return made
        channel = await raw_response.tunnel(urlsplit(login.proxy), host, port, self._scratch)
        channel.hand_over(factory())
        return channel
