"""Keeps the certificate good with which farlet is a node at home.

As a kubelet does it: the new one lies beside the kubeconfig, never in it, and connections take it
from there (`credentials.py`). Runs whether this process leads or not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog

from farlet import errors, retrying
from farlet.certs import key_pairs, signing_requests
from farlet.client import cluster
from farlet.client.api_client import ApiClient
from farlet.client.credentials import Login

LOOK_SECONDS = 10.0
"""How often the clock and the login are looked at; not before connections look at the files."""
CLIENT = "kubelet-client"
"""How the files of the folder are called."""

log = structlog.get_logger()


class NodeClient(ApiClient, Protocol):
    """A client that shows what it logs in with."""

    async def login(self) -> Login:
        """What new connections are made with."""
        ...


class ClientCertificate:
    """`folder.current` must be what the connection looks at (`ClusterSource.rotated`)."""

    def __init__(
        self,
        home: NodeClient,
        *,
        node: str,
        folder: key_pairs.CertificateStore,
        now: Callable[[], datetime] = retrying.utc_now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._home = home
        self._node = node
        self._folder = folder
        self._now = now
        self._jitter = jitter

    async def run(self) -> None:
        """Renew for ever. Raises `StartError` at once if farlet does not log in as this node."""
        leaf = (await self._home.login()).certificate
        if leaf is None or not key_pairs.is_node(leaf, self._node):
            raise errors.StartError(
                f"--rotate-certificates renews the certificate of {key_pairs.user(self._node)} in "
                f"{key_pairs.NODES}, but farlet does not log in with one at home: give the "
                "kubeconfig of the node by --home-kubeconfig, or leave --rotate-certificates out"
            )
        while leaf is not None and key_pairs.is_node(leaf, self._node):
            due = key_pairs.due(leaf, self._jitter())
            before = leaf
            while leaf == before and self._now() < due:
                await asyncio.sleep(LOOK_SECONDS)
                leaf = (await self._home.login()).certificate
            if leaf == before:
                await self._renew()
                await asyncio.sleep(LOOK_SECONDS)
                leaf = (await self._home.login()).certificate
                if leaf == before:
                    file = str(self._folder.current)
                    log.warning("renewed client certificate is not used", file=file)
                    await asyncio.sleep(signing_requests.DENIED_SECONDS)
        log.warning("client certificate is renewed no more", reason="home was given another login")

    async def _renew(self) -> None:
        pair = await signing_requests.obtained(
            self._home,
            signing_requests.Unqueued(self._home, seconds=cluster.REQUEST_SECONDS),
            signer=signing_requests.Signer.CLIENT,
            node=self._node,
            addresses=(),
            asked=lambda name: log.info("client certificate was asked for", request=name),
            now=self._now,
        )
        log.info("client certificate was renewed", until=str(pair.leaf.not_valid_after_utc))
        try:
            self._folder.store(pair, now=self._now())
        except OSError as err:
            log.warning("certificate was not stored", err=str(err))
