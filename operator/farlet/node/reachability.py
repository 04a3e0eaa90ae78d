"""Probes whether the foreign API server is reachable, often enough to report it within a minute.

The probe reads an object that farlet reads anyway, so the answer comes from the server's storage: a
server that has lost its storage, or no longer accepts farlet's credentials, cannot serve pods. The
server is unreachable after a period without an answer, and reachable again at the first answer.
Rejected credentials are reported at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from farlet import errors, retrying
from farlet.client.api_client import ApiClient
from farlet.constants import Reason
from farlet.errors import Refused, Unconfirmed
from farlet.forge.node_health import Foreign

PROBE_SECONDS = 10.0
RETRY_SECONDS = 2.0
"""Between two probes without an answer, so that recovery is noticed soon."""
ANSWER_SECONDS = 10.0
VERSION_SECONDS = 300.0

log = structlog.get_logger()


class Reachability:
    """Probes until cancelled; calls `on_change` when `state` or `version` changes."""

    def __init__(
        self,
        foreign: ApiClient,
        *,
        probe: Callable[[], Awaitable[None]],
        other_problem: Callable[[], Refused | None],
        after: float,
        on_change: Callable[[], None],
    ) -> None:
        """`probe` reads an object. `other_problem` returns another reason why pods cannot be
        served in the foreign cluster. After `after` seconds without an answer the server is
        unreachable."""
        self._foreign = foreign
        self._read = probe
        self._recheck = asyncio.Event()
        self._other_problem = other_problem
        self._after = after
        self._on_change = on_change
        self._failing_since: float | None = None
        self._version_at = 0.0
        self.state = Foreign.UNKNOWN
        self.problem: Refused | None = None
        """Why it does not serve farlet, as first reported: texts differ from probe to probe, and
        each change would cause a write. A new reason is reported."""
        self.version: str | None = None

    async def run(self) -> None:
        """Probe until cancelled. Raises only cancellation."""
        now = asyncio.get_running_loop().time
        self._failing_since = now()
        while True:
            problem = await self._probe()
            if problem is None and self.state is not Foreign.UNKNOWN:
                # Not at the start, when other parts have not started.
                problem = self._other_problem()
            if problem is None:
                await self._succeeded(now())
            else:
                self._failed(now(), problem)
            pause = PROBE_SECONDS if problem is None else RETRY_SECONDS
            await retrying.wait(self._recheck, pause)
            self._recheck.clear()

    def recheck(self) -> None:
        """Probe now."""
        self._recheck.set()

    async def _probe(self) -> Refused | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._read()
        except TimeoutError:
            return _unreachable(
                f"the foreign API server did not answer within {ANSWER_SECONDS:.0f} s"
            )
        except Unconfirmed as err:
            return err
        except errors.Unauthorized as err:
            return Refused(Reason.FOREIGN_UNAUTHORIZED, err.advice)
        except errors.ApiError as err:
            return _unreachable(str(err)) if isinstance(err, errors.Throttled) else None
        except errors.FarletError as err:
            return _unreachable(str(err))
        return None

    async def _succeeded(self, now: float) -> None:
        self._failing_since = None
        before = self.state, self.version
        if self.state is not Foreign.REACHABLE or now - self._version_at > VERSION_SECONDS:
            await self._read_version(now)
        if self.problem is not None:
            log.info("foreign API server is reachable again")
        self.state, self.problem = Foreign.REACHABLE, None
        if (self.state, self.version) != before:
            self._on_change()

    def _failed(self, now: float, problem: Refused) -> None:
        if self._failing_since is None:
            self._failing_since = now
        state = self.state
        if state is Foreign.UNREACHABLE or now - self._failing_since >= self._after:
            state = Foreign.UNREACHABLE
        elif problem.reason in _CERTAIN:
            state = Foreign.REFUSED  # it says so itself: waiting would not make it more certain
        elif state is not Foreign.REFUSED:
            return
        known = None if self.problem is None else _cause(self.problem)
        if (state, _cause(problem)) == (self.state, known):
            return
        self.state, self.problem = state, problem
        log.warning(
            "foreign API server does not serve farlet",
            reason=problem.reason.value,
            seconds=round(now - self._failing_since),
            err=problem.message,
        )
        self._on_change()

    async def _read_version(self, now: float) -> None:
        try:
            version = await self._foreign.server_version()
        except errors.FarletError as err:
            log.info("failed to read version of foreign API server", err=str(err))
            return
        self.version, self._version_at = version, now


_CERTAIN = frozenset({Reason.FOREIGN_UNAUTHORIZED, Reason.FOREIGN_CLUSTER_UNCONFIRMED})


def _cause(problem: Refused) -> str:
    """What is reported again when it changes. The text of a doubt contains what to do."""
    return problem.message if isinstance(problem, Unconfirmed) else problem.reason


def _unreachable(text: str) -> Refused:
    return Refused(Reason.FOREIGN_UNREACHABLE, text)
