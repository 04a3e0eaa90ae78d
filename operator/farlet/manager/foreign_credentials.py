"""Checks the foreign credentials of virtual nodes, and renews tokens: the executor of
`foreign_token`.

No Secret gets a token that the foreign API server has not accepted before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from farlet import errors, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, TOKEN_BINDING, ObjectKey
from farlet.manager import (
    client_certificate,
    credential_secrets,
    foreign_token,
    kubeconfigs,
    verification,
)
from farlet.manager.findings import Finding, Reason
from farlet.manager.foreign_token import Bound, Token
from farlet.manager.kubeconfig_client import Connect
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.verification import Verification, Verified
from farlet.manager.virtual_node import VirtualNode

RETRY_SECONDS = (60.0, 1800.0)
"""First and longest pause after a renewal failed."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Failure:
    """A renewal that failed; the next attempt waits."""

    digest: bytes
    problem: str
    again: datetime
    backoff: retrying.Backoff


class ForeignCredentials:
    """The foreign credentials of all virtual nodes. One call per node at a time."""

    def __init__(
        self,
        home: ApiClient,
        *,
        verification: Verification,
        connect: Connect,
        now: Callable[[], datetime],
    ) -> None:
        self._home = home
        self._verification = verification
        self._connect = connect
        self._now = now
        self._failures: dict[tuple[ObjectKey, str], _Failure] = {}
        """By VirtualNode and name of the Secret."""

    def forget(self, key: ObjectKey) -> None:
        """The VirtualNode is gone."""
        self._failures = {one: found for one, found in self._failures.items() if one[0] != key}

    async def check(self, node: VirtualNode, name: str, *, rejected: bool) -> Finding:
        """Whether the credentials in a Secret are valid; renews a token that is due.

        `rejected`: the foreign API server does not accept them, as a pod reports.
        """
        where = f"Secret {node.namespace}/{name}"
        if name != node.foreign_secret:
            where += ", which pods of an earlier spec mount,"
        secret = await credential_secrets.read(self._home, node, name)
        content = credential_secrets.data(secret).get(kubeconfigs.KEY)
        if secret is None or content is None:
            return Finding(
                "False",
                Reason.FOREIGN_KUBECONFIG_MISSING,
                f"{where} does not exist or has no key {kubeconfigs.KEY}: run farlet connect, or "
                f"kubectl -n {node.namespace} create secret generic {name} "
                f"--from-file {kubeconfigs.KEY}=FILE",
            )
        try:
            config = await asyncio.to_thread(kubeconfigs.parse, content)
        except kubeconfigs.Unusable as err:
            message = f"the kubeconfig in {where} cannot be used: {err}"
            return Finding("False", Reason.FOREIGN_KUBECONFIG_INVALID, message)
        verified = await self._verification.of(node, name, "foreign", config, rejected=rejected)
        if config.token is None:
            return _foreign_certificate(
                node, config, verified, where=where, secret=name, now=self._now()
            )
        token = foreign_token.read(config.token)
        if verified is not None and verified.user is None:
            return (
                _rejected(node, name)
                if not _expired(token, self._now())
                else foreign_token.report(token, where=where, problem=None, now=self._now())
            )
        problem = None
        if verified is not None and foreign_token.is_due(token, now=self._now()):
            token, problem = await self._renew(node, name, secret, config, token)
        found = foreign_token.report(token, where=where, problem=problem, now=self._now())
        return found if verified is not None or found.status == "False" else _unverified(found)

    async def _renew(
        self, node: VirtualNode, name: str, secret: JSON, config: Kubeconfig, token: Token
    ) -> tuple[Token, str | None]:
        """The token that is used from now on, and why it is the old one."""
        digest, key = verification.digest(config), (node.key, name)
        failure = self._failures.get(key)
        if failure is None or failure.digest != digest:
            failure = None
        elif self._now() < failure.again:
            return token, failure.problem
        try:
            renewed, new = await self._new_token(config, token)
            await credential_secrets.write(
                self._home, node, name, secret, {kubeconfigs.KEY: renewed.text()}
            )
        except errors.Conflict:
            raise
        except errors.FarletError as err:
            problem = f"its renewal failed: {err}"
            backoff = failure.backoff if failure else retrying.Backoff(*RETRY_SECONDS)
            again = self._now() + timedelta(seconds=backoff.next())
            self._failures[key] = _Failure(digest, problem, again, backoff)
            log.warning("failed to renew foreign token", node=node.name, err=str(err))
            return token, problem
        self._failures.pop(key, None)
        self._verification.accepted(node, name, renewed, user=new.user)
        log.info("foreign token renewed", node=node.name, until=str(new.expires))
        return new, None

    async def _new_token(self, config: Kubeconfig, token: Token) -> tuple[Kubeconfig, Token]:
        """A token that the foreign API server has accepted. Raises `FarletError`."""
        account = token.account
        if account is None:
            raise errors.StartError("the token is not of a ServiceAccount")
        async with self._connect("foreign", config) as client:
            bound = token.bound or await _binding(client, account.namespace)
            try:
                answer = await client.create(
                    resources.TOKEN_REQUESTS,
                    foreign_token.request(bound),
                    namespace=account.namespace,
                    name=account.name,
                )
            except errors.Conflict as err:
                raise errors.StartError(
                    f"the Secret {account.namespace}/{TOKEN_BINDING} in the foreign "
                    "cluster, to which the token is bound, was deleted"
                ) from err
        text = (answer.get("status") or {}).get("token")
        if not isinstance(text, str) or not text.isprintable():
            raise errors.StartError("the foreign API server returned no token")
        renewed, new = config.with_token(text), foreign_token.read(text)
        if not foreign_token.is_renewal(new, of=token, now=self._now()):
            raise errors.StartError(
                "the foreign API server returned a token of another account, that is not bound to "
                "the same Secret, or that has expired"
            )
        if await self._verification.user("foreign", renewed) != token.user:
            raise errors.StartError("the foreign API server does not accept the token it issued")
        return renewed, new


