"""Which foreign cluster a start accepts, by what the Node and the inventory record."""

from __future__ import annotations

import pytest

from farlet.planning import cluster_identity
from farlet.planning.cluster_identity import ForeignState, Record

HOME = "home-1"
A, B = "cluster-a", "cluster-b"


def found(uid: str = A, term: str | None = None, *, in_use: bool = True) -> ForeignState:
    namespaces = {"shop-home": "shop"} if in_use else {}
    return ForeignState(namespace="farlet", uid=uid, term=term, version="7", namespaces=namespaces)


ACCEPTED = {
    "a new installation": (Record(), found(in_use=False)),
    "an inventory of a version without terms": (Record(), found()),
    "the recorded cluster": (Record(A, HOME, "t1", "t2"), found(term="t1")),
    "a crash after the inventory was written": (Record(A, HOME, "t1", "t2"), found(term="t2")),
    "an inventory that was deleted": (Record(A, HOME, "t1", "t2"), found(in_use=False)),
    "a new Node, and an inventory without namespaces": (Record(), found(term="t1", in_use=False)),
    "a Node without a term": (Record(A, HOME), found()),
}


@pytest.mark.parametrize(("known", "state"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_start_accepts(known: Record, state: ForeignState) -> None:
    assert cluster_identity.doubt(known, state, home_id=HOME) is None


DOUBTED = {
    "another foreign cluster": (
        Record(A, HOME, "t1", "t2"),
        found(B),
        "another foreign cluster",
        B,
    ),
    "another foreign cluster with a copied inventory": (
        Record(A, HOME, "t1", "t2"),
        found(B, "t2"),
        "another foreign cluster",
        B,
    ),
    "another foreign cluster that another farlet used": (
        Record(A, HOME, "t1", "t2"),
        found(B, "t9"),
        "another foreign cluster",
        f"{B}/t9",
    ),
    "a Node of another home cluster": (
        Record(A, "home-0", "t1", "t2"),
        found(term="t2"),
        "was served for the home cluster home-0",
        A,
    ),
    "a clone of home, or a cluster that was restored": (
        Record(A, HOME, "t1", "t2"),
        found(term="t9"),
        "term t9, which the Node does not record",
        f"{A}/t9",
    ),
    "an empty inventory with an unknown term": (
        Record(A, HOME, "t1", "t2"),
        found(term="t9", in_use=False),
        "term t9",
        f"{A}/t9",
    ),
    "a new Node, and namespaces in use": (Record(), found(term="t9"), "term t9", f"{A}/t9"),
}


@pytest.mark.parametrize(("known", "state", "text", "word"), DOUBTED.values(), ids=DOUBTED)
def test_a_start_doubts(known: Record, state: ForeignState, text: str, word: str) -> None:
    why = cluster_identity.doubt(known, state, home_id=HOME)
    assert why is not None
    assert text in why
    assert cluster_identity.word(known, state) == word


def test_the_statement_contains_the_flag_and_its_consequences() -> None:
    text = str(cluster_identity.unconfirmed("it differs", node="far", adopt=f"{B}/t9"))
    assert f"--adopt-foreign-cluster={B}/t9" in text
    assert "Never become Failed with reason MirrorLost" in text


def test_annotations_of_the_node_hold_the_record() -> None:
    record = Record(A, HOME, "t1", "t2")
    annotations = {k: v for k, v in record.annotations().items() if v is not None}
    assert cluster_identity.record(annotations) == record
    assert cluster_identity.record({}) == Record()
