"""Keeps the client certificate of each node valid: the executor of `client_certificate`.

No Secret gets a certificate that the home API server has not accepted before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from farlet import errors, names
from farlet.certs import key_pairs
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.manager import client_certificate, credential_secrets, kubeconfigs
from farlet.manager.client_certificate import Granted, Stored
from farlet.manager.findings import Finding
from farlet.manager.kubeconfig_client import Connect
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.verification import Verification
from farlet.manager.virtual_node import VirtualNode

log = structlog.get_logger()


class HomeClient(ApiClient, Protocol):
    """The manager's client for the home cluster. farlet uses the same address and CA as it does."""

    @property
    def server(self) -> str:
        """Base URL of the API server: in a pod, that of the Service `kubernetes`."""
        ...

    @property
    def ca_file(self) -> str | None:
        """The CA bundle of the API server; `None` for the system's CAs."""
        ...


class HomeCredentials:
    """The client certificates of all nodes. One call per node at a time."""

    def __init__(
        self,
        home: HomeClient,
        *,
        verification: Verification,
        connect: Connect,
        now: Callable[[], datetime],
    ) -> None:
        self._home = home
        self._verification = verification
        self._connect = connect
        self._now = now

    async def check(self, node: VirtualNode) -> Finding:
        """Whether its client certificate is valid; requests another one if it is due."""
        where = f"Secret {node.namespace}/{node.home_secret}"
        secret = await credential_secrets.read(self._home, node, node.home_secret)
        stored = await asyncio.to_thread(
            client_certificate.read, credential_secrets.data(secret), node=node.name, where=where
        )
        config = stored.kubeconfig
        if config is not None and client_certificate.is_usable(stored, now=self._now()):
            user = await self._verification.of(
                node, node.home_secret, "home", self._home_config(config.pair)
            )
            if user is not None and user.user != names.node_user(node.name):
                stored = client_certificate.rejected(stored, where=where)
            elif user is not None:
                secret = await self._trust_home(node, secret, config)
        if stored.leaf is not None and not client_certificate.is_due(stored, now=self._now()):
            return client_certificate.valid(stored.leaf)
        key = stored.pending
        if key is None:
            key = key_pairs.new_key()
            pending = key_pairs.key_pem(key).decode()
            secret = await credential_secrets.write(
                self._home,
                node,
                node.home_secret,
                secret,
                {client_certificate.PENDING_KEY: pending},
            )
        return await self._request(node, secret or {}, stored, key)

    async def _trust_home(
        self, node: VirtualNode, secret: JSON | None, config: Kubeconfig
    ) -> JSON | None:
        """The Secret with the CA with which the API server has just accepted its certificate.

        A kubeconfig for another address, which a person has written, keeps its own CA.
        """
        current = self._home_config(config.pair)
        if (
            config.insecure
            or config.server != current.server
            or current.authority in (None, config.authority)
        ):
            return secret
        trusting = replace(config, authority=current.authority)
        written = await credential_secrets.write(
            self._home, node, node.home_secret, secret, {kubeconfigs.KEY: trusting.text()}
        )
        log.info("CA of the home cluster updated", node=node.name)
        return written

    async def _request(
        self, node: VirtualNode, secret: JSON, stored: Stored, key: ec.EllipticCurvePrivateKey
    ) -> Finding:
        name = client_certificate.request_name(node.name, key)
        csr = await self._signing_request(node, name, stored, key)
        progress = client_certificate.progress(csr, key, node=node.name, now=self._now())
        if isinstance(progress, Granted):
            config = self._home_config(progress.pair)
            user = await self._verification.user("home", config)
            if user == names.node_user(node.name):
                content = {
                    kubeconfigs.KEY: config.text(),
                    client_certificate.PENDING_KEY: None,
                }
                await credential_secrets.write(self._home, node, node.home_secret, secret, content)
                until = str(progress.pair.leaf.not_valid_after_utc)
                log.info("client certificate issued", node=node.name, until=until)
                return client_certificate.valid(progress.pair.leaf)
            problem = "the home API server does not accept its certificate"
            progress = client_certificate.useless(name, problem)
        return client_certificate.report(
            progress, stored, node=node.name, name=name, now=self._now()
        )

    async def _signing_request(
        self, node: VirtualNode, name: str, stored: Stored, key: ec.EllipticCurvePrivateKey
    ) -> JSON:
        """The CSR of this name, created if it does not exist."""
        try:
            return await self._home.get(resources.SIGNING_REQUESTS, name)
        except errors.NotFound:
            pass
        body = client_certificate.request_body(node.name, key, labels=node.labels)
        try:
            csr = await self._create_request(body, stored)
        except errors.Conflict:  # an answer was lost
            return await self._home.get(resources.SIGNING_REQUESTS, name)
        log.info("client certificate requested", node=node.name, request=name)
        return csr

    async def _create_request(self, body: JSON, stored: Stored) -> JSON:
        """Create it as the node, if that can authenticate: then its approval can be automatic.

        kube-controller-manager approves only what a node requests for itself.
        """
        if stored.kubeconfig is not None and client_certificate.is_usable(stored, now=self._now()):
            try:
                config = self._home_config(stored.kubeconfig.pair)
                async with self._connect("home", config) as client:
                    return await client.create(resources.SIGNING_REQUESTS, body)
            except (errors.Unauthorized, errors.Forbidden, errors.StartError) as err:
                log.warning("node cannot request its certificate", err=str(err))
        return await self._home.create(resources.SIGNING_REQUESTS, body)

    def _home_config(self, pair: key_pairs.KeyPair | None) -> Kubeconfig:
        """Credentials of a node, with the address and the CA that the manager itself uses."""
        file = self._home.ca_file
        authority = None if file is None else Path(file).read_text(encoding="utf-8")
        return Kubeconfig(self._home.server, authority=authority, pair=pair)
