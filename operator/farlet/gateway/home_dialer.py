"""Connects to the home API server as farlet's kubeconfig says, through its proxy if it names one.

The connections carry TLS of pods, so farlet adds none of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from farlet import errors
from farlet.client import raw_response, tcp, tls_stream
from farlet.client.cluster import Cluster


class HomeDialer:
    """Dials for `tunnel`. Each call reads the server URL again, as credentials can change."""

    def __init__(self, home: Cluster) -> None:
        self._home = home
        self._scratch = bytearray(tls_stream.CHUNK)

    def check(self) -> None:
        """Raises `StartError` for a server URL or proxy that gateways do not support."""
        url = urlsplit(self._home.server)
        if url.scheme != "https" or not url.hostname or url.path.strip("/"):
            raise errors.StartError(
                f"gateways do not support the home API server URL {self._home.server!r}: pods "
                "reach an API server only over https and without a path. Set "
                "--home-kubeconfig to a kubeconfig with such a URL, or remove --gateway-keys"
            )
        proxy = urlsplit(self._home.proxy or "http:")
        if proxy.scheme != "http":
            raise errors.StartError(
                f"gateways do not support the proxy {proxy.scheme}://{proxy.hostname}: set "
                "proxy-url in the home kubeconfig to an http:// URL, or remove --gateway-keys"
            )

    async def __call__(self, factory: Callable[[], asyncio.BaseProtocol]) -> object:
        """Connect with the protocol that `factory` returns. Raises `OSError`."""
        login = await self._home.login()
        url = urlsplit(login.server)
        host, port = url.hostname or "", url.port or 443
        if login.proxy is None:
            return await tcp.connect(factory, host, port)
        channel = await raw_response.tunnel(urlsplit(login.proxy), host, port, self._scratch)
        channel.hand_over(factory())
        return channel
