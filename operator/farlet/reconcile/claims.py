"""Provide volumes for home claims of mapped StorageClasses: one key for each claim.

A change of a claim, of its placeholder or of its foreign claim queues its key. What is done is
decided in `planning.claims`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Protocol

import structlog

from farlet import errors, redaction
from farlet.client.api_client import ApiClient
from farlet.client.request_slots import URGENCY
from farlet.constants import ObjectKey, Reason
from farlet.context import Context
from farlet.foreign.claims import ForeignClaims
from farlet.foreign.namespace import ForeignNamespace
from farlet.foreign.namespaces import ForeignNamespaces
from farlet.forge import claims as forge
from farlet.forge.claims import ClaimKey, HomeClaim
from farlet.home.claims import HomeClaims
from farlet.k8s_types import PersistentVolumeClaim, Pod
from farlet.planning import api_refusals
from farlet.planning import claims as planning
from farlet.planning.actions import CreateNamespace
from farlet.planning.claims import ClaimSnapshot, Live
from farlet.planning.snapshot import ClaimState, Missing
from farlet.planning.urgency import Urgency
from farlet.reconcile.claim_actions import ClaimActions
from farlet.reconcile.work_queue import Observer, WorkQueue

WORKERS = 4
STEPS = 8
"""No claim needs as many actions in a row."""
REPORT_SECONDS = 30.0
"""Between two Events about one claim: messages of servers and provisioners can differ each time."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Pass:
    """What one pass over a key has read."""

    live: Live | None = None
    foreign_gone: bool = False


@dataclass(slots=True)
class _Report:
    """The last Event about a claim."""

    message: str
    at: float


class HomeIdentity(Protocol):
    """Whether the identity for volumes is one of the home cluster. `StorageIdentity` is one."""

    @property
    def confirmed(self) -> bool:
        """Whether answers are those of the home cluster."""
        ...

    async def confirm(self) -> None:
        """Raises unless the answers before it are of the home cluster."""
        ...


