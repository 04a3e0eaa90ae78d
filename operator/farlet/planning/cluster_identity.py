"""Whether the foreign cluster is the one that has this node's mirrors, and this home its owner.

The Node keeps a record of both clusters (annotations, which a node may write on its own Node). A
process that begins to write to the foreign cluster leaves a random *term* in the inventory there:
first as the pending one in the record, then in the inventory. So the record of the rightful home
knows the term of the inventory, wherever a process has stopped between the two writes. A clone of
the home cluster, and a home cluster restored from a backup, know an earlier term.

Pure. `foreign/identity.py` reads and writes the foreign side, `node/cluster_record.py` the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farlet.constants import FOREIGN_CLUSTER, HOME_CLUSTER, PENDING_TERM, TERM
from farlet.errors import Unconfirmed


@dataclass(frozen=True, slots=True)
class Record:
    """What the Node says of both clusters; `None`: nothing."""

    foreign: str | None = None
    """Uid of the foreign system namespace."""
    home: str | None = None
    """Home id."""
    term: str | None = None
    """The term that was last read from the inventory."""
    pending: str | None = None
    """The term that is written to the inventory next, or was."""

    def knows(self, term: str) -> bool:
        """Whether this home wrote that term."""
        return term in {self.term, self.pending}

    def annotations(self) -> dict[str, str | None]:
        """The annotations of the Node; `None`: it must not have this one."""
        return {
            FOREIGN_CLUSTER: self.foreign,
            HOME_CLUSTER: self.home,
            TERM: self.term,
            PENDING_TERM: self.pending,
        }


@dataclass(frozen=True, slots=True)
class ForeignState:
    """The foreign cluster as it was just read."""

    namespace: str
    """Name of farlet's system namespace there."""
    uid: str
    """Uid of that namespace."""
    term: str | None = None
    """In the inventory; `None`: no inventory, or one without a term."""
    version: str | None = None
    """resourceVersion of the inventory; `None`: there is none."""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    """Foreign namespaces that can contain mirrors, and their home namespaces: the inventory."""


def record(annotations: Mapping[str, str]) -> Record:
    """The record in the annotations of a Node."""
    return Record(
        *(annotations.get(key) or None for key in (FOREIGN_CLUSTER, HOME_CLUSTER)),
        *(annotations.get(key) or None for key in (TERM, PENDING_TERM)),
    )


def doubt(known: Record, found: ForeignState, *, home_id: str) -> str | None:
    """Why nothing that this foreign cluster answers is evidence; `None`: it is the recorded one.

    A home without a record may use any foreign cluster where nothing is at stake: the inventory
    has no term, or lists no namespace.
    """
    if known.home is not None and known.home != home_id:
        return (
            f"the Node was served for the home cluster {known.home}, and this home cluster is "
            f"{home_id}: the Node was restored into another cluster, or --home-id was changed"
        )
    if known.foreign is not None and known.foreign != found.uid:
        return (
            f"the mirrors of this node are in another foreign cluster: its namespace "
            f"{found.namespace} has the uid {known.foreign}, this one has {found.uid}. "
            "--foreign-kubeconfig leads to another cluster, or the foreign cluster was rebuilt"
        )
    if found.term is None or known.knows(found.term):
        return None
    if known.foreign is None and not found.namespaces:
        return None
    return (
        f"the foreign cluster was last used with the term {found.term}, which the Node does not "
        "record: another farlet uses it for a copy of this home cluster, or one of the two "
        "clusters was restored from a backup"
    )


def word(known: Record, found: ForeignState) -> str:
    """The value of `--adopt-foreign-cluster` that means this cluster as it is now.

    It contains a term that is not recorded. Each start writes a new one, so that the flag adopts
    nothing later, even if it stays set.
    """
    if found.term is None or known.knows(found.term):
        return found.uid
    return f"{found.uid}/{found.term}"


ADOPTION = (
    "mirrors that do not exist in it count as lost: pods with restartPolicy Never become Failed "
    "with reason MirrorLost, as do pods with OnFailure of which a success was seen, and pods with "
    "a container to which the same applies; all others are recreated and can run a second time if "
    "their old mirrors are still running; pods being deleted are removed"
)
"""What follows when an administrator adopts a cluster."""


def unconfirmed(why: str, *, node: str, adopt: str) -> Unconfirmed:
    """The statement for the Node, probes, pods and logs: what is wrong, and what to do."""
    return Unconfirmed(
        f"{why}. farlet changes nothing on node {node} until this is clear. Set "
        f"--foreign-kubeconfig to the right cluster, or stop the other farlet; or, to use this "
        f"cluster as it is, restart farlet with --adopt-foreign-cluster={adopt}. Then {ADOPTION}. "
        "See docs/recovery.md"
    )
