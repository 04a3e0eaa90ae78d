"""The token of farlet in the foreign cluster: when and for what to renew it. Pure.

A token of a ServiceAccount is renewed with itself, by the API TokenRequest. The new one is bound to
the Secret `farlet-token` of the system namespace, if there is one: deleting that Secret revokes all
of them. What is in the token is not verified here; the foreign API server does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from farlet import names
from farlet.client import json_web_token
from farlet.constants import JSON, ObjectKey
from farlet.manager import findings
from farlet.manager.findings import Finding, Reason

LIFETIME = timedelta(days=7)
"""As requested; API servers may grant less, and the granted one counts."""
MAX_CHARS = 16 << 10
WARN_PART = 2 / 3
"""The part of its lifetime after which a token that was not renewed is reported."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The Secret to which a token is bound."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says about itself; `None` if it says nothing."""

    account: ObjectKey | None = None
    issued: datetime | None = None
    expires: datetime | None = None
    bound: Bound | None = None

    @property
    def user(self) -> str:
        """The user name of its ServiceAccount."""
        return "" if self.account is None else names.account_user(*self.account)

    def at(self, part: float) -> datetime | None:
        """When this part of its lifetime is over."""
        if self.issued is None or self.expires is None:
            return None
        return self.issued + (self.expires - self.issued) * part


def read(token: str) -> Token:
    """Read its claims (`pkg/serviceaccount/claims.go`)."""
    claims = json_web_token.claims(token) if len(token) <= MAX_CHARS else None
    if claims is None:
        return Token()
    private = claims.get("kubernetes.io")
    return Token(
        account=_account(claims.get("sub")),
        issued=_moment(claims.get("iat")),
        expires=_moment(claims.get("exp")),
        bound=_bound(private.get("secret") if isinstance(private, dict) else None),
    )


def is_due(token: Token, *, now: datetime) -> bool:
    """Whether the manager should renew it: after half of its lifetime."""
    half = token.at(1 / 2)
    return token.account is not None and half is not None and now >= half


def request(bound: Bound | None, *, lifetime: timedelta = LIFETIME) -> JSON:
    spec: JSON = {"expirationSeconds": int(lifetime.total_seconds())}
    if bound is not None:
        spec["boundObjectRef"] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": bound.name,
            "uid": bound.uid,
        }
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": spec,
    }


def is_renewal(new: Token, of: Token, *, now: datetime) -> bool:
    """Whether a token is of the same account, valid, and as bound as the one before.

    It may expire earlier than that: an administrator's first token can be valid for a year.
    """
    return (
        new.account == of.account
        and new.expires is not None
        and new.expires > now
        and (of.bound is None or new.bound == of.bound)
    )


def report(token: Token, *, where: str, problem: str | None, now: datetime) -> Finding:
    """The finding for a token that the foreign API server accepts, unless it has expired.

    `problem`: why it was not renewed, if it is due.
    """
    if token.expires is None:
        return Finding("True", Reason.NOT_RENEWED, _not_renewed(token, where))
    return expiry(
        token.expires,
        what=f"the foreign token in {where}",
        warn_at=token.at(WARN_PART) or token.expires,
        renewal=token.at(1 / 2) if token.account is not None else None,
        problem=problem,
        now=now,
    )


def expiry(
    expires: datetime,
    *,
    what: str,
    warn_at: datetime,
    renewal: datetime | None,
    problem: str | None,
    now: datetime,
) -> Finding:
    """The finding for credentials that expire.

    `renewal`: when the manager renews them; `None`: it cannot.
    """
    until = findings.time(expires)
    replace = "run farlet connect again, or put a kubeconfig with new credentials into the Secret"
    never = "the manager cannot renew credentials of this kind"
    advice = f"{problem or ('it was not renewed in time' if renewal else never)}; {replace}"
    if now >= expires:
        return Finding(
            "False", Reason.FOREIGN_CREDENTIALS_EXPIRED, f"{what} expired at {until}: {advice}"
        )
    if now >= warn_at:
        return Finding(
            "True", Reason.FOREIGN_CREDENTIALS_EXPIRING, f"{what} expires at {until}: {advice}"
        )
    if problem is not None:
        return Finding(
            "True", Reason.FOREIGN_TOKEN_RENEWAL_FAILED, f"{what} expires at {until}: {advice}"
        )
    words = f"{what} is valid until {until}"
    if renewal is None:
        return Finding("True", Reason.NOT_RENEWED, f"{words}; {never}")
    return Finding("True", Reason.VALID, f"{words} and will be renewed at {findings.time(renewal)}")


def _not_renewed(token: Token, where: str) -> str:
    if token.account is None:
        return f"the foreign token in {where} is not of a ServiceAccount, so it is not renewed"
    return (
        f"the foreign token in {where} does not expire, so it is not renewed; farlet connect "
        "replaces it with one that does"
    )


def _account(subject: object) -> ObjectKey | None:
    if not isinstance(subject, str) or not subject.startswith(names.ACCOUNT_USER):
        return None
    namespace, _, name = subject.removeprefix(names.ACCOUNT_USER).partition(":")
    return ObjectKey(namespace, name) if namespace and name else None


def _moment(claim: object) -> datetime | None:
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        return datetime.fromtimestamp(claim, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _bound(secret: object) -> Bound | None:
    if not isinstance(secret, dict):
        return None
    name, uid = secret.get("name"), secret.get("uid")
    if not isinstance(name, str) or not isinstance(uid, str):
        return None
    return Bound(name, uid)
