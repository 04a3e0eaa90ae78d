"""Keeps the credentials of virtual nodes valid: the executor of the decisions in
`client_credentials` and `foreign_token`.

Everything that must survive a restart is in the Secrets. Each write names the version of the Secret
that it was decided on, and no Secret gets credentials that an API server has not accepted before.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from farlet import errors, names, retrying
from farlet.certs import key_pairs
from farlet.client import credentials, resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, TOKEN_BINDING, ObjectKey
from farlet.manager import client_credentials, findings, foreign_token, kubeconfigs
from farlet.manager.client_credentials import Granted, Stored
from farlet.manager.conditions import Condition
from farlet.manager.findings import Finding, Reason
from farlet.manager.foreign_token import Bound, Token
from farlet.manager.kubeconfig_client import Connect
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.virtual_node import Identity, VirtualNode

CHECK_EVERY = timedelta(minutes=1)
"""Between two checks of the credentials of a node while nothing has changed."""
VERIFY_EVERY = timedelta(minutes=10)
"""Accepted credentials are verified again after this time: they can be revoked."""
RETRY_SECONDS = (60.0, 1800.0)
"""First and longest pause after a renewal of a foreign token failed."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Verified:
    """What an API server said about credentials."""

    digest: bytes
    at: datetime
    user: str | None
    """`None`: it does not accept them."""


@dataclass(slots=True)
class _Failure:
    """A renewal that failed; the next attempt waits."""

    digest: bytes
    problem: str
    again: datetime
    backoff: retrying.Backoff


@dataclass(frozen=True, slots=True)
class _Check:
    """A check of the credentials of a node."""

    node: VirtualNode
    mounted: frozenset[str]
    rejected: frozenset[str]
    changes: int
    """How many changes of its Secrets and CSRs had been reported when it began."""
    at: datetime

    def suffices_for(self, other: _Check) -> bool:
        """Whether a later check would find the same."""
        same = replace(other, at=self.at) == self
        return same and other.at < self.at + CHECK_EVERY


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


