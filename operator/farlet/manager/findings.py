"""Findings about credentials, and the condition CredentialsValid that follows from them: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from farlet.manager.conditions import Condition, ConditionType

Status = Literal["True", "False", "Unknown"]


class Reason(StrEnum):
    """Reasons of the condition CredentialsValid; `docs/credentials.md` describes them."""

    VALID = "Valid"
    NOT_RENEWED = "NotRenewed"
    APPROVAL_REQUIRED = "ApprovalRequired"
    REQUEST_DENIED = "RequestDenied"
    CERTIFICATE_NOT_ISSUED = "CertificateNotIssued"
    CLIENT_CERTIFICATE_EXPIRING = "ClientCertificateExpiring"
    FOREIGN_KUBECONFIG_MISSING = "ForeignKubeconfigMissing"
    FOREIGN_KUBECONFIG_INVALID = "ForeignKubeconfigInvalid"
    FOREIGN_CREDENTIALS_REJECTED = "ForeignCredentialsRejected"
    FOREIGN_CREDENTIALS_EXPIRED = "ForeignCredentialsExpired"
    FOREIGN_CREDENTIALS_EXPIRING = "ForeignCredentialsExpiring"
    FOREIGN_TOKEN_RENEWAL_FAILED = "ForeignTokenRenewalFailed"  # noqa: S105
    NOT_VERIFIED = "NotVerified"


@dataclass(frozen=True, slots=True)
class Finding:
    """About the credentials for one cluster. True with a reason outside of `QUIET`: a warning."""

    status: Status
    reason: Reason
    message: str


QUIET = (Reason.NOT_RENEWED, Reason.VALID)
"""Reasons that need no attention now; in a condition, the first of them counts."""

_RANKS: dict[Status, int] = {"False": 0, "Unknown": 1, "True": 2}


_VALID = "; without a problem: "
"""Between what is wrong and what is not."""


def condition(found: Sequence[Finding]) -> Condition:
    """One condition for all of them: the worst, with all messages, the worst first.

    Messages may end with a command, so a semicolon follows and no full stop.
    """
    ranked = sorted(found, key=_rank)
    wrong = "; ".join(one.message for one in ranked if one.reason not in QUIET)
    valid = "; ".join(one.message for one in ranked if one.reason in QUIET)
    message = _VALID.join(text for text in (wrong, valid) if text)
    worst = ranked[0]
    return Condition(ConditionType.CREDENTIALS_VALID, worst.status, worst.reason.value, message)


def problems(message: str) -> str:
    """A message of the condition without credentials that are valid, beside others that are not."""
    return message.partition(_VALID)[0]


def _rank(found: Finding) -> tuple[int, int]:
    order = QUIET.index(found.reason) if found.reason in QUIET else -1
    return _RANKS[found.status], order


def time(moment: datetime) -> str:
    """The format of times in messages."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
