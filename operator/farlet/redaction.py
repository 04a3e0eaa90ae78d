"""Removes tokens from texts that people read.

Errors of API servers can contain what they were sent: an admission policy can quote a Secret. So
errors are redacted when they are created, and log lines once more when they are rendered.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    # A JSON Web Token: two JSON objects and a signature, each in base64url (RFC 7515).
    r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}(\.[\w-]*)?"
    # The same in base64, as `data` of a Secret contains it.
    r"|ZXlK[A-Za-z0-9+/]{40,}={0,2}"
)

REDACTED = "<redacted token>"


def redact(text: str) -> str:
    """Replace every token in the text by `REDACTED`."""
    # Two searches for fixed strings cost less than the pattern, and few texts contain either.
    return _TOKEN.sub(REDACTED, text) if "eyJ" in text or "ZXlK" in text else text
