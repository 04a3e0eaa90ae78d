"""When home tokens are due, and where a mirror keeps the times.

The times stand in an annotation of the mirror, so that a new process knows what an old one
delivered. Pure: the clock is an argument.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from farlet.access import Token, TokenSpec
from farlet.constants import TOKENS
from farlet.k8s_types import NewPod, Pod

REFRESH_AT = 0.5
REFRESH_JITTER = 0.05
WARN_AT = 0.8
"""Fractions of a token's life: when it is refreshed, give or take, and when its age is alarming."""

FUTURE_SECONDS = 300.0
"""How far a recorded time may lie ahead of our clock before it is disbelieved."""


@dataclass(frozen=True, slots=True)
class Due:
    """Claims to refresh now, whether one is alarmingly old, and when to look again."""

    token_specs: tuple[TokenSpec, ...]
    overdue: bool
    again_at: float | None


def due(token_specs: tuple[TokenSpec, ...], mirror: Pod, *, uid: str, now: float) -> Due:
    """Which tokens of a mirror are to be refreshed.

    What anybody abroad may have written costs at most one refresh: times that nobody was
    granted count as none.
    """
    times = recorded(mirror)
    wanted: list[TokenSpec] = []
    overdue = False
    again_at: float | None = None
    for token_spec in token_specs:
        issued, expires = times.get(token_spec.key, (0.0, 0.0))
        at = refresh_at(uid, issued, expires)
        believable = issued <= now + FUTURE_SECONDS and expires > issued
        if not believable or at <= now or at > now + token_spec.expiration_seconds:
            wanted.append(token_spec)
            overdue |= believable and now >= issued + (expires - issued) * WARN_AT
        elif again_at is None or at < again_at:
            again_at = at
    return Due(tuple(wanted), overdue, again_at)


def refresh_at(uid: str, issued: float, expires: float) -> float:
    """When a token is due: half of its life, spread so that a thousand do not come at once."""
    spread = zlib.crc32(uid.encode()) / 0xFFFFFFFF * 2 - 1
    return issued + (expires - issued) * (REFRESH_AT + REFRESH_JITTER * spread)


def recorded(mirror: Pod | NewPod) -> dict[str, tuple[float, float]]:
    """Issue and expiry by `TokenSpec.key`, in epoch seconds; malformed entries are left out."""
    try:
        raw = orjson.loads(mirror["metadata"].get("annotations", {}).get(TOKENS, "{}"))
        return {str(k): (float(v[0]), float(v[1])) for k, v in raw.items()}
    except (ValueError, TypeError, AttributeError, LookupError):
        return {}


def record(mirror: Pod | NewPod, tokens: Mapping[str, Token]) -> str | None:
    """The annotation once `tokens` are delivered; `None` if it says so already."""
    before = recorded(mirror)
    after = before | {key: (token.issued, token.expires) for key, token in tokens.items()}
    if after == before:
        return None
    return orjson.dumps(after, option=orjson.OPT_SORT_KEYS).decode()


def stamped(mirror: NewPod, tokens: Mapping[str, Token]) -> NewPod:
    """A forged mirror with the times of the tokens that its Secret will hold."""
    value = record(mirror, tokens)
    if value is None:
        return mirror
    metadata = mirror["metadata"]
    annotations = {**metadata.get("annotations", {}), TOKENS: value}
    return {**mirror, "metadata": {**metadata, "annotations": annotations}}
