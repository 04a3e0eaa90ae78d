"""The result of one check of `farlet check`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Result of one check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `hint` is the fix; empty if there is nothing to fix."""

    what: str
    outcome: Outcome
    seen: str
    hint: str = ""
