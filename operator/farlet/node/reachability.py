"""Whether the foreign API server answers, asked often enough to say so within the minute.

What is asked for is an object that farlet reads anyway, so the answer comes from the server's
storage: one that has lost its storage, or no longer takes our credentials, serves no pod. A
silence counts once it has lasted; an answer counts at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import ObjectKey
from farlet.forge.node_health import Foreign

PROBE_SECONDS = 10.0
RETRY_SECONDS = 2.0
"""Between two tries while it is silent, so that its return is seen soon."""
ANSWER_SECONDS = 10.0
VERSION_SECONDS = 300.0

log = structlog.get_logger()


class Reachability:
    """Asks for ever; `on_change` is called when `state` or `version` has become another."""

    def __init__(
        self,
        foreign: ApiClient,
        config_map: ObjectKey,
        *,
        refused: Callable[[], str | None],
        after: float,
        on_change: Callable[[], None],
    ) -> None:
        """`config_map` is what is asked for; `refused` tells what else keeps pods from being served
        abroad; `after` is in seconds."""
        self._foreign = foreign
        self._config_map = config_map
        self._refused = refused
        self._after = after
        self._on_change = on_change
        self._silent_since: float | None = None
        self._version_at = 0.0
        self.state = Foreign.UNKNOWN
        self.problem = ""
        """Why it is unreachable, as it was when that was first said: texts differ from try to
        try, and each would be a write."""
        self.version: str | None = None

    async def run(self) -> None:
        """Ask for ever. Raises nothing but cancellation."""
        now = asyncio.get_running_loop().time
        self._silent_since = now()
        while True:
            problem = await self._ask()
            if problem is None and self.state is not Foreign.UNKNOWN:
                # Not at the start, when other parts have not begun.
                problem = self._refused()
            if problem is None:
                await self._answered(now())
            else:
                self._silent(now(), problem)
            await asyncio.sleep(PROBE_SECONDS if problem is None else RETRY_SECONDS)

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._foreign.get(
                    resources.CONFIG_MAPS.metadata_only,
                    self._config_map.name,
                    namespace=self._config_map.namespace,
                )
        except TimeoutError:
            return "the foreign API server did not answer in time"
        except errors.ApiError as err:
            return str(err) if err.code == 401 or isinstance(err, errors.Throttled) else None
        except errors.FarletError as err:
            return str(err)
        return None

    async def _answered(self, now: float) -> None:
        self._silent_since = None
        before = self.state, self.version
        if self.state is not Foreign.REACHABLE or now - self._version_at > VERSION_SECONDS:
            await self._look_at_version(now)
        if self.state is Foreign.UNREACHABLE:
            log.info("foreign API server answers again")
        self.state, self.problem = Foreign.REACHABLE, ""
        if (self.state, self.version) != before:
            self._on_change()

    def _silent(self, now: float, problem: str) -> None:
        if self._silent_since is None:
            self._silent_since = now
        if self.state is Foreign.UNREACHABLE or now - self._silent_since < self._after:
            return
        self.state, self.problem = Foreign.UNREACHABLE, problem
        log.warning(
            "foreign API server was silent for too long",
            seconds=round(now - self._silent_since),
            err=problem,
        )
        self._on_change()

    async def _look_at_version(self, now: float) -> None:
        try:
            version = await self._foreign.server_version()
        except errors.FarletError as err:
            log.info("version of the foreign API server was not read", err=str(err))
            return
        self.version, self._version_at = version, now
