"""The steps of `farlet connect` and `farlet disconnect`: one line of progress for each."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from farlet import errors
from farlet.install import requests

_AGAIN = "Run the same command again: it continues where it stopped"


class Different(errors.StartError):
    """The same command would fail again: the text says what must be different."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is about, and what it does. It returns what it found or did."""

    title: str
    run: Callable[[], Awaitable[str]]


async def run(steps: Sequence[Step], *, report: Callable[[str], None], seconds: float) -> None:
    """Do them in order. `seconds` is the end of one step, whatever it waits for.

    Raises `StartError` with the step that failed and what to do.
    """
    for number, step in enumerate(steps, start=1):
        with _failing(step.title, changed=number > 1):
            async with requests.limit(seconds, lambda: "the API servers did not answer in time"):
                done = await step.run()
        report(f"[{number}/{len(steps)}] {step.title}: {done}")


@contextlib.contextmanager
def _failing(title: str, *, changed: bool) -> Iterator[None]:
    """Raise what fails within as a `StartError` that names the step.

    `changed`: a step before it has perhaps changed something.
    """
    again = f". {_AGAIN}" if changed else ""
    try:
        yield
    except errors.UsageError:
        raise
    except Different as err:
        raise errors.StartError(f"{title}: {err}") from err
    except TimeoutError:
        raise errors.StartError(f"{title}: no answer in time{again}") from None
    except errors.FarletError as err:
        raise errors.StartError(f"{title}: {str(err).rstrip('.')}{again}") from err
