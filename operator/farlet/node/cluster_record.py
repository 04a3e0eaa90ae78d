"""The record of both clusters on the Node, and the start of this process's term.

The record is written before the inventory, so that a crash between the two leaves a term that the
Node knows. `planning/cluster_identity.py` has the rules; nothing is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from farlet import errors, k8s_types, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.context import Context
from farlet.errors import Unconfirmed
from farlet.foreign.identity import ForeignIdentity
from farlet.forge import node as forge
from farlet.node.home_node import HomeNode
from farlet.planning import api_refusals, cluster_identity
from farlet.planning.actions import Step
from farlet.planning.cluster_identity import ForeignState, Record

RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 10.0
DOUBT_SECONDS = 10.0
"""Between two reads of a cluster that is not confirmed: its kubeconfig may be corrected."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The foreign cluster as it is, and what the Node records."""

    found: ForeignState
    known: Record
    doubt: str | None
    """Why it is perhaps another cluster; `None`: it is the recorded one, or none is recorded."""

    @property
    def word(self) -> str:
        """The value of `--adopt-foreign-cluster` for this cluster."""
        return cluster_identity.word(self.known, self.found)


async def compare(home: ApiClient, foreign: ApiClient, *, ctx: Context) -> Comparison:
    """Compare both without a write. Raises like `ApiClient.get`.

    The Node is read last: a process that begins its term meanwhile records that first.
    """
    found = await ForeignIdentity(foreign, ctx).read()
    try:
        known = cluster_identity.record(
            _annotations(await home.get(resources.NODES, ctx.node)),
        )
    except errors.NotFound:
        known = Record()
    return Comparison(found, known, cluster_identity.doubt(known, found, home_id=ctx.home_id))


class ClusterRecord:
    """The record on the Node of this process."""

    def __init__(
        self,
        home_node: HomeNode,
        identity: ForeignIdentity,
        *,
        ctx: Callable[[], Context],
        adopt: str | None,
    ) -> None:
        """`adopt`: the value of `--adopt-foreign-cluster`."""
        self._home_node = home_node
        self._identity = identity
        self._ctx = ctx
        self._adopt = adopt
        self._adoptions = retrying.OncePerCause()

    async def establish(self) -> None:
        """Confirm the foreign cluster and begin the term. Retries until that is done.

        Raises `StartError` if the foreign system namespace cannot be used.
        """
        backoff = retrying.Backoff(RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS)
        failures = retrying.OncePerCause()
        while not self._identity.established.is_set():
            seconds = backoff.next()
            try:
                if not await self._begin(await self._identity.read()):
                    seconds = DOUBT_SECONDS
            except (errors.Unreachable, errors.Throttled, errors.Conflict, Unconfirmed) as err:
                self._identity.not_read(api_refusals.of(err, step=Step.NAMESPACE))
                if isinstance(err, errors.Conflict) and err.cluster == "home":
                    # As expected: controllers of the home cluster write to each new Node.
                    log.info("node changed while it was recorded", err=str(err), retry_in=seconds)
                elif failures.is_new(str(err)):
                    log.warning("failed to confirm foreign cluster", err=str(err), retry_in=seconds)
            except errors.ApiError as err:
                if err.cluster == "foreign":
                    raise self._identity.inventory.unusable(err) from err
                log.warning("failed to record foreign cluster", err=str(err), retry_in=seconds)
            if not self._identity.established.is_set():
                await asyncio.sleep(seconds)

    async def _begin(self, found: ForeignState) -> bool:
        """Record the cluster that was read, and write the term. False: not this one, or not yet."""
        node, home_id = self._home_node.node, self._ctx().home_id
        if node is None:
            return False
        known = cluster_identity.record(_annotations(node))
        why = cluster_identity.doubt(known, found, home_id=home_id)
        if why is not None:
            word = cluster_identity.word(known, found)
            if self._adopt != word:
                name = node["metadata"]["name"]
                self._identity.doubt(cluster_identity.unconfirmed(why, node=name, adopt=word))
                return False
            if self._adoptions.is_new(word):  # not again after a conflict
                log.warning(
                    "adopting foreign cluster",
                    uid=found.uid,
                    why=why,
                    consequence=cluster_identity.ADOPTION,
                )
        record = Record(found.uid, home_id, term=found.term, pending=self._identity.term)
        await self._write(node, record)
        await self._identity.begin(found)
        return True

    async def repair(self, node: k8s_types.Node) -> None:
        """Write the record again if a user removed it. Raises like `Cluster.call`."""
        known = cluster_identity.record(_annotations(node))
        foreign = self._identity.uid
        if self._identity.confirmed and foreign is not None and known.pending is None:
            term = self._identity.term
            await self._write(node, Record(foreign, self._ctx().home_id, term=term, pending=term))

    async def _write(self, node: k8s_types.Node, record: Record) -> None:
        body = forge.annotations_patch(node, record.annotations())
        if body is not None:
            await self._home_node.patch(body)

    def node_changed(self, node: k8s_types.Node | None) -> None:
        """Without a Node the term ends: the next start creates a Node that knows no term.

        A Node that records another process's term was taken over, or restored from a backup.
        """
        if not self._identity.established.is_set():
            return
        self._identity.node_read(exists=node is not None)
        if node is None:
            return
        pending = cluster_identity.record(_annotations(node)).pending
        if pending is not None and pending != self._identity.term:
            self._identity.doubt(
                Unconfirmed(
                    f"another farlet began to serve the node {node['metadata']['name']} (term "
                    f"{pending}), or the home cluster was restored from a backup. This process "
                    "changes nothing any more. Stop the other farlet, or restart this one. See "
                    "docs/recovery.md"
                ),
                lost=True,
            )


def _annotations(node: k8s_types.Node) -> dict[str, str]:
    return node["metadata"].get("annotations", {})
