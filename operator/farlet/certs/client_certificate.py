"""Renews the client certificate with which farlet authenticates as a node in the home cluster.

As in a kubelet, the new certificate is stored beside the kubeconfig, never in it, and connections
read it from there (`client/credentials.py`). It is renewed by the leader and by standby processes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog

from farlet import errors, names
from farlet.certs import key_pairs, signing_requests
from farlet.client.api_client import ApiClient
from farlet.client.credentials import Login
from farlet.constants import Signer

CHECK_SECONDS = 10.0
"""Between two checks of clock and credentials; connections check files as often."""
FILE_PREFIX = "kubelet-client"

log = structlog.get_logger()


class NodeClient(ApiClient, Protocol):
    """A client whose current credentials can be read."""

    async def login(self) -> Login:
        """The credentials of new connections."""
        ...


class ClientCertificate:
    """Keeps the certificate of `home` valid.

    The connection must read the file `store.current` (`ClusterSource.rotated`).
    """

    def __init__(
        self,
        home: NodeClient,
        *,
        node: str,
        store: key_pairs.CertificateStore,
        now: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._home = home
        self._node = node
        self._store = store
        self._now = now
        self._jitter = jitter

    async def run(self) -> None:
        """Renew until cancelled. Raises `StartError` if farlet does not log in as this node."""
        leaf = (await self._home.login()).certificate
        if leaf is None or not key_pairs.is_node(leaf, self._node):
            raise errors.StartError(
                f"--rotate-certificates renews the certificate of {names.node_user(self._node)}"
                f" in {names.NODES}, but the credentials for the home cluster are not such a "
                "certificate. Set --home-kubeconfig to the kubeconfig of the node, or remove "
                "--rotate-certificates"
            )
        while leaf is not None and key_pairs.is_node(leaf, self._node):
            renew_at = key_pairs.renew_at(leaf, self._jitter())
            before = leaf
            while leaf == before and self._now() < renew_at:
                await asyncio.sleep(CHECK_SECONDS)
                leaf = (await self._home.login()).certificate
            if leaf == before:
                await self._renew()
                await asyncio.sleep(CHECK_SECONDS)
                leaf = (await self._home.login()).certificate
                if leaf == before:
                    file = str(self._store.current)
                    log.warning("credentials still contain the old client certificate", file=file)
                    await asyncio.sleep(signing_requests.DENIED_SECONDS)
        log.warning(
            "stopped renewing client certificate",
            reason="the credentials for the home cluster no longer contain the node's certificate",
        )

    async def _renew(self) -> None:
        pair = await signing_requests.request_certificate(
            self._home,
            signer=Signer.CLIENT,
            node=self._node,
            addresses=(),
            on_created=lambda name: log.info("client certificate requested", request=name),
            now=self._now,
        )
        log.info("client certificate renewed", until=str(pair.leaf.not_valid_after_utc))
        try:
            self._store.write(pair, now=self._now())
        except OSError as err:
            log.warning("failed to store client certificate", err=str(err))
