"""Claims of a JSON Web Token, unverified: for refreshes and reports. They decide no access."""

from __future__ import annotations

import base64
import binascii
from typing import Literal

import orjson

from farlet.constants import JSON


def moment(token: str, claim: Literal["iat", "exp"]) -> float | None:
    """A claim in epoch seconds, by the clock of the issuer; `None` for a token of another kind."""
    found = (claims(token) or {}).get(claim)
    return found if type(found) in (int, float) else None


def claims(token: str) -> JSON | None:
    """All claims; `None` for a token of another kind."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        found = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return found if isinstance(found, dict) else None
