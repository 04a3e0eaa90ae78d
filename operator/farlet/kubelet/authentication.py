"""Identifies the caller of the kubelet API.

As a kubelet does with webhook authentication (`cmd/kubelet/app/auth.go`): by a client certificate,
else by a bearer token that the home API server reviews (TokenReview). A caller is rejected if the
review fails; anonymous callers always are. Tokens are not kept, not even in memory: reviews are
cached by a keyed hash.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from farlet import errors
from farlet.certs.client_ca import ClientCA
from farlet.client import resources, reviews
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.kubelet.responses import Refusal
from farlet.kubelet.single_flight_cache import Entry, SingleFlightCache

VALID_TOKEN_SECONDS = 120.0
"""`authentication.webhook.cacheTTL` of a kubelet's configuration."""
INVALID_TOKEN_SECONDS = 10.0
"""Shorter than a kubelet's: the token of a new account may become valid a moment later."""
MAX_CACHED = 1024

AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"


_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
"""A user's uid within the subject (`k8s.io/apiserver/pkg/authentication/request/x509`)."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class User:
    """A caller, in the terms of the home API server."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Authenticator:
    """Identifies callers by certificate or token."""

    def __init__(
        self,
        home: ApiClient,
        client_ca: ClientCA,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._client_ca = client_ca
        self._now = now
        self._reviews: SingleFlightCache[User | None] = SingleFlightCache(
            size=MAX_CACHED, clock=clock
        )
        self._key = secrets.token_bytes(32)

    async def authenticate(
        self, peer_certificate_der: bytes | None, authorization: str | None
    ) -> User | None:
        """The caller, or `None` (401).

        `peer_certificate_der` is the certificate that TLS has verified, `authorization` the value
        of the header.
        """
        if peer_certificate_der is not None:
            user = self._from_certificate(peer_certificate_der)
            if user is not None:
                return user
        token = _bearer(authorization)
        return None if token is None else await self._from_token(token)

    def _from_certificate(self, der: bytes) -> User | None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            if not self._client_ca.verifies(certificate, self._now()):
                return None
            return _certificate_user(certificate)
        except ValueError:  # OpenSSL reads it, cryptography does not
            return None

    async def _from_token(self, token: str) -> User | None:
        async def review() -> Entry[User | None]:
            answer = await self._home.create(resources.TOKEN_REVIEWS, reviews.token(token))
            user = _reviewed_user(answer.get("status") or {})
            return Entry(user, VALID_TOKEN_SECONDS if user else INVALID_TOKEN_SECONDS)

        key = hmac.digest(self._key, token.encode(), "sha256")
        try:
            return await self._reviews.get(key, review)
        except (errors.FarletError, TimeoutError) as err:
            log.warning("failed to review bearer token", err=str(err) or "timed out")
            return None


def unauthorized() -> Refusal:
    """A kubelet's answer to an unauthenticated caller."""
    return Refusal(401, "Unauthorized")


def _bearer(authorization: str | None) -> str | None:
    """The token of the header, read as `bearertoken.go` of `k8s.io/apiserver` does."""
    scheme, *rest = (authorization or "").strip().split(" ", 2)
    if scheme.lower() != "bearer" or not rest or not rest[0].isascii():
        return None
    return rest[0] or None


def _certificate_user(certificate: x509.Certificate) -> User | None:
    """`CommonNameUserConversion` of `k8s.io/apiserver`. Raises `ValueError` for two uids."""
    subject = certificate.subject
    names, groups, uids = (
        [str(part.value) for part in subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, _UID)
    )
    if not names or not names[-1]:
        return None
    if len(uids) > 1 or uids == [""]:
        raise ValueError("the certificate contains more than one uid, or an empty one")
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    return User(
        name=names[-1],
        groups=_with_authenticated(groups),
        uid="".join(uids),
        extra=((_CREDENTIAL_ID, (f"X509SHA256={digest}",)),),
    )


def _reviewed_user(status: JSON) -> User | None:
    user = status.get("user") or {}
    if status.get("authenticated") is not True or not user.get("username"):
        return None
    extra = user.get("extra") or {}
    return User(
        name=str(user["username"]),
        groups=_with_authenticated(user.get("groups") or ()),
        uid=str(user.get("uid", "")),
        extra=tuple((str(key), tuple(extra[key])) for key in sorted(extra)),
    )


def _with_authenticated(groups: Sequence[str]) -> tuple[str, ...]:
    """Adds the group of all authenticated users (`group.NewAuthenticatedGroupAdder`)."""
    present = {AUTHENTICATED, UNAUTHENTICATED}.intersection(groups)
    return tuple(groups) if present else (*groups, AUTHENTICATED)
