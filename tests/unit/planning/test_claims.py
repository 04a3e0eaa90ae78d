"""The table of `planning.claims`: one home claim, and what it means to a pod."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from farlet.constants import PROVISIONER, Reason
from farlet.errors import Refused
from farlet.forge import claims
from farlet.forge.claims import ClaimKey, ForeignClaim, HomeClaim, HomeVolume
from farlet.planning import claims as planning
from farlet.planning.actions import CreateNamespace
from farlet.planning.claims import (
    ClaimSnapshot,
    CreateClaim,
    CreateVolume,
    DeleteClaim,
    DeleteVolume,
    ExpandClaim,
    ExpandVolume,
    Live,
    ReadForeign,
    ReadHome,
    ShowCapacity,
)
from farlet.planning.snapshot import Missing
from unit.planning.objects import CONTEXT

CTX = dataclasses.replace(CONTEXT, storage_class_map=(("far", "fast"),))
KEY = ClaimKey("default", "data", "uid-1")
ABSENT, UNKNOWN = Missing.ABSENT, Missing.UNKNOWN
SELECTED = HomeClaim(
    KEY, "7", "far", ("ReadWriteOnce",), "Filesystem", "1Gi", "", "", CTX.node, PROVISIONER,
    deleting=False, unsupported=(),
)  # fmt: skip
BOUND = dataclasses.replace(SELECTED, volume="farlet-uid-1", capacity="1Gi")
VOLUME = HomeVolume(KEY, "v-1", "5", "Bound", "Delete", "1Gi", str(claims.foreign_key(KEY, CTX)))
RELEASED = dataclasses.replace(VOLUME, phase="Released")
FOREIGN = ForeignClaim(KEY, "f-1", "3", "Bound", "1Gi", "1Gi", deleting=False)
UNUSED = dataclasses.replace(FOREIGN, phase="Pending", capacity="")
GOING = dataclasses.replace(FOREIGN, deleting=True)
GONE = Live(ABSENT, RELEASED)


def given(claim: Any, volume: Any, foreign: Any, **more: Any) -> ClaimSnapshot:
    return ClaimSnapshot(KEY, claim, volume, foreign, **more)


def but(one: Any, **changes: Any) -> Any:
    return dataclasses.replace(one, **changes)


@dataclass(frozen=True)
class Row:
    sentence: str
    given: ClaimSnapshot
    action: Any


GROWING = but(BOUND, requested="2Gi")
ASKED = but(FOREIGN, requested="2Gi")
GROWN = but(ASKED, capacity="2Gi")
ROWS = (
    Row("the foreign claim comes first", given(SELECTED, ABSENT, ABSENT), CreateClaim(SELECTED)),
    Row("then the placeholder", given(SELECTED, ABSENT, UNUSED), CreateVolume(SELECTED)),
    Row(
        "the same where the foreign class binds immediately",
        given(SELECTED, ABSENT, FOREIGN),
        CreateVolume(SELECTED),
    ),
    Row("no placeholder for a foreign claim that ends", given(SELECTED, ABSENT, GOING), None),
    *(
        Row(f"nothing for {what}", given(claim, ABSENT, ABSENT), None)
        for what, claim in (
            ("a claim of another node", but(SELECTED, selected_node="another")),
            ("a claim without a node", but(SELECTED, selected_node="")),
            ("a claim of another provisioner", but(SELECTED, provisioner="disks")),
            ("a claim of another class", but(SELECTED, storage_class="disks")),
            ("a claim that has a volume", but(SELECTED, volume="pv-1")),
            ("a claim that is being deleted", but(SELECTED, deleting=True)),
        )
    ),
    *(
        Row(f"nothing while {what} unknown", given(*seen), None)
        for what, seen in {
            "the claim is": (UNKNOWN, RELEASED, FOREIGN),
            "the placeholder is": (SELECTED, UNKNOWN, ABSENT),
            "the foreign claim is": (SELECTED, ABSENT, UNKNOWN),
        }.items()
    ),
    Row(
        "nothing while the foreign namespace cannot be used",
        given(SELECTED, ABSENT, ABSENT, open=False),
        None,
    ),
    Row(
        "a foreign namespace that farlet creates is created for its first claim",
        given(SELECTED, ABSENT, UNKNOWN, open=False, namespace_missing=True),
        CreateNamespace(),
    ),
    Row(
        "but not for a claim of another node",
        given(
            but(SELECTED, selected_node="x"), ABSENT, UNKNOWN, open=False, namespace_missing=True
        ),
        None,
    ),
    Row(
        "nor for one that has a volume",
        given(BOUND, VOLUME, UNKNOWN, open=False, namespace_missing=True),
        None,
    ),
    Row(
        "a released placeholder is read where its foreign namespace is gone",
        given(ABSENT, RELEASED, UNKNOWN, open=False, namespace_missing=True),
        ReadHome(),
    ),
    Row(
        "but a retained one stays",
        given(ABSENT, but(RELEASED, reclaim_policy="Retain"), UNKNOWN, namespace_missing=True),
        None,
    ),
    Row("a bound claim needs nothing", given(BOUND, VOLUME, FOREIGN), None),
    Row("a lost foreign claim is not created again", given(BOUND, VOLUME, ABSENT), None),
    # Expansion.
    Row(
        "a claim grows in the foreign cluster first",
        given(GROWING, VOLUME, FOREIGN),
        ExpandClaim(FOREIGN, "2Gi"),
    ),
    Row("only a bound claim can grow", given(GROWING, VOLUME, UNUSED), None),
    Row("the result is awaited", given(GROWING, VOLUME, ASKED), None),
    Row("the placeholder follows", given(GROWING, VOLUME, GROWN), ExpandVolume(VOLUME, "2Gi")),
    Row(
        "the claim shows it last",
        given(GROWING, but(VOLUME, capacity="2Gi"), GROWN),
        ShowCapacity(GROWING, "2Gi"),
    ),
    Row(
        "a size that was refused",
        given(GROWING, VOLUME, FOREIGN, rejected={ExpandClaim: "2Gi"}),
        None,
    ),
    Row(
        "another size than the one that was refused",
        given(GROWING, VOLUME, FOREIGN, rejected={ExpandClaim: "3Gi"}),
        ExpandClaim(FOREIGN, "2Gi"),
    ),
    Row(
        "a foreign claim that someone else made larger after a refusal",
        given(GROWING, VOLUME, GROWN, rejected={ExpandClaim: "2Gi"}),
        ExpandVolume(VOLUME, "2Gi"),
    ),
    Row(
        "a placeholder that keeps its size",
        given(GROWING, VOLUME, GROWN, rejected={ExpandVolume: "2Gi"}),
        None,
    ),
    Row("a volume that is larger than requested", given(BOUND, VOLUME, GROWN), None),
    # Deletion.
    Row("a released volume is confirmed", given(ABSENT, RELEASED, FOREIGN), ReadHome()),
    Row(
        "then its foreign claim is deleted",
        given(ABSENT, RELEASED, FOREIGN, live=GONE),
        DeleteClaim(FOREIGN, unused=False),
    ),
    Row(
        "the foreign claim is still in use",
        given(ABSENT, RELEASED, GOING, live=GONE),
        None,
    ),
    Row(
        "its absence is confirmed",
        given(ABSENT, RELEASED, ABSENT, live=GONE),
        ReadForeign(),
    ),
    Row(
        "then the placeholder is deleted",
        given(ABSENT, RELEASED, ABSENT, live=GONE, foreign_gone=True),
        DeleteVolume(RELEASED),
    ),
    *(
        Row(f"nothing is deleted for {what}", given(ABSENT, volume, FOREIGN, live=live), None)
        for what, volume, live in (
            ("a volume that is not released", VOLUME, GONE),
            ("a retained volume", but(RELEASED, reclaim_policy="Retain"), GONE),
            ("a volume of an unknown policy", but(RELEASED, reclaim_policy="Recycle"), GONE),
            ("a claim that exists", RELEASED, Live(BOUND, RELEASED)),
            ("a placeholder that is gone", RELEASED, Live(ABSENT, ABSENT)),
            ("a placeholder that was replaced", RELEASED, Live(ABSENT, but(RELEASED, uid="x"))),
            (
                "a policy that has changed",
                RELEASED,
                Live(ABSENT, but(RELEASED, reclaim_policy="Retain")),
            ),
            ("a phase that has changed", RELEASED, Live(ABSENT, VOLUME)),
            ("another foreign namespace", but(RELEASED, foreign="other/data"), GONE),
        )
    ),
    # A foreign claim that no pod has used.
    Row("an unused foreign claim is confirmed", given(ABSENT, ABSENT, UNUSED), ReadHome()),
    Row(
        "then it is deleted",
        given(ABSENT, ABSENT, UNUSED, live=Live(ABSENT, ABSENT)),
        DeleteClaim(UNUSED, unused=True),
    ),
    Row(
        "also when another node was selected",
        given(
            but(SELECTED, selected_node="x"),
            ABSENT,
            UNUSED,
            live=Live(but(SELECTED, selected_node="x"), ABSENT),
        ),
        DeleteClaim(UNUSED, unused=True),
    ),
    Row(
        "but not when the claim is selected again",
        given(but(SELECTED, selected_node="x"), ABSENT, UNUSED, live=Live(SELECTED, ABSENT)),
        None,
    ),
    Row(
        "nor when its placeholder exists",
        given(ABSENT, ABSENT, UNUSED, live=Live(ABSENT, VOLUME)),
        None,
    ),
    Row(
        "nor when there is a volume of that name which is not a placeholder",
        given(ABSENT, ABSENT, UNUSED, live=Live(ABSENT, UNKNOWN)),
        None,
    ),
    Row("one with data stays", given(ABSENT, ABSENT, FOREIGN), None),
    Row("one in an unknown phase stays", given(ABSENT, ABSENT, but(UNUSED, phase="")), None),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.sentence)
def test_the_table(row: Row) -> None:
    assert planning.decide(row.given, ctx=CTX) == row.action


def state(claim: Any, volume: Any) -> Any:
    return planning.state("data", "default", claim, volume, ctx=CTX)


@pytest.mark.parametrize(
    ("claim", "volume", "expected"),
    [
        pytest.param(BOUND, VOLUME, claims.foreign_name(KEY, CTX), id="bound"),
        pytest.param(UNKNOWN, UNKNOWN, UNKNOWN, id="unknown claim"),
        pytest.param(BOUND, UNKNOWN, UNKNOWN, id="unknown placeholder"),
        pytest.param(SELECTED, ABSENT, UNKNOWN, id="being provided"),
        pytest.param(SELECTED, VOLUME, UNKNOWN, id="not bound yet"),
        pytest.param(BOUND, ABSENT, UNKNOWN, id="the watch of placeholders lags"),
        pytest.param(ABSENT, ABSENT, Reason.UNSUPPORTED_POD, id="no claim of a mapped class"),
        pytest.param(
            but(SELECTED, selected_node=""), ABSENT, Reason.VOLUME_NOT_BOUND, id="no node selected"
        ),
        pytest.param(
            but(BOUND, volume="pv-1"), ABSENT, Reason.UNSUPPORTED_POD, id="another volume"
        ),
        pytest.param(
            but(BOUND, selected_node="x"), ABSENT, Reason.UNSUPPORTED_POD, id="another node's"
        ),
        pytest.param(
            BOUND,
            but(VOLUME, foreign="other/data"),
            Reason.UNSUPPORTED_POD,
            id="another foreign namespace",
        ),
    ],
)
def test_what_a_claim_means_to_a_pod(claim: Any, volume: Any, expected: Any) -> None:
    found = state(claim, volume)
    assert (found.reason if isinstance(found, Refused) else found) == expected


@pytest.mark.parametrize(
    ("claim", "volume", "expected"),
    [
        pytest.param(SELECTED, ABSENT, True, id="a claim for which this node is selected"),
        pytest.param(but(SELECTED, selected_node="x"), ABSENT, False, id="another node's"),
        pytest.param(BOUND, VOLUME, True, id="a bound claim"),
        pytest.param(ABSENT, RELEASED, True, id="a volume to delete"),
        pytest.param(ABSENT, but(RELEASED, reclaim_policy="Retain"), False, id="retained"),
        pytest.param(UNKNOWN, RELEASED, False, id="an unknown claim"),
        pytest.param(ABSENT, ABSENT, False, id="nothing"),
    ],
)
def test_what_concerns_the_foreign_cluster(claim: Any, volume: Any, expected: bool) -> None:
    assert planning.concerns(claim, volume, ctx=CTX) is expected