class Credentials:
    """The credentials of all virtual nodes. For one event loop; one call per node at a time."""

    def __init__(
        self,
        home: HomeClient,
        *,
        now: Callable[[], datetime],
        connect: Connect,
    ) -> None:
        self._home = home
        self._now = now
        self._connect = connect
        self._verified: dict[tuple[ObjectKey, str], _Verified] = {}
        """By VirtualNode and name of the Secret, as `_failures`."""
        self._failures: dict[tuple[ObjectKey, str], _Failure] = {}
        self._changes: Counter[ObjectKey] = Counter()
        self._last: dict[ObjectKey, tuple[_Check, Condition]] = {}
        """The last check of each node, and what it has found."""

    def forget(self, key: ObjectKey) -> None:
        """The VirtualNode is gone."""
        self._verified = {one: found for one, found in self._verified.items() if one[0] != key}
        self._failures = {one: found for one, found in self._failures.items() if one[0] != key}
        self._last.pop(key, None)
        self._changes.pop(key, None)

    def changed(self, key: ObjectKey) -> None:
        """A Secret or a CSR of this VirtualNode has changed: its next check is due."""
        self._changes[key] += 1

    async def reconcile(
        self,
        node: VirtualNode,
        mounted: frozenset[str] = frozenset(),
        rejected: frozenset[str] = frozenset(),
    ) -> Condition:
        """Check the credentials of a node, and renew what is due: the condition CredentialsValid.

        `mounted` are the foreign Secrets that its pods mount, beside that of its spec; `rejected`
        are those that the foreign API server does not accept, as its pods report.
        Raises `FarletError` if the home API server does not answer or does not allow it. May be
        called at any time; it sends requests once a minute, and after `changed`.
        """
        check = _Check(node, mounted, rejected, self._changes[node.key], self._now())
        last = self._last.get(node.key)
        if last is not None and last[0].suffices_for(check):
            return last[1]
        found = await self._check(check)
        self._last[node.key] = check, found
        return found

    async def _check(self, check: _Check) -> Condition:
        for attempt in (1, 2):
            try:
                return findings.condition(await self._findings(check))
            except errors.Conflict:  # another client has changed the Secret: decide again
                if attempt == 2:
                    raise
        raise AssertionError("the loop returns or raises")

    async def _findings(self, wanted: _Check) -> list[Finding]:
        """About each of its credentials: what one check meets must not keep another from renewing.

        Raises what a check met, unless other credentials cannot be used: that is certain.
        """
        node = wanted.node
        secrets = (node.foreign_secret, *sorted(wanted.mounted - {node.foreign_secret}))
        checks = [
            functools.partial(self._foreign, node, name, rejected=name in wanted.rejected)
            for name in secrets
        ]
        if node.spec.identity is Identity.NODE:
            checks.append(functools.partial(self._client, node))
        found: list[Finding] = []
        failed: list[Exception] = []
        for check in checks:
            try:
                found.append(await check())
            except Exception as err:  # noqa: BLE001 - it is raised or logged below
                failed.append(err)
        if not failed:
            return found
        if isinstance(failed[0], errors.Conflict) or all(one.status != "False" for one in found):
            raise failed[0]
        log.warning("failed to check credentials", node=node.name, exc_info=failed[0])
        return found

    # --- client certificate in the home cluster ---------------------------------------------------

    async def _client(self, node: VirtualNode) -> Finding:
        where = f"Secret {node.namespace}/{node.home_secret}"
        secret = await self._secret(node, node.home_secret)
        stored = await asyncio.to_thread(
            client_credentials.read, _data(secret), node=node.name, where=where
        )
        config = stored.kubeconfig
        if config is not None and client_credentials.is_usable(stored, now=self._now()):
            user = await self._user(node, node.home_secret, "home", config)
            if user is not None and user.user != names.node_user(node.name):
                stored = client_credentials.rejected(stored, where=where)
            elif user is not None:
                secret = await self._trust_home(node, secret, config)
        if stored.leaf is not None and not client_credentials.is_due(stored, now=self._now()):
            return client_credentials.valid(stored.leaf)
        key = stored.pending
        if key is None:
            key = key_pairs.new_key()
            pending = key_pairs.key_pem(key).decode()
            secret = await self._write(
                node, node.home_secret, secret, {client_credentials.PENDING_KEY: pending}
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
        written = await self._write(
            node, node.home_secret, secret, {kubeconfigs.KEY: trusting.text()}
        )
        log.info("CA of the home cluster updated", node=node.name)
        return written

    async def _request(
        self, node: VirtualNode, secret: JSON, stored: Stored, key: ec.EllipticCurvePrivateKey
    ) -> Finding:
        name = client_credentials.request_name(node.name, key)
        csr = await self._signing_request(node, name, stored, key)
        progress = client_credentials.progress(csr, key, node=node.name, now=self._now())
        if isinstance(progress, Granted):
            config = self._home_config(progress.pair)
            user = await self._review("home", config)
            if user == names.node_user(node.name):
                content = {
                    kubeconfigs.KEY: config.text(),
                    client_credentials.PENDING_KEY: None,
                }
                await self._write(node, node.home_secret, secret, content)
                until = str(progress.pair.leaf.not_valid_after_utc)
                log.info("client certificate issued", node=node.name, until=until)
                return client_credentials.valid(progress.pair.leaf)
            problem = "the home API server does not accept its certificate"
            progress = client_credentials.useless(name, problem)
        return client_credentials.report(
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
        body = client_credentials.request_body(node.name, key, labels=node.labels)
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
        if stored.kubeconfig is not None and client_credentials.is_usable(stored, now=self._now()):
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

    # --- foreign cluster --------------------------------------------------------------------------

    async def _foreign(self, node: VirtualNode, name: str, *, rejected: bool) -> Finding:
        where = f"Secret {node.namespace}/{name}"
        if name != node.foreign_secret:
            where += ", which pods of an earlier spec mount,"
        secret = await self._secret(node, name)
        content = _data(secret).get(kubeconfigs.KEY)
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
        verified = await self._user(node, name, "foreign", config, rejected=rejected)
        if config.token is None:
            return _foreign_certificate(config, verified, where=where, secret=name, now=self._now())
        token = foreign_token.read(config.token)
        if verified is not None and verified.user is None:
            return (
                _rejected(name)
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
        digest, key = _digest(config), (node.key, name)
        failure = self._failures.get(key)
        if failure is None or failure.digest != digest:
            failure = None
        elif self._now() < failure.again:
            return token, failure.problem
        try:
            renewed, new = await self._new_token(config, token)
            await self._write(node, name, secret, {kubeconfigs.KEY: renewed.text()})
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
        self._verified[key] = _Verified(_digest(renewed), self._now(), new.user)
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
        if await self._review("foreign", renewed) != token.user:
            raise errors.StartError("the foreign API server does not accept the token it issued")
        return renewed, new

    # --- both -------------------------------------------------------------------------------------

    async def _user(
        self,
        node: VirtualNode,
        secret: str,
        cluster: credentials.Name,
        config: Kubeconfig,
        *,
        rejected: bool = False,
    ) -> _Verified | None:
        """What the API server said last about the credentials in a Secret; `None` while it does
        not answer.

        `rejected`: it answered a pod with 401. The pod can have read the Secret before its last
        change, so the API server is asked anew; if it does not answer, what the pod says counts.
        """
        reached = self._home_config(config.pair) if cluster == "home" else config
        known = self._verified.get((node.key, secret))
        digest, now = _digest(reached), self._now()
        if known is not None and known.digest != digest:
            known = None
        if known is not None and rejected:
            known = _Verified(digest, now, None)
        elif known is not None and known.user is not None and now < known.at + VERIFY_EVERY:
            return known
        try:
            user = await self._review(cluster, reached)
        except errors.FarletError as err:
            log.debug("failed to verify credentials", node=node.name, err=str(err))
            return known
        verified = self._verified[node.key, secret] = _Verified(digest, now, user)
        return verified

    async def _review(self, cluster: credentials.Name, config: Kubeconfig) -> str | None:
        """Which user the credentials are of; `None` if they are not accepted.

        Raises `FarletError` if the API server does not answer.
        """
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "SelfSubjectReview",
        }
        async with self._connect(cluster, config) as client:
            try:
                answer = await client.create(resources.SELF_REVIEWS, body)
            except errors.Unauthorized:
                return None
        return str(answer["status"]["userInfo"]["username"])

    async def _secret(self, node: VirtualNode, name: str) -> JSON | None:
        try:
            return await self._home.get(resources.WHOLE_SECRETS, name, namespace=node.namespace)
        except errors.NotFound:
            return None

    async def _write(
        self, node: VirtualNode, name: str, secret: JSON | None, content: Mapping[str, str | None]
    ) -> JSON:
        """Set keys of a Secret, as it was read, or create it. Raises `Conflict`."""
        data = {
            key: None if value is None else base64.b64encode(value.encode()).decode()
            for key, value in content.items()
        }
        if secret is None:
            body: JSON = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": name,
                    "namespace": node.namespace,
                    "labels": node.labels,
                    "ownerReferences": [node.owner],
                },
                "type": "Opaque",
                "data": data,
            }
            return await self._home.create(resources.WHOLE_SECRETS, body, namespace=node.namespace)
        version = secret["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "data": data}
        return await self._home.patch(resources.WHOLE_SECRETS, name, body, namespace=node.namespace)


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
    config: Kubeconfig, verified: _Verified | None, *, where: str, secret: str, now: datetime
) -> Finding:
    """The finding for a client certificate, which the manager cannot renew."""
    if config.pair is None:
        raise AssertionError("a kubeconfig has a token or a certificate")
    leaf = config.pair.leaf
    if verified is not None and verified.user is None and now < leaf.not_valid_after_utc:
        return _rejected(secret)
    found = foreign_token.expiry(
        leaf.not_valid_after_utc,
        what=f"the foreign client certificate in {where}",
        warn_at=client_credentials.renew_at(leaf),
        renewal=None,
        problem=None,
        now=now,
    )
    return found if verified is not None or found.status == "False" else _unverified(found)


def _expired(token: Token, now: datetime) -> bool:
    return token.expires is not None and now >= token.expires


def _rejected(secret: str) -> Finding:
    """In the words of farlet itself, so that readers recognize one cause."""
    text = errors.credentials_rejected("foreign", "Unauthorized")
    return Finding(
        "False",
        Reason.FOREIGN_CREDENTIALS_REJECTED,
        errors.with_secret(text, "foreign", secret),
    )


def _unverified(found: Finding) -> Finding:
    """`found`: what is known without an answer, such as when they expire."""
    message = f"the foreign API server did not answer, so this is not verified: {found.message}"
    return Finding("Unknown", Reason.NOT_VERIFIED, message)


def _data(secret: JSON | None) -> dict[str, bytes]:
    data = (secret or {}).get("data")
    found = {}
    for key, value in data.items() if isinstance(data, dict) else ():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found


def _digest(config: Kubeconfig) -> bytes:
    return hashlib.sha256(config.text().encode()).digest()
