"""Confirms again and again that the foreign API server is that of the cluster with the mirrors.

Everything that is read from another cluster looks like a loss: its 404s are true, of the wrong
pods. So an answer counts only after a read of farlet's system namespace that began later and
returned the recorded uid. Until then, and while the inventory has the term of another process,
nothing is `confirmed`: `plan` leaves both sides as they are, and `guard` stops every write.

`planning/cluster_identity.py` decides at the start; the rules of this module are those afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import uuid
from collections.abc import Callable

import structlog

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.joined_read import JoinedRead
from farlet.context import Context
from farlet.errors import Refused, Unconfirmed
from farlet.foreign import inventory
from farlet.k8s_types import ObjectMeta
from farlet.planning.cluster_identity import ForeignState

UID_LENGTH = 64
"""Characters of a uid that are used: it comes from outside and is repeated in messages."""

log = structlog.get_logger()


def _nothing() -> None:
    pass


class ForeignIdentity:
    """The identity of the foreign cluster, for one process. For one event loop.

    `accept` it once; `confirm` it after each answer from which something irreversible follows;
    `probe` it every few seconds.
    """

    def __init__(
        self, foreign: ApiClient, ctx: Context, *, on_change: Callable[[], None] = _nothing
    ) -> None:
        """`on_change` is called when the cluster was confirmed, or is in doubt."""
        self._foreign = foreign
        self.inventory = inventory.NamespaceInventory(foreign, ctx, on_term=self._term_read)
        self._namespace = ctx.namespaces.own
        self._on_change = on_change
        self.uid: str | None = None
        """Uid of farlet's system namespace in the accepted cluster."""
        self._node_exists = True
        self._inventory_uid: str | None = None
        self._connection = foreign.connection
        self._may_write = False
        self._read_uid = JoinedRead(self._compare)
        self._lost = False
        self.term = uuid.uuid4().hex
        """The term of this process."""
        self.established = asyncio.Event()
        """The cluster was accepted once."""
        self.problem: Refused | None = None
        """Why it is not confirmed, if farlet knows."""
        self.doubts = 0
        """Changes when a doubt begins and when it ends: what was read in between is void."""

    @property
    def confirmed(self) -> bool:
        """Whether answers are those of the recorded cluster, and this process may write to it."""
        return (
            self.established.is_set()
            and not isinstance(self.problem, Unconfirmed)
            and self._connection == self._foreign.connection
        )

    def guard(self) -> float:
        """A `write_guard.Guard`: raises `Unconfirmed`, just before a write would be sent."""
        if not (self.confirmed or self._may_write):
            raise self._unconfirmed()
        return math.inf

    # --- the start ----------------------------------------------------------------------------

    async def read(self) -> ForeignState:
        """The foreign cluster as it is. Raises like `ApiClient.get`; no confirmation follows."""
        connection = self._foreign.connection
        found = await self._foreign.get(resources.NAMESPACES.metadata_only, self._namespace)
        stored = await self.inventory.find()
        if connection != self._foreign.connection:
            raise Unconfirmed("the connection to the foreign cluster changed while it was read")
        self._connection = connection
        term = None if stored is None else inventory.term_of(stored["metadata"])
        return ForeignState(
            namespace=self._namespace,
            uid=found["metadata"]["uid"][:UID_LENGTH],
            term=term,
            version=None if stored is None else stored["metadata"].get("resourceVersion"),
            namespaces={} if stored is None else inventory.entries_of(stored),
        )

    async def begin(self, found: ForeignState) -> None:
        """Write our term to the inventory that was read, and accept the cluster.

        The record on the Node has this term as pending. Raises `Conflict` if the inventory has
        changed since, and like `ApiClient.patch`: the answer may be lost, so `read` again.
        """
        self._may_write = True
        try:
            if found.term != self.term:
                await self.inventory.write_term(self.term, version=found.version)
        finally:
            self._may_write = False
        self.accept(found.uid)

    def accept(self, uid: str) -> None:
        """From now on the foreign cluster is that one."""
        self.uid, self.problem = uid, None
        self._connection = self._foreign.connection
        self.established.set()
        log.info("foreign cluster confirmed", uid=uid)
        self._on_change()

    def not_read(self, why: Refused | None) -> None:
        """The cluster could not be read yet."""
        if not self.established.is_set() and why is not None:
            new = self.problem is None or self.problem.reason is not why.reason
            self.problem = why
            if new:
                self._on_change()

    # --- afterwards ---------------------------------------------------------------------------

    async def confirm(self) -> None:
        """Whether the last answer was one of the recorded cluster: read the uid now.

        One read serves all callers that called before it began. Raises `Unconfirmed` if the uid
        differs or the connection has changed meanwhile, else like `ApiClient.get`.
        """
        before = self._foreign.connection, self.doubts
        await self._read_uid()
        if before != (self._foreign.connection, self.doubts):
            raise self._unconfirmed()

    async def _compare(self) -> None:
        if not self.established.is_set():
            raise self._unconfirmed()
        connection = self._foreign.connection
        try:
            found = await self._foreign.get(resources.NAMESPACES.metadata_only, self._namespace)
        except errors.NotFound:
            self._differs(f"the foreign cluster has no namespace {self._namespace}")
        else:
            uid = found["metadata"]["uid"][:UID_LENGTH]
            if uid != self.uid:
                self._differs(
                    f"the mirrors of this node are in another foreign cluster: its namespace "
                    f"{self._namespace} has the uid {self.uid}, this one has {uid}"
                )
        if connection != self._foreign.connection:
            raise self._unconfirmed()  # it is not known which of the two answered
        if self._lost:
            raise self._unconfirmed()
        if self._connection == connection and self.problem is None:
            return
        if self.problem is not None:
            self.doubts += 1
        self._connection, self.problem = connection, None
        log.info("foreign cluster confirmed again", uid=self.uid)
        self._on_change()

    def _differs(self, why: str) -> None:
        self.doubt(
            Unconfirmed(
                f"{why}. farlet changes nothing until --foreign-kubeconfig leads to the former "
                "cluster again. If that is gone, restart farlet: it then reports how to adopt this "
                "one. See docs/recovery.md"
            )
        )
        raise self._unconfirmed()

    def doubt(self, why: Unconfirmed, *, lost: bool = False) -> None:
        """Nothing that the foreign cluster answers is evidence. `lost`: for this whole process."""
        self._lost = self._lost or lost
        if self.problem is not None and str(self.problem) == str(why):
            return
        self.problem = why
        self.doubts += 1
        log.error("foreign cluster is not confirmed", err=str(why))
        self._on_change()

    def node_read(self, *, exists: bool) -> None:
        """Without a Node, `probe` removes the term from the inventory."""
        self._node_exists = exists

    async def probe(self) -> None:
        """Read the inventory, which has our term. Raises like `ApiClient.get`, and `Unconfirmed`.

        An inventory that is gone or was replaced is a reason to confirm the uid.
        """
        found: ObjectMeta | None = None
        try:
            found = await self.inventory.get_metadata()
        except errors.NotFound:
            if not self.established.is_set() and self.problem is None:
                raise
        if not self.established.is_set():
            if isinstance(self.problem, Unconfirmed):
                raise self.problem
            return
        uid = None if found is None else found["uid"]
        if uid is None or uid != self._inventory_uid or not self.confirmed:
            with contextlib.suppress(Unconfirmed):  # `problem` contains it
                await self.confirm()
                self._inventory_uid = uid
        if isinstance(self.problem, Unconfirmed):
            raise self.problem
        if found is not None and self.confirmed:
            await self._correct_term(found)

    async def _correct_term(self, found: ObjectMeta) -> None:
        """Remove the term when the Node is gone; write it again if a user removed it."""
        term, wanted = inventory.term_of(found), self.term if self._node_exists else None
        if term in {None, self.term} and term != wanted:
            await self.inventory.write_term(wanted, version=found["resourceVersion"])

    def _term_read(self, term: str | None) -> None:
        """The inventory has this term. That of another process ends all writes of this one."""
        if not self.established.is_set():
            return
        if self.inventory.term is not None and term is not None and term != self.term:
            self.doubt(
                Unconfirmed(
                    f"another farlet uses the foreign cluster (term {term}), for this node or for "
                    "a copy of its home cluster. This process changes nothing any more. Stop one "
                    "of the two, then restart the other. See docs/recovery.md"
                ),
                lost=True,
            )

    def _unconfirmed(self) -> Unconfirmed:
        if isinstance(self.problem, Unconfirmed):
            return self.problem
        return Unconfirmed("the identity of the foreign cluster is being verified")
