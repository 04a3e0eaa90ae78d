"""States of the home API endpoint as the options of golden cases spell them."""

from __future__ import annotations

from typing import Any

from farlet.constants import Reason
from farlet.context import (
    Endpoint,
    HomeAPI,
    NotConfigured,
    OutOfReach,
    Refused,
    Unverified,
    Verified,
)

_KINDS = {
    kind.__name__: kind for kind in (NotConfigured, Refused, Unverified, Verified, OutOfReach)
}


def state(state: str, **fields: Any) -> HomeAPI:
    """`state` is the name of a class, `fields` are its fields."""
    if "endpoint" in fields:
        given = fields["endpoint"]
        fields["endpoint"] = Endpoint(**{**given, "addresses": tuple(given.get("addresses", ()))})
    if "reason" in fields:
        fields["reason"] = Reason(fields["reason"])
    made: HomeAPI = _KINDS[state](**fields)
    return made
