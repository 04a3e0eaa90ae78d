"""One Lease in the home cluster: its holder, how long it has not changed, and our writes to it.

It is a node's heartbeat (KEP-589) and the lock of leader election. Both are written as kubelets and
client-go do it: whole objects with the uid and resourceVersion that they replace. Times written by
others are never compared with our clock: a Lease has expired when we have seen no change in it for
its duration, measured by the monotonic clock of this machine.

`leadership` decides when to take it, and what follows.
"""

from __future__ import annotations

import contextlib
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
from farlet.forge import timestamps
from farlet.k8s_types import LeaseSpec

T = TypeVar("T")

NODE_LEASES = "kube-node-lease"
"""Namespace of the nodes' own Leases (`NamespaceNodeLease` in `pkg/apis/core`)."""

boottime: Callable[[], float] = functools.partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)
"""Seconds of a clock that cannot be set. It continues while the machine is suspended, where the
system has such a clock: `CLOCK_MONOTONIC` of Linux stops then, and a Lease does not."""


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
    seconds. In that case the write may have been applied, or may be applied later.
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
        self._was_read = False
        self._seen: k8s_types.Lease | None = None
        self._changed = 0.0
        self._vanished = False
        self._settles = -math.inf
        self._owners: list[JSON] | None = None

    # --- what was seen of it ------------------------------------------------------------------

    @property
    def held_by(self) -> str:
        """The holder when it was last seen; empty if it had none, or no Lease exists."""
        return _spec(self._seen).get("holderIdentity", "")

    @property
    def free_in(self) -> float:
        """Seconds until `holder` is allowed to write its name into it; 0 if it is allowed now.

        A Lease that was deleted is left to its holder, who may create it again, for the duration
        of one of ours.
        """
        if self.held_by in {"", self.holder} and not self._vanished:
            return 0.0
        lasts = _spec(self._seen).get("leaseDurationSeconds", self._duration)
        return max(0.0, self._changed + lasts - self._clock())

    @property
    def settled_in(self) -> float:
        """Seconds until our renewal proves that no other process relies on an earlier Lease.

        The holder of a deleted Lease may not know about the deletion, and may write until its own
        deadline. So a Lease that was created while none existed counts only after one duration.
        For example, with a duration of 15 s: the Lease is deleted at 0 s, we create it at 2 s and
        may lead from 17 s on. Infinite while no Lease exists.
        """
        return max(0.0, self._settles - self._clock())

    async def read(self) -> None:
        try:
            found = await self._request("GET", self.key.name)
        except errors.NotFound:
            self._note(None)
        else:
            self._note(found)

    # --- our name in it -----------------------------------------------------------------------

    def owned_by(self, node: str, uid: str | None) -> None:
        """From the next renewal on, the Node of that uid is its only owner.

        `None`: the Node does not exist. Home's garbage collector deletes a Lease whose owner has
        another uid, so it has no owner then.
        """
        self._owners = []
        if uid is not None:
            self._owners.append({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid})

    async def hold(self) -> None:
        """Write our name into the Lease as it was last read: create, take or renew it.

        Raises `Conflict` if it has changed since, or was deleted. `read` it again then.
        """
        if not self._was_read:
            await self.read()
        old = _spec(self._seen)
        now = self._renew_time(old)
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

    async def release(self) -> None:
        """Remove our name, if it is the holder, so that the next holder need not wait."""
        try:
            await self._leave()
        except errors.Conflict:
            await self.read()
            await self._leave()

    async def _leave(self) -> None:
        if self.held_by != self.holder:
            return
        old = _spec(self._seen)
        now = self._renew_time(old)
        # One second, as client-go writes it: not every client knows what an empty name means.
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
            answer = await self._request("POST", body=self._object(fresh, spec))
        else:
            # With the uid it replaces: a PUT without it would create a Lease that was deleted.
            meta = {k: v for k, v in self._seen["metadata"].items() if k != "managedFields"}
            answer = await self._request("PUT", self.key.name, self._object(meta, spec))
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

    async def _request(
        self, method: str, name: str = "", body: JSON | None = None
    ) -> k8s_types.Lease:
        return await self._home.request_unqueued(
            method,
            resources.LEASES,
            name,
            namespace=self.key.namespace,
            body=body,
            seconds=self._patience,
        )

    def _note(self, found: k8s_types.Lease | None) -> None:
        if not self._was_read or _holder_fields(found) != _holder_fields(self._seen):
            self._changed = self._clock()
        self._vanished = found is None and (self._vanished or self._seen is not None)
        if found is None:
            self._settles = math.inf
        elif self._settles == math.inf:
            self._settles = self._clock() + self._duration
        self._was_read, self._seen = True, found

    def _renew_time(self, old: LeaseSpec) -> str:
        """Now, but later than the last renewal, whose writer's clock may have been ahead of ours.

        Home's node lifecycle controller counts a renewal only if its time is later than that of
        the one before.
        """
        now = self._now()
        if (last := timestamps.parse(old.get("renewTime"))) is not None:
            with contextlib.suppress(OverflowError):  # nothing follows the last moment
                now = max(now, last + timedelta(microseconds=1))
        return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _spec(lease: k8s_types.Lease | None) -> LeaseSpec:
    return {} if lease is None else lease.get("spec", {})


def _holder_fields(lease: k8s_types.Lease | None) -> object:
    """The fields that a holder changes, without labels and annotations."""
    return None if lease is None else (lease["metadata"].get("uid"), _spec(lease))


def _transitions(spec: LeaseSpec) -> int:
    return spec.get("leaseTransitions", 0)
