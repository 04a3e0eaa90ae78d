"""Who calls the kubelet API, and whether they may.

As a kubelet has it with webhook authentication and authorization (`cmd/kubelet/app/auth.go`,
`pkg/kubelet/server/auth.go`): a client certificate, else a bearer token that home's API server
reviews, and then home's API server says whether that user may do this to `nodes/<subresource>` of
our node. Nobody is let in for want of an answer, and anonymous callers never are. No token is
kept, in memory neither: answers are found by a keyed hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from farlet import errors, retrying
from farlet.certs.client_ca import ClientCA
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.kubelet.responses import Refusal
from farlet.kubelet.single_flight_cache import Answer, SingleFlightCache

GOOD_TOKEN_SECONDS = 120.0
"""`authentication.webhook.cacheTTL` of a kubelet's configuration."""
BAD_TOKEN_SECONDS = 10.0
"""Shorter than a kubelet's: a token may be good a moment later, as for a new account."""
ALLOWED_SECONDS = 300.0
"""`authorization.webhook.cacheAuthorizedTTL`."""
DENIED_SECONDS = 30.0
"""`authorization.webhook.cacheUnauthorizedTTL`."""
REMEMBERED = 1024
"""Answers of each kind that are kept."""

AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"

_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
"""A user's uid within the subject (`k8s.io/apiserver/pkg/authentication/request/x509`)."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class User:
    """Who calls, as home's API server means it."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Authenticator:
    """Finds out who calls."""

    def __init__(
        self,
        home: ApiClient,
        client_ca: ClientCA,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = retrying.utc_now,
    ) -> None:
        self._home = home
        self._client_ca = client_ca
        self._now = now
        self._reviews: SingleFlightCache[User | None] = SingleFlightCache(
            size=REMEMBERED, clock=clock
        )
        self._key = secrets.token_bytes(32)

    async def who(
        self, peer_certificate_der: bytes | None, authorization: str | None
    ) -> User | None:
        """The caller, or `None`: 401.

        `peer_certificate_der`: what TLS has verified; `authorization`: the header's value.
        """
        if peer_certificate_der is not None:
            user = self._of_certificate(peer_certificate_der)
            if user is not None:
                return user
        token = _bearer(authorization)
        return None if token is None else await self._of_token(token)

    def _of_certificate(self, der: bytes) -> User | None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            if not self._client_ca.vouches(certificate, self._now()):
                return None
            return _named(certificate)
        except ValueError:  # what OpenSSL reads and cryptography does not
            return None

    async def _of_token(self, token: str) -> User | None:
        async def ask() -> Answer[User | None]:
            body = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token},
            }
            answer = await self._home.create(resources.TOKEN_REVIEWS, body)
            user = _reviewed(answer.get("status") or {})
            return Answer(user, GOOD_TOKEN_SECONDS if user else BAD_TOKEN_SECONDS)

        key = hmac.digest(self._key, token.encode(), "sha256")
        try:
            return await self._reviews.get(key, ask)
        except (errors.FarletError, TimeoutError) as err:
            log.warning("bearer token was not reviewed", err=str(err) or "timed out")
            return None


class Authorizer:
    """Finds out whether a caller may do something to our node."""

    def __init__(
        self,
        home: ApiClient,
        *,
        node: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._node = node
        self._reviews: SingleFlightCache[bool] = SingleFlightCache(size=REMEMBERED, clock=clock)

    async def may(self, user: User, verb: str, path: str, subresources: Sequence[str]) -> bool:
        """Whether any of `nodes/<subresource>` is allowed; asked for one after the other.

        `path` is for the log. Raises `Refusal` (500) when there is no answer.
        """
        for subresource in subresources:
            try:
                if await self._allowed(user, verb, subresource):
                    return True
            except (errors.FarletError, TimeoutError) as err:
                log.warning(
                    "access was not reviewed",
                    user=user.name,
                    path=path,
                    err=str(err) or "timed out",
                )
                raise Refusal(
                    500,
                    f"Authorization error (user={user.name}, verb={verb}, resource=nodes, "
                    f"subresource={subresource})",
                ) from err
        log.info("kubelet API was forbidden", user=user.name, verb=verb, path=path)
        return False

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        spec: JSON = {
            "user": user.name,
            "uid": user.uid,
            "groups": user.groups,
            "extra": dict(user.extra),
            "resourceAttributes": {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._node,
            },
        }

        async def ask() -> Answer[bool]:
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": spec,
            }
            answer = await self._home.create(resources.ACCESS_REVIEWS, body)
            status = answer.get("status") or {}
            allowed = status.get("allowed") is True and status.get("denied") is not True
            return Answer(allowed, ALLOWED_SECONDS if allowed else DENIED_SECONDS)

        return await self._reviews.get(hashlib.sha256(orjson.dumps(spec)).digest(), ask)


def forbidden(user: User, verb: str, subresources: Sequence[str]) -> Refusal:
    """What a kubelet answers to whom it knows, but who may not."""
    return Refusal(
        403,
        f"Forbidden (user={user.name}, verb={verb}, resource=nodes, "
        f"subresource(s)=[{' '.join(subresources)}])\n",
    )


def unauthorized() -> Refusal:
    """What a kubelet answers to whom it does not know."""
    return Refusal(401, "Unauthorized")


def _bearer(authorization: str | None) -> str | None:
    """The token of the header, read as `bearertoken.go` of `k8s.io/apiserver` does."""
    scheme, *rest = (authorization or "").strip().split(" ", 2)
    if scheme.lower() != "bearer" or not rest or not rest[0].isascii():
        return None
    return rest[0] or None


def _named(certificate: x509.Certificate) -> User | None:
    """`CommonNameUserConversion` of `k8s.io/apiserver`. Raises `ValueError` for two uids."""
    subject = certificate.subject
    names, groups, uids = (
        [str(part.value) for part in subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, _UID)
    )
    if not names or not names[-1]:
        return None
    if len(uids) > 1 or uids == [""]:
        raise ValueError("a certificate with more than one uid, or an empty one")
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    return User(
        name=names[-1],
        groups=_authenticated(groups),
        uid="".join(uids),
        extra=((_CREDENTIAL_ID, (f"X509SHA256={digest}",)),),
    )


def _reviewed(status: JSON) -> User | None:
    user = status.get("user") or {}
    if status.get("authenticated") is not True or not user.get("username"):
        return None
    extra = user.get("extra") or {}
    return User(
        name=str(user["username"]),
        groups=_authenticated(user.get("groups") or ()),
        uid=str(user.get("uid", "")),
        extra=tuple((str(key), tuple(extra[key])) for key in sorted(extra)),
    )


def _authenticated(groups: Sequence[str]) -> tuple[str, ...]:
    """With the group of everybody who is known (`group.NewAuthenticatedGroupAdder`)."""
    known = {AUTHENTICATED, UNAUTHENTICATED}.intersection(groups)
    return tuple(groups) if known else (*groups, AUTHENTICATED)