class Claims:
    """Follows claims, placeholders and foreign claims. Tasks run in the given task group."""

    def __init__(
        self,
        home: ApiClient,
        foreign: ApiClient,
        namespaces: ForeignNamespaces,
        *,
        observer: Observer,
        ctx: Callable[[], Context],
        note: Callable[[ClaimKey, str], None],
        wake: Callable[[ObjectKey], None],
        shows_events: bool,
        at_home: HomeIdentity,
        tasks: asyncio.TaskGroup,
    ) -> None:
        """`home` sends with the identity for volumes. `note` queues an Event for a home claim,
        `wake` reconciles a pod. `shows_events`: Warnings about foreign claims are shown, too."""
        self._foreign = foreign
        self._namespaces = namespaces
        self._ctx = ctx
        self._note = note
        self._wake = wake
        self._shows_events = shows_events
        self._identity = at_home
        self._tasks = tasks
        self._queue: WorkQueue[ClaimKey] = WorkQueue(observer)
        self._at_home = HomeClaims(
            home, ctx=ctx, on_change=self._changed, on_state=self._state_changed
        )
        self._actions = ClaimActions(
            home,
            foreign,
            self._at_home,
            ctx=ctx,
            seen=self._seen,
            confirm=namespaces.identity.confirm,
            confirm_home=at_home.confirm,
        )
        self._followed: dict[str, tuple[ForeignClaims, asyncio.Task[None]]] = {}
        """By home namespace."""
        self._waiting: dict[ObjectKey, frozenset[str]] = {}
        """Home pods without a mirror that wait for one of their claims, with their names."""
        self._waiting_for: defaultdict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        """The same pods, by each claim."""
        self._reports: dict[ClaimKey, _Report] = {}
        self._rejected: defaultdict[ClaimKey, dict[type[planning.Growth], str]] = defaultdict(dict)
        """Sizes to which a cluster did not let a claim grow, as in a snapshot."""
        self._watches: list[asyncio.Task[None]] = []
        self._doubts = namespaces.identity.doubts

    def start(self) -> list[asyncio.Task[None]]:
        """Start watches and workers; returns the tasks of the workers."""
        self._watches = [
            self._tasks.create_task(watch.run(), name="home claims")
            for watch in self._at_home.watches
        ]
        return [
            self._tasks.create_task(self._queue.work(self._work), name=f"claims {n}")
            for n in range(WORKERS)
        ]

    def close(self) -> None:
        """Let running work end; begin nothing new."""
        self._queue.close()

    def tasks(self) -> list[asyncio.Task[None]]:
        """The watches, to be cancelled at the end."""
        return [*self._watches, *(task for _, task in self._followed.values())]

    # --- pods ---------------------------------------------------------------------------------

    def states(self, key: ObjectKey, home: Pod | Missing) -> Mapping[str, ClaimState]:
        """What the claims of a pod without a mirror mean to it. `home`: missing where it has one,
        or is not known."""
        self._waits_no_longer(key)
        if isinstance(home, Missing):
            return {}
        ctx = self._ctx()
        found: dict[str, ClaimState] = {}
        for name in forge.claim_names(home):
            claim = self._at_home.named(key.namespace, name)
            volume = claim if isinstance(claim, Missing) else self._at_home.volume(claim.key)
            state = planning.state(name, key.namespace, claim, volume, ctx=ctx)
            if state is Missing.UNKNOWN and self._at_home.error is not None:
                state = api_refusals.of_claim(self._at_home.error) or state
            found[name] = state
        if any(not isinstance(state, str) for state in found.values()):
            self._waiting[key] = frozenset(found)
            for name in found:
                self._waiting_for[ObjectKey(key.namespace, name)].add(key)
        return found

    def _waits_no_longer(self, pod: ObjectKey) -> None:
        for name in self._waiting.pop(pod, ()):
            claim = ObjectKey(pod.namespace, name)
            self._waiting_for[claim].discard(pod)
            if not self._waiting_for[claim]:
                del self._waiting_for[claim]

    # --- keys ---------------------------------------------------------------------------------

    def _changed(self, key: ClaimKey) -> None:
        self._queue.add(key)
        for pod in tuple(self._waiting_for.get(ObjectKey(key.namespace, key.name), ())):
            self._wake(pod)

    def _state_changed(self) -> None:
        """A watch at home was lost or is open again: what was not seen there can be absent now.

        The other claims are as they were. Deciding about them would open their namespaces.
        """
        for key in {record.key for record in (*self._at_home.claims, *self._at_home.volumes)}:
            if Missing.ABSENT in (self._at_home.claim(key), self._at_home.volume(key)):
                self._queue.add(key)
        for pod in list(self._waiting):
            self._wake(pod)

    def namespace_changed(self, namespace: ForeignNamespace) -> None:
        """Decide again about all claims of a pair of namespaces."""
        known = self._followed.get(namespace.home)
        foreign = known[0].claims.keys(namespace.home) if known else ()
        for key in {*self._at_home.keys(namespace.home), *foreign}:
            self._queue.add(key)

    async def _work(self, key: ClaimKey) -> None:
        URGENCY.set(Urgency.START)
        try:
            await self._reconcile(key)
        except errors.FarletError as err:
            self._failed(key, err)
        except Exception:
            # As for a pod: an internal error concerns only this claim.
            log.exception("claim failed with an internal error", claim=str(key))
            self._queue.retry(key, at_least=5.0)

    async def _reconcile(self, key: ClaimKey) -> None:
        # What is known may be that of another cluster since the connection changed.
        await self._identity.confirm()
        state = _Pass()
        for _ in range(STEPS):
            snapshot = self._snapshot(key, state)
            if snapshot is None:
                break
            action = planning.decide(snapshot, ctx=self._ctx())
            if action is None:
                break
            await self._perform(key, action, state)
        else:
            raise errors.Refused(Reason.INTERNAL_ERROR, f"the claim {key} does not settle")
        self._queue.forget(key)

    def _failed(self, key: ClaimKey, err: errors.FarletError) -> None:
        seconds = self._queue.retry(key)
        problem = api_refusals.of_claim(err)
        reported = problem is not None and self._report(key, problem.message)
        (log.warning if reported else log.debug)(
            "failed to provide a volume", claim=str(key), err=str(err), retry_in=seconds
        )

    def _report(self, key: ClaimKey, message: str) -> bool:
        """An Event for the owner of a claim, unless it would be the same, or one of many."""
        now, last = asyncio.get_running_loop().time(), self._reports.get(key)
        if last is not None and (last.message == message or now - last.at < REPORT_SECONDS):
            return False
        self._reports[key] = _Report(message, now)
        self._note(key, message)
        return True

    def _warned(self, key: ClaimKey, message: str) -> None:
        """A provisioner or resizer of the foreign cluster reports a problem."""
        text = redaction.message(message).replace(forge.foreign_name(key, self._ctx()), key.name)
        shown = "".join(char if char.isprintable() else " " for char in text)
        self._report(key, f"in the foreign cluster: {shown}")

    # --- facts --------------------------------------------------------------------------------

    def _snapshot(self, key: ClaimKey, state: _Pass) -> ClaimSnapshot | None:
        """`None`: the claim is not one of this node."""
        self._void_if_doubted()
        claim, volume = self._at_home.claim(key), self._at_home.volume(key)
        known = self._followed.get(key.namespace)
        selected = isinstance(claim, HomeClaim) and planning.is_selected(claim, self._ctx())
        ours = planning.concerns(claim, volume, ctx=self._ctx())
        if not ours and (known is None or known[0].claims.get(key) is None):
            self._forget(key)
            self._unfollow(key.namespace)
            return None
        namespace = self._namespaces.of(key.namespace)
        if namespace is None:
            if selected:
                self._report(key, f"the namespace {key.namespace} is not offloaded by this node")
            return None
        followed = self._follow(namespace)
        is_open = namespace.anchor is not None and self._namespaces.identity.confirmed
        problem = namespace.problem
        if problem is None and followed.error is not None:
            problem = api_refusals.of_claim(followed.error)
        if selected and problem is not None:
            self._report(key, problem.message)
        return ClaimSnapshot(
            key,
            claim,
            volume,
            followed.claim(key),
            open=is_open,
            namespace_missing=namespace.missing and self._namespaces.identity.confirmed,
            live=state.live,
            foreign_gone=state.foreign_gone,
            rejected=self._rejected.get(key, {}),
        )

    def with_volumes(self) -> Set[str] | None:
        """The foreign namespaces of all placeholders, and those with foreign claims; `None`: not
        known. That of a retained volume is one of them, although nothing in it is watched."""
        if not (self._identity.confirmed and self._at_home.volumes_in_sync):
            return None
        followed = (claims for claims, _ in self._followed.values())
        return {volume.foreign.partition("/")[0] for volume in self._at_home.volumes} | {
            one.foreign for one in followed if any(one.claims) or not one.in_sync
        }

    def _void_if_doubted(self) -> None:
        """After a doubt about the foreign cluster, what was read there says nothing."""
        if self._doubts != self._namespaces.identity.doubts:
            self._doubts = self._namespaces.identity.doubts
            for claims, _ in self._followed.values():
                claims.void()

    def _forget(self, key: ClaimKey) -> None:
        self._reports.pop(key, None)
        self._rejected.pop(key, None)

    def _unfollow(self, home: str) -> None:
        """End the watches of a namespace in which no claim of this node has anything left."""
        known = self._followed.get(home)
        if known is None or not (known[0].in_sync or known[0].error) or any(known[0].claims):
            return
        ctx = self._ctx()
        at_home = self._at_home
        if not any(
            planning.concerns(at_home.claim(key), at_home.volume(key), ctx=ctx)
            for key in at_home.keys(home)
        ):
            del self._followed[home]
            known[1].cancel()

    def _follow(self, namespace: ForeignNamespace) -> ForeignClaims:
        found = self._followed.get(namespace.home)
        if found is not None:
            return found[0]
        claims = ForeignClaims(
            self._foreign,
            home=namespace.home,
            foreign=namespace.foreign,
            ctx=self._ctx,
            on_change=self._changed,
            on_warning=self._warned if self._shows_events else None,
            on_state=lambda: self.namespace_changed(namespace),
            confirm=self._namespaces.identity.confirm,
        )
        task = self._tasks.create_task(claims.run(), name=f"claims in {namespace.foreign}")
        self._followed[namespace.home] = claims, task
        return claims

    # --- actions ------------------------------------------------------------------------------

    async def _perform(self, key: ClaimKey, action: planning.ClaimAction, state: _Pass) -> None:
        """Perform one action. Raises what `ApiClient` raises, and `Refused`."""
        match action:
            case CreateNamespace():
                namespace = self._namespaces.of(key.namespace)
                if namespace is not None:
                    namespace.create()
            case planning.CreateClaim(claim):
                await self._actions.create_claim(claim)
            case planning.CreateVolume(claim):
                await self._actions.create_volume(claim)
            case planning.ExpandClaim(foreign, size):
                try:
                    if not await self._actions.expand_claim(foreign, size):
                        self._without_effect(key, action, "foreign", "the claim there")
                except (errors.Forbidden, errors.Invalid) as err:
                    self._rejected[key][planning.ExpandClaim] = size
                    text = f"the foreign cluster does not let the volume grow: {err.message}"
                    self._report(key, text)
            case planning.ExpandVolume(volume, size):
                if not await self._actions.expand_volume(volume, size):
                    self._without_effect(key, action, "home", "the PersistentVolume")
            case planning.ShowCapacity(claim, size):
                if not await self._actions.show_capacity(claim, size):
                    self._without_effect(key, action, "home", "the status of the claim")
            case planning.ReadHome():
                state.live = await self._actions.read_home(key)
            case planning.ReadForeign():
                state.foreign_gone = await self._actions.read_foreign(key)
            case planning.DeleteClaim(foreign, unused):
                state.foreign_gone = await self._actions.delete_claim(foreign, unused=unused)
            case planning.DeleteVolume(volume):
                await self._actions.delete_volume(volume)

    def _without_effect(
        self, key: ClaimKey, step: planning.Growth, cluster: str, what: str
    ) -> None:
        """The answer still has the former size. Another request would have the same answer."""
        self._rejected[key][type(step)] = step.size
        text = (
            f"the {cluster} cluster accepted the size {step.size} for {what} without effect. "
            "An admission webhook may keep the former size"
        )
        log.warning("a volume does not grow", claim=str(key), err=text)
        self._report(key, text)

    def _seen(self, key: ClaimKey, obj: PersistentVolumeClaim | None) -> None:
        """The foreign cluster has answered with its claim; `None`: 404."""
        known = self._followed.get(key.namespace)
        if known is None:
            return
        if obj is None:
            known[0].claims.remove(key)
        else:
            known[0].claims.put(obj)
