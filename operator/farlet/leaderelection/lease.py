"""One Lease at home: whose name stands in it, for how long nothing has changed, and ours in it.

It is a node's heartbeat (KEP-589) and the lock of leader election. Both are written as kubelets and
client-go write theirs, by whole objects that carry the uid and resourceVersion they replace. What
is written by others is never compared with a clock of ours: a Lease has run out when we have seen
nothing change in it for as long as it says, by a clock that only this machine keeps.

Who may take it, and what follows, is for `leadership` to decide.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from farlet import errors, k8s_types, retrying
from farlet.client import resources
from farlet.client.resources import Resource
from farlet.constants import JSON, ObjectKey
from farlet.k8s_types import LeaseSpec

T = TypeVar("T")

NODE_LEASES = "kube-node-lease"
"""Namespace of the nodes' own Leases (`NamespaceNodeLease` in `pkg/apis/core`)."""

boottime: Callable[[], float] = functools.partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)
"""Seconds that nobody can set. Where the system has one, of a clock that goes on while the machine
sleeps: `CLOCK_MONOTONIC` of Linux stands still then, and a Lease does not."""


class LeaseRequests(Protocol):
    """The part of `ApiClient` that Leases need."""

    async def request_unqueued(
        self,
        method: str,
        resource: Resource[T],
        name: str = "",
        *,
        namespace: str = "",
        body: Mapping[str, object] | None = None,
        seconds: float,
    ) -> T:
        """One request that waits for no other, bounded in time."""
        ...


class Lease:
    """The Lease of that name, to be held by `holder`. For one task at a time.

    Each method raises kinds of `ApiError`, and `Unreachable` when no answer came within `patience`
    seconds; then what was written may stand there or not, and may yet come to stand there.
    """

    def __init__(
        self,
        home: LeaseRequests,
        key: ObjectKey,
        *,
        holder: str,
        duration: int,
        patience: float,
        clock: Callable[[], float] = boottime,
        now: Callable[[], datetime] = retrying.utc_now,
    ) -> None:
        self.key = key
        self.holder = holder
        self._home = home
        self._duration = duration
        self._patience = patience
        self._clock = clock
        self._now = now
        self._looked = False
        self._seen: k8s_types.Lease | None = None
        self._changed = 0.0
        self._vanished = False
        self._settles = -math.inf
        self._owners: list[JSON] | None = None

    # --- what was seen of it ------------------------------------------------------------------

    @property
    def held_by(self) -> str:
        """Whose name stood in it last; empty for nobody, and where there is no Lease."""
        return _spec(self._seen).get("holderIdentity", "")

    @property
    def free_in(self) -> float:
        """Seconds until `holder` may write its name into it, as far as was seen; 0 when it may.

        One that has vanished is left for its holder to make again, as long as one of ours lasts.
        """
        if self.held_by in {"", self.holder} and not self._vanished:
            return 0.0
        lasts = _spec(self._seen).get("leaseDurationSeconds", self._duration)
        return max(0.0, self._changed + lasts - self._clock())

    @property
    def settled_in(self) -> float:
        """Seconds until a renewal says that nobody relies on a Lease that was there before.

        Whoever held one that was deleted a moment ago does not know yet; so one that was made after
        an absence counts from its first duration on. Infinite where there is none.
        """
        return max(0.0, self._settles - self._clock())

    async def look(self) -> None:
        """Read it."""
        try:
            found = await self._ask("GET", self.key.name)
        except errors.NotFound:
            self._note(None)
        else:
            self._note(found)

    # --- our name in it -----------------------------------------------------------------------

    def owned_by(self, node: str, uid: str | None) -> None:
        """From its next renewal on, let it go with the Node of that uid, and with nothing else.

        `None`: the Node does not exist. A Lease that names a Node of another uid as its owner is
        deleted by home's garbage collector, so none is named then.
        """
        self._owners = []
        if uid is not None:
            self._owners.append({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid})

    async def hold(self) -> None:
        """Write our name into what was seen last: make it, take it, or renew it.

        Raises `Conflict` if it is not as it was seen any more, or is gone; then `look` again.
        """
        if not self._looked:
            await self.look()
        old = _spec(self._seen)
        now = self._moment(old)
        spec: LeaseSpec = {
            **old,
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self._duration,
            "renewTime": now,
        }
        if self.held_by != self.holder or "acquireTime" not in old:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = 0 if self._seen is None else _transitions(old) + 1
        await self._write(spec)

    async def renew(self) -> None:
        """`hold`, whoever else has written into it meanwhile: the heartbeat of a node."""
        try:
            await self.hold()
        except errors.Conflict:
            await self.look()
            await self.hold()

    async def release(self) -> None:
        """Take our name out, if it stands there, so that the next holder need not wait."""
        try:
            await self._leave()
        except errors.Conflict:
            await self.look()
            await self._leave()

    async def _leave(self) -> None:
        if self.held_by != self.holder:
            return
        old = _spec(self._seen)
        now = self._moment(old)
        # One second, as client-go writes it: what an empty name means not everybody knows.
        await self._write(
            {
                **old,
                "holderIdentity": "",
                "leaseDurationSeconds": 1,
                "renewTime": now,
                "acquireTime": now,
            }
        )

    # --- inside -------------------------------------------------------------------------------

    async def _write(self, spec: LeaseSpec) -> None:
        if self._seen is None:
            fresh: JSON = {"name": self.key.name, "namespace": self.key.namespace}
            answer = await self._ask("POST", body=self._object(fresh, spec))
        else:
            # With the uid of what it replaces: a PUT alone would make a Lease that is gone.
            meta = {k: v for k, v in self._seen["metadata"].items() if k != "managedFields"}
            answer = await self._ask("PUT", self.key.name, self._object(meta, spec))
        self._note(answer)

    def _object(self, metadata: JSON, spec: LeaseSpec) -> JSON:
        if self._owners is not None:
            metadata = {**metadata, "ownerReferences": self._owners}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }

    async def _ask(self, method: str, name: str = "", body: JSON | None = None) -> k8s_types.Lease:
        return await self._home.request_unqueued(
            method,
            resources.LEASES,
            name,
            namespace=self.key.namespace,
            body=body,
            seconds=self._patience,
        )

    def _note(self, found: k8s_types.Lease | None) -> None:
        if not self._looked or _said(found) != _said(self._seen):
            self._changed = self._clock()
        self._vanished = found is None and (self._vanished or self._seen is not None)
        if found is None:
            self._settles = math.inf
        elif self._settles == math.inf:
            self._settles = self._clock() + self._duration
        self._looked, self._seen = True, found

    def _moment(self, old: LeaseSpec) -> str:
        """Now, but later than the last renewal, whose writer's clock may have been ahead of ours.

        Home's node lifecycle controller counts a renewal only if its time is later than that of
        the one before.
        """
        now = self._now()
        if "renewTime" in old:
            now = max(now, datetime.fromisoformat(old["renewTime"]) + timedelta(microseconds=1))
        return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _spec(lease: k8s_types.Lease | None) -> LeaseSpec:
    return {} if lease is None else lease.get("spec", {})


def _said(lease: k8s_types.Lease | None) -> object:
    """What a holder changes; not labels, nor what others put on it."""
    return None if lease is None else (lease["metadata"].get("uid"), _spec(lease))


def _transitions(spec: LeaseSpec) -> int:
    return spec.get("leaseTransitions", 0)
