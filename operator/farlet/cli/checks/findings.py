"""The result of one check of `farlet check`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum

from farlet import errors

ANSWER_SECONDS = 10.0


class Outcome(StrEnum):
    """Result of one check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `hint` is the fix; empty if there is nothing to fix.

    `brief` is `seen` for a table, where that is too long for a line.
    """

    what: str
    outcome: Outcome
    seen: str
    hint: str = ""
    brief: str = ""


async def of(what: str, check: Awaitable[Finding], *, hint: str) -> Finding:
    """The finding of `check`, which can raise; `hint` is the fix where the error has none."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await check
    except errors.Unauthorized as err:
        return Finding(what, Outcome.FAILED, str(err), err.advice)
    except errors.Refused as err:
        return Finding(what, Outcome.FAILED, str(err.reason), err.message)
    except errors.StartError as err:
        return Finding(what, Outcome.FAILED, "farlet would not start", str(err))
    except errors.FarletError as err:
        return Finding(what, Outcome.FAILED, str(err), hint)
    except TimeoutError:
        return Finding(what, Outcome.FAILED, f"no answer within {ANSWER_SECONDS:g} s", hint)
