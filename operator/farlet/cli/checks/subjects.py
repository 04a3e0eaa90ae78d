"""Whose permissions are reviewed: those of the caller, or of the farlet that serves the node.

The permissions of an administrator say nothing about the farlet that is installed. So each API
server reviews those of the identity that it has there, and the foreign one its token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.x509.oid import NameOID

from farlet import errors, names
from farlet.certs.key_pairs import KeyPair
from farlet.cli.checks import installed
from farlet.cli.checks.findings import ANSWER_SECONDS, Finding, Outcome
from farlet.cli.reading import Absent, Unread, clean, read
from farlet.client import kinds, resources, reviews
from farlet.client.cluster import Cluster
from farlet.client.reviews import User
from farlet.install import credentials
from farlet.manager.virtual_node import FARLET, Identity, VirtualNode
from farlet.node import prerequisites
from farlet.rbac import Permission, Side, Where
from farlet.settings import Settings

REVIEW_SECONDS = 5.0

CREDENTIALS = "foreign credentials"
ACCEPTED = "a token of "
"""What begins the finding about one that the foreign API server has accepted."""
_AUTHENTICATED = "system:authenticated"
_ACCOUNTS = "system:serviceaccounts"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose permissions an API server reviews: the identity of farlet in one cluster."""

    cluster: Cluster
    user: User
    is_caller: bool = True
    """Whether it sends the requests itself."""

    def reviewed(self, count: int) -> str:
        """All permissions that were reviewed, which it has."""
        return f"{count} reviewed" + ("" if self.is_caller else f" for {self.user.name}")

    def lacks(self, denied: Iterable[tuple[Permission, list[str]]]) -> str:
        """Such as `not allowed to get, watch pods; create secrets`."""
        texts = [
            f"{', '.join(verbs)} {row.resource}{f'.{row.group}' if row.group else ''}"
            f"{_SCOPE.get(row.where, '')}"
            for row, verbs in denied
        ]
        who = "" if self.is_caller else f"{self.user.name} is "
        return f"{who}not allowed to {'; '.join(texts)}"


_SCOPE = {
    where: f" in {where.value}"
    for where in (Where.DEFAULT, Where.KUBE_NODE_LEASE, Where.KUBE_SYSTEM)
}


def account(namespace: str, name: str) -> User:
    """A ServiceAccount."""
    groups = (_ACCOUNTS, f"{_ACCOUNTS}:{namespace}", _AUTHENTICATED)
    return User(names.account_user(namespace, name), frozenset(groups))


async def of(
    settings: Settings,
    found: installed.Installation,
    clusters: tuple[Cluster, Cluster],
    callers: Mapping[str, User | None],
    *,
    confirmed: bool,
) -> tuple[list[Finding], dict[str, Subject]]:
    """Its identities, by cluster; findings about its credentials, and about what is not checked.

    `clusters`: home and foreign. `confirmed`: that is the foreign cluster of the node. The token is
    shown to no other one.
    """
    home, foreign = clusters
    declared = found.declared()
    if declared is None:
        why = "which credentials its pods use is not known"
        return [installed.not_checked("permissions of farlet", why, settings)], {}
    at_home = await _subject(
        "home permissions", settings, home, _home_user(declared), callers.get("home")
    )
    user = None
    if confirmed:
        seen, user = await _foreign_user(settings, declared, home, foreign)
    else:
        why = "this is perhaps not the foreign cluster of the node"
        seen = installed.not_checked(CREDENTIALS, why, settings)
    results = [at_home, seen]
    if user is not None:
        caller = callers.get("foreign")
        results.append(await _subject("foreign permissions", settings, foreign, user, caller))
    return (
        [one for one in results if isinstance(one, Finding)],
        {one.cluster.name: one for one in results if isinstance(one, Subject)},
    )


def _home_user(declared: VirtualNode) -> User:
    if declared.spec.identity is Identity.SERVICE_ACCOUNT:
        return account(declared.namespace, declared.object_name)
    return User(names.node_user(declared.name), frozenset({names.NODES, _AUTHENTICATED}))


async def _foreign_user(
    settings: Settings, declared: VirtualNode, home: Cluster, foreign: Cluster
) -> tuple[Finding, User | None]:
    """Its credentials in the foreign cluster, and its identity there, if they are accepted."""
    where = f"the Secret {FARLET}/{declared.foreign_secret}"
    secret = await read(home.get(kinds.SECRETS, declared.foreign_secret, namespace=FARLET))
    if isinstance(secret, Unread):
        return installed.not_checked(CREDENTIALS, f"{where}: {secret.why}", settings), None
    if isinstance(secret, Absent):
        hint = "run farlet connect again, or see docs/how-to/renew-credentials.md"
        return Finding(CREDENTIALS, Outcome.FAILED, f"{where} does not exist", hint), None
    kubeconfig = credentials.of_secret(secret)
    if kubeconfig is None:
        seen = f"{where} contains no kubeconfig with a token or a certificate"
        return installed.not_checked(CREDENTIALS, seen, settings), None
    if kubeconfig.token is not None:
        return await _of_token(settings, declared.foreign_secret, foreign, kubeconfig.token)
    assert kubeconfig.pair is not None
    return _of_certificate(kubeconfig.pair)


async def _of_token(
    settings: Settings, secret: str, foreign: Cluster, token: str
) -> tuple[Finding, User | None]:
    try:
        answer = await foreign.request_unqueued(
            "POST", resources.TOKEN_REVIEWS, body=reviews.token(token), seconds=REVIEW_SECONDS
        )
    except errors.Forbidden:
        why = "these credentials are not allowed to create tokenreviews in the foreign cluster"
        return installed.not_checked(CREDENTIALS, why, settings), None
    except errors.FarletError as err:
        return installed.not_checked(CREDENTIALS, clean(err), settings), None
    status = answer.get("status") or {}
    if status.get("authenticated") is not True:
        why = clean(status.get("error") or "Unauthorized", most=installed.MESSAGE_CHARS)
        rejected = errors.credentials_rejected("foreign", why, node=settings.nodename)
        hint = errors.with_secret(rejected, "foreign", secret)
        return Finding(CREDENTIALS, Outcome.FAILED, "its token is not accepted", hint), None
    user = reviews.user(status.get("user") or {})
    return Finding(CREDENTIALS, Outcome.OK, f"{ACCEPTED}{user.name}"), user


def _of_certificate(pair: KeyPair) -> tuple[Finding, User]:
    """As the API server reads it (`CommonNameUserConversion` in `k8s.io/apiserver`)."""
    name, groups = (
        [str(one.value) for one in pair.leaf.subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    )
    user = User("".join(name)[:300], frozenset((*groups, _AUTHENTICATED)))
    return Finding(CREDENTIALS, Outcome.OK, f"a client certificate of {user.name}"), user


async def _subject(
    what: str, settings: Settings, cluster: Cluster, user: User, caller: User | None
) -> Subject | Finding:
    if caller is not None and caller.name == user.name:
        return Subject(cluster, caller)
    side = Side(cluster.name)
    reviewing = Permission(
        side, Where.CLUSTER, "authorization.k8s.io", "subjectaccessreviews", ("create",), ""
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            denied = await prerequisites.denied_verbs(cluster, reviewing)
    except (errors.FarletError, TimeoutError) as err:
        return installed.not_checked(what, clean(err), settings)
    if denied:
        why = "these credentials are not allowed to create subjectaccessreviews"
        return installed.not_checked(what, f"{why} in the {side.value} cluster", settings)
    return Subject(cluster, user, is_caller=False)
