"""Texts from outside, fit for people: without credentials, and of bounded length.

What API servers, kubelets, proxies and owners of pods write is untrusted. It is cut where it enters
(an error is created, a path is logged, a field of a pod is quoted), and log lines are redacted once
more when they are rendered. Every function takes time linear in its argument: all of this runs in
the event loop that renews the Lease.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MESSAGE_CHARS = 800
"""Of a message of an API server, a kubelet or a library. With the words that farlet adds it still
fits into the 1,024 of an Event."""

VALUE_CHARS = 80
"""Of a value that a message quotes: a path, an annotation, a field of a pod."""

KUBELET_CHARS = 4096
"""Of each text in a mirror's status, as a kubelet bounds a container's termination message
(`MaxContainerTerminationMessageLength` in `pkg/kubelet/container/runtime.go`). What a kubelet
writes there is never changed."""

LISTED = 5
"""Items of a list that a message names before it counts the others."""

CERTIFICATE_NAMES = 20
"""The same for the names in a certificate, of which that of an API server has about ten."""

REDACTED = "<redacted token>"
USERINFO = "<redacted>"

PART_CHARS = 8
"""A shorter part of a secret is not recognized as one."""

_RUN = re.compile(r"[A-Za-z0-9_.-]++")
"""A run of all characters that a JSON Web Token can contain. Each character is read once."""

_SEGMENT_CHARS = 11
"""Least length of the base64url of a JSON object with one member."""

_BASE64_TOKEN = re.compile(r"ZXlK[A-Za-z0-9+/]{40,}={0,2}")
"""A JSON Web Token in base64, as `data` of a Secret contains it."""

_BEARER = re.compile(r"\b((?i:bearer) )[A-Za-z0-9._~+/-]{16,}+=*")
"""The `Authorization` header (RFC 6750), for tokens of any form."""

_BASIC = re.compile(r"\b((?i:basic) )(?=[a-z+/]*[A-Z0-9])[A-Za-z0-9+/]{8,}+=*")
"""The same for user and password (RFC 7617), but not for a word such as `basic configuration`."""

_USERINFO = re.compile(r"""(?<=://)[^\s/?#"\\]*@""")
"""User and password in a URL (RFC 3986), up to the last @ before the path. No match begins within
another, since both contain `://`."""

_LOOKAHEAD = 4
"""A text is read up to this many times its limit before it is cut, so that a credential that the
cut would split is redacted as a whole."""

_OPEN_USERINFO = re.compile(r"""(?<=://)[^\s/?#"\\]+\Z""")
"""What may be user and password where the text that is read ends before their @."""


def redact(text: str) -> str:
    """The text without tokens, and without user and password in URLs."""
    # Searches for fixed strings cost less than the patterns, and few texts contain any of them.
    if "eyJ" in text:
        text = _RUN.sub(lambda found: _without_tokens(found[0]), text)
    if "ZXlK" in text:
        text = _BASE64_TOKEN.sub(REDACTED, text)
    folded = text.lower()
    if "bearer " in folded:
        text = _BEARER.sub(rf"\g<1>{REDACTED}", text)
    if "basic " in folded:
        text = _BASIC.sub(rf"\g<1>{REDACTED}", text)
    if "://" in text:
        text = _USERINFO.sub(f"{USERINFO}@", text)
    return text


def _without_tokens(run: str) -> str:
    """A run of characters without JSON Web Tokens: two JSON objects, and a signature (RFC 7515)."""
    if "eyJ" not in run or "." not in run:
        return run
    kept: list[str] = []
    segments = run.split(".")
    index = 0
    while index < len(segments):
        segment = segments[index]
        begin = segment.find("eyJ")
        payload = segments[index + 1] if index + 1 < len(segments) else ""
        if (
            begin >= 0
            and len(segment) - begin >= _SEGMENT_CHARS
            and len(payload) >= _SEGMENT_CHARS
            and payload.startswith("eyJ")
        ):
            kept.append(segment[:begin] + REDACTED)
            index += 3
        else:
            kept.append(segment)
            index += 1
    return ".".join(kept)


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, and how many there were if these are not all."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"


def message(text: str, *, limit: int = MESSAGE_CHARS) -> str:
    """A message from outside: without credentials, and cut."""
    return _shown(text, limit)


def value(text: str) -> str:
    """A value for a message of ours: without credentials, cut, control characters escaped."""
    return _shown(text, VALUE_CHARS).translate(_CONTROL)


def _shown(text: str, limit: int) -> str:
    read = text[: limit * _LOOKAHEAD]
    if len(read) < len(text):
        read = _OPEN_USERINFO.sub(USERINFO, read)
    shown = redact(read)
    if max(len(text), len(shown)) <= limit:
        return shown
    return f"{shown[:limit]}... ({len(text):,} characters)"


_CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(0x20), 0x7F, 0x85, 0x2028, 0x2029)}


def repeats(text: str, secrets: Iterable[str]) -> bool:
    """Whether the text contains a part of one of the secrets, which can be of any form."""
    parts = {text[i : i + PART_CHARS] for i in range(len(text) - PART_CHARS + 1)}
    return any(
        secret in text if len(secret) < PART_CHARS else any(part in secret for part in parts)
        for secret in secrets
        if secret
    )


def some(items: Sequence[str], *, separator: str = ", ", most: int = LISTED) -> str:
    """The first items and the number of the others: `a, b, c, d, e and 9,995 more`."""
    named = separator.join(items[:most])
    return named if len(items) <= most else f"{named} and {len(items) - most:,} more"


def names(items: Sequence[str]) -> str:
    """The names in a certificate, which its server has chosen; `none` if it has none."""
    return some([*map(value, items)], most=CERTIFICATE_NAMES) or "none"
