"""Performs the actions of `plan`: sends each to its cluster and records what it is for.

Each action is one write or one live read, and its answer updates the store. `home_actions` and
`foreign_actions` send the requests. These modules never decide whether to act; `plan` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from farlet.client.api_client import ApiClient
from farlet.client.request_slots import URGENCY
from farlet.constants import ObjectKey
from farlet.context import Context
from farlet.planning import actions, urgency
from farlet.planning.actions import Step
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
        confirm_foreign: Callable[[], Awaitable[None]],
        on_dropped: Callable[[ObjectKey], None] = lambda _: None,
    ) -> None:
        """`on_dropped` is called with the foreign key of each home pod that is deleted."""
        self.times = PodTimes()
        tokens = token_requests.Tokens(home, store, granted=metrics.tokens_granted)
        self.home = home_actions.HomeActions(
            home,
            store,
            recorder=recorder,
            metrics=metrics,
            times=self.times,
            tokens=tokens,
            ctx=ctx,
            on_dropped=on_dropped,
        )
        self.foreign = foreign_actions.ForeignActions(
            foreign,
            store,
            tokens=tokens,
            recorder=recorder,
            metrics=metrics,
            times=self.times,
            ctx=ctx,
            confirm=confirm_foreign,
        )

    async def perform(self, action: actions.Action, state: PassState) -> None:
        """Perform one action. Raises `ApiError` and `Unreachable`; `state.step` is what failed."""
        state.step = Step.HOME
        before = URGENCY.set(urgency.of_action(action))
        try:
            await self._perform(action, state)
        finally:
            URGENCY.reset(before)

    async def _perform(self, action: actions.Action, state: PassState) -> None:
        match action:
            case actions.PatchStatus():
                await self.home.patch_status(action)
            case actions.CreateMirror():
                await self.foreign.create(action, state)
            case actions.ProvideSecret():
                await self.foreign.provide_secret(action, state)
            case actions.AddEphemeralContainer():
                await self.foreign.add_ephemeral_container(action, state)
            case actions.DeleteMirror():
                state.step = Step.REMOVAL
                await self.foreign.delete(action, state)
            case actions.ReleaseMirror():
                state.step = Step.REMOVAL
                await self.foreign.release(action, state)
            case actions.DeleteHome():
                await self.home.delete(action)
            case actions.EvictHome():
                await self.home.evict(action)
            case actions.ConfirmMirrorGone():
                await self.foreign.confirm_gone(action.key, state)
            case actions.ConfirmHomeGone():
                await self.home.confirm_gone(action.key, state)
            case actions.ReclaimMirror():
                await self.foreign.reclaim(action, state)
            case actions.UpdateMirror():
                state.step = Step.CHANGE
                await self.foreign.update(action, state)
            case actions.ResizeMirror():
                state.step = Step.CHANGE
                await self.foreign.resize(action, state)
