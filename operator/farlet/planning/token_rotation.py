"""When home tokens must be refreshed, and the annotation that records their times.

The mirror's annotation has the times, so that a new process knows what the one before delivered.
Pure: the clock is an argument.
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
"""Fractions of a token's lifetime: when it is refreshed, by how much that varies between pods, and
when an Event warns of its age."""

FUTURE_SECONDS = 300.0
"""A recorded issue time that is further ahead of our clock than this is not valid."""

LAST_TIME = 2.0**35
"""A recorded time after this one, about the year 3058, is not valid."""


@dataclass(frozen=True, slots=True)
class Due:
    """Tokens to refresh now, whether one is past `WARN_AT`, and when the next is due."""

    token_specs: tuple[TokenSpec, ...]
    overdue: bool
    again_at: float | None


def due(
    token_specs: tuple[TokenSpec, ...],
    mirror: Pod,
    *,
    delivered: Mapping[str, tuple[float, float]],
    uid: str,
    now: float,
) -> Due:
    """Which tokens of a mirror must be refreshed.

    `delivered` are the times of tokens that this process wrote to the Secret itself. They count
    more than the annotation, which users of the foreign cluster can change. So a change costs at
    most one refresh for each process: times that no API server grants count as missing.
    """
    times = {**recorded(mirror), **delivered}
    to_refresh: list[TokenSpec] = []
    overdue = False
    again_at: float | None = None
    for token_spec in token_specs:
        issued, expires = times.get(token_spec.key, (0.0, 0.0))
        at = refresh_at(uid, issued, expires)
        valid = issued <= now + FUTURE_SECONDS and expires > issued
        if not valid or at <= now or at > now + token_spec.expiration_seconds:
            to_refresh.append(token_spec)
            overdue |= valid and now >= issued + (expires - issued) * WARN_AT
        elif again_at is None or at < again_at:
            again_at = at
    return Due(tuple(to_refresh), overdue, again_at)


def refresh_at(uid: str, issued: float, expires: float) -> float:
    """When a token is due: half of its lifetime, spread so that pods do not refresh all at once."""
    spread = zlib.crc32(uid.encode()) / 0xFFFFFFFF * 2 - 1
    return issued + (expires - issued) * (REFRESH_AT + REFRESH_JITTER * spread)


def recorded(mirror: Pod | NewPod) -> dict[str, tuple[float, float]]:
    """Issue and expiry by `TokenSpec.key`, in epoch seconds: finite, from 0 to `LAST_TIME`.

    Entries of another form are left out.
    """
    try:
        raw = orjson.loads(mirror["metadata"].get("annotations", {}).get(TOKENS, "{}"))
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(raw, dict):
        return {}
    return {key: (times[0], times[1]) for key, times in raw.items() if _are_times(times)}


def _are_times(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(time) in (int, float) and 0 <= time <= LAST_TIME for time in value)
    )


def record(mirror: Pod | NewPod, tokens: Mapping[str, Token]) -> str | None:
    """The annotation once `tokens` are delivered; `None` if it does not change."""
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