async def _binding(client: ApiClient, namespace: str) -> Bound | None:
    """The Secret to bind an unbound token to, if it exists and farlet is allowed to read it."""
    try:
        found = await client.get(
            resources.SECRETS.metadata_only, TOKEN_BINDING, namespace=namespace
        )
    except (errors.NotFound, errors.Forbidden):
        return None
    return Bound(TOKEN_BINDING, found["metadata"]["uid"])


def _foreign_certificate(
    node: VirtualNode,
    config: Kubeconfig,
    verified: Verified | None,
    *,
    where: str,
    secret: str,
    now: datetime,
) -> Finding:
    """The finding for a client certificate, which the manager cannot renew."""
    if config.pair is None:
        raise AssertionError("a kubeconfig has a token or a certificate")
    leaf = config.pair.leaf
    if verified is not None and verified.user is None and now < leaf.not_valid_after_utc:
        return _rejected(node, secret)
    found = foreign_token.expiry(
        leaf.not_valid_after_utc,
        what=f"the foreign client certificate in {where}",
        warn_at=client_certificate.renew_at(leaf),
        renewal=None,
        problem=None,
        now=now,
    )
    return found if verified is not None or found.status == "False" else _unverified(found)


def _expired(token: Token, now: datetime) -> bool:
    return token.expires is not None and now >= token.expires


def _rejected(node: VirtualNode, secret: str) -> Finding:
    """In the words of farlet itself, so that readers recognize one cause."""
    text = errors.credentials_rejected("foreign", "Unauthorized", node=node.name)
    return Finding(
        "False",
        Reason.FOREIGN_CREDENTIALS_REJECTED,
        errors.with_secret(text, "foreign", secret),
    )


def _unverified(found: Finding) -> Finding:
    """`found`: what is known without an answer, such as when they expire."""
    message = f"the foreign API server did not answer, so this is not verified: {found.message}"
    return Finding("Unknown", Reason.NOT_VERIFIED, message)
