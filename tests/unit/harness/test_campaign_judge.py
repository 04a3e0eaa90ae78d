"""The judge of the campaign finds what is planted, and nothing in a good campaign."""

import collections
import dataclasses
from collections.abc import Callable

import pytest

from faults.campaign import judge, schedule
from faults.campaign.judge import Created, Left, Records
from faults.campaign.schedule import Kind


def good() -> Records:
    """One pod of each kind, as a good campaign leaves them."""
    pods = [
        Created("runs", "Always"),
        Created("ended", "Never", writes=True),
        Created("deleted", "Never", deleted=True),
        Created("rejected", "Never", rejected=True),
        Created("disturbed", "Never", disturbed=True),
    ]
    return Records(
        pods={pod.name: pod for pod in pods},
        left={
            "runs": Left("Running", "", deleting=False),
            "ended": Left("Succeeded", "", deleting=False),
            "rejected": Left("Pending", "InvalidAPIServerSupport", deleting=False),
            "disturbed": Left("Failed", "MirrorLost", deleting=False),
        },
        mirrors_created={"runs": 1, "ended": 1, "deleted": 1, "disturbed": 1},
        home_deleted=frozenset({"deleted"}),
        mirrors_deleted=frozenset({"deleted"}),
        ledger={"ended": 1},
        tokens=[("u-runs", "u-runs")],
    )


def test_a_good_campaign_has_no_violation() -> None:
    assert judge.judge(good()).all == []


def _run_twice(records: Records) -> Records:
    return dataclasses.replace(records, ledger={"ended": 2})


def _two_mirrors(records: Records) -> Records:
    return dataclasses.replace(records, mirrors_created={**records.mirrors_created, "ended": 2})


def _lost(records: Records) -> Records:
    lost = {"runs": Left("Failed", "MirrorLost", deleting=False)}
    return dataclasses.replace(records, left={**records.left, **lost})


def _vanished(records: Records) -> Records:
    return dataclasses.replace(
        records, left={name: one for name, one in records.left.items() if name != "runs"}
    )


def _never_ran(records: Records) -> Records:
    return dataclasses.replace(records, ledger={})


def _undead(records: Records) -> Records:
    left = {"deleted": Left("Running", "", deleting=True)}
    return dataclasses.replace(records, left={**records.left, **left})


def _released(records: Records) -> Records:
    return dataclasses.replace(records, home_deleted=frozenset({"deleted", "runs"}))


def _killed(records: Records) -> Records:
    return dataclasses.replace(records, mirrors_deleted=frozenset({"deleted", "ended"}))


def _another_token(records: Records) -> Records:
    return dataclasses.replace(records, tokens=[("u-runs", "u-ended")])


def _in_another_cluster(records: Records) -> Records:
    return dataclasses.replace(records, elsewhere=["create pods runs"])


def _ran_although_rejected(records: Records) -> Records:
    return dataclasses.replace(records, mirrors_created={**records.mirrors_created, "rejected": 1})


def _without_row(records: Records) -> Records:
    return dataclasses.replace(records, without_row=["home: list nodes"])


def _refused(records: Records) -> Records:
    return dataclasses.replace(records, refused=["foreign: create secrets"])


PLANTED: dict[str, tuple[Callable[[Records], Records], list[str]]] = {
    "a container that ran twice": (_run_twice, ["the container of ended ran 2 times"]),
    "two mirrors of a pod that runs once": (_two_mirrors, ["ended has had 2 mirrors"]),
    "a pod reported lost": (_lost, ["runs is reported lost"]),
    "a pod that vanished": (_vanished, ["runs does not exist any more"]),
    "an end without a run": (_never_ran, ["ended is reported Succeeded and never ran"]),
    "a pod whose deletion hangs": (_undead, ["deleted was deleted and still exists"]),
    "a home pod deleted by farlet": (_released, ["farlet deleted the home pod runs"]),
    "a mirror deleted by farlet": (_killed, ["farlet deleted the mirror of ended"]),
    "a token of another pod": (
        _another_token,
        ["the Secret of pod u-runs has a token of pod u-ended"],
    ),
    "a write to another cluster": (
        _in_another_cluster,
        ["farlet wrote to another cluster: create pods runs"],
    ),
    "a request without a row": (
        _without_row,
        ["no row of the permissions allows: home: list nodes"],
    ),
    "a rejected request": (_refused, ["an API server rejected: foreign: create secrets"]),
    "a rejected pod that ran": (
        _ran_although_rejected,
        ["rejected must not run and has had 1 mirrors"],
    ),
}


@pytest.mark.parametrize(
    ("plant", "found"), [pytest.param(*case, id=name) for name, case in PLANTED.items()]
)
def test_the_judge_finds(plant: Callable[[Records], Records], found: list[str]) -> None:
    assert judge.judge(plant(good())).all == found


def test_a_schedule_is_the_same_for_the_same_seed_and_has_every_kind_in_each_round() -> None:
    count, kinds = (2 * schedule.TURNS + 1) * len(Kind) + 1, list(Kind)
    planned = schedule.plan(7, count, kinds)
    assert planned == schedule.plan(7, count, kinds)
    assert planned != schedule.plan(8, count, kinds)
    *whole, last = [collections.Counter(one.kind for one in each) for each in planned]
    assert whole == [dict.fromkeys(Kind, schedule.TURNS)] * 2
    assert sorted(last.values()) == [1] * (len(Kind) - 1) + [2]
