"""Actions carried out: which side each goes to, and what a failure of it would be about.

Each is one write, or one live look, and its answer teaches the store. `homeactions` and
`foreignactions` send them; nothing in these rooms decides whether to act; `plan` has.
"""

from __future__ import annotations

from collections.abc import Callable

from farlet.client.api_client import ApiClient
from farlet.context import Context
from farlet.planning import snapshot as do
from farlet.planning.snapshot import Snapshot
from farlet.reconcile import event_recorder, foreign_actions, home_actions, token_requests
from farlet.reconcile.pass_state import PassState, PodTimes
from farlet.store import Store
from farlet.telemetry.metrics import Metrics


class ActionExecutor:
    """Performs actions of `plan` on the two API servers."""

    def __init__(
        self,
        *,
        home: ApiClient,
        foreign: ApiClient,
        store: Store,
        recorder: event_recorder.Recorder,
        metrics: Metrics,
        ctx: Callable[[], Context],
    ) -> None:
        self.moments = PodTimes()
        self.at_home = home_actions.HomeActions(
            home, store, recorder=recorder, metrics=metrics, moments=self.moments, ctx=ctx
        )
        self._abroad = foreign_actions.ForeignActions(
            foreign,
            store,
            tokens=token_requests.Tokens(home, store, granted=metrics.tokens_granted),
            recorder=recorder,
            metrics=metrics,
            moments=self.moments,
            ctx=ctx,
        )

    async def perform(self, s: Snapshot, action: do.Action, known: PassState) -> None:
        """One action. Raises `ApiError` and `Unreachable`; `known.step` says what they concern."""
        match action:
            case do.PatchStatus():
                await self.at_home.patch_status(s, action)
            case do.CreateMirror():
                await self._abroad.create(s, action, known)
            case do.ProvideSecret():
                await self._abroad.provide_secret(s, action, known)
            case do.DeleteMirror():
                known.step = "removal of the mirror"
                await self._abroad.delete(s, action)
            case do.ReleaseMirror():
                known.step = "removal of the mirror"
                await self._abroad.release(action)
            case do.DeleteHome():
                await self.at_home.delete(s, action)
            case do.ConfirmMirrorGone():
                await self._abroad.confirm_gone(s, known)
            case do.ConfirmHomeGone():
                await self.at_home.confirm_gone(s, known)
            case do.ReclaimMirror():
                await self._abroad.reclaim(s, action, known)
