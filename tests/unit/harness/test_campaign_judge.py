"""The judge of the campaign finds what is planted, and nothing in a good campaign."""

import asyncio
import collections
import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from farlet.planning import cluster_identity
from farlet.planning.cluster_identity import ForeignState, Record
from faults.campaign import candidates, judge, results, schedule
from faults.campaign.judge import Created, Left, Records
from faults.campaign.schedule import Kind
from faults.campaign.workload import Workload


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
        ledger={"ended": [100.0]},
        tokens=[("u-runs", "u-runs")],
    )


def test_a_good_campaign_has_no_violation() -> None:
    assert judge.judge(good()).all == []


def _run_twice(records: Records) -> Records:
    return dataclasses.replace(records, ledger={"ended": [100.0, 200.0]})


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


def _changed(records: Records, name: str, **changes: object) -> Records:
    """The records with another pod of that name."""
    pod = dataclasses.replace(records.pods[name], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(records, pods={**records.pods, name: pod})


def _without(records: Records, name: str) -> Records:
    return dataclasses.replace(
        records, left={key: one for key, one in records.left.items() if key != name}
    )


def _run_twice_before_a_restore(records: Records) -> Records:
    return dataclasses.replace(_run_twice(records), restores=[300.0], foreign_restores=[300.0])


def _run_twice_after_a_restore_at_home(records: Records) -> Records:
    return dataclasses.replace(_run_twice(records), restores=[150.0])


def _recreated_although_recorded(records: Records) -> Records:
    return _changed(_two_mirrors(records), "ended", mirror_gone=True)


def _third_mirror(records: Records) -> Records:
    twice = dataclasses.replace(records, mirrors_created={**records.mirrors_created, "ended": 3})
    return _changed(twice, "ended", forgotten=1)


def _survived(records: Records) -> Records:
    return _changed(records, "runs", undone=True)


def _lost_once_more(records: Records) -> Records:
    return _changed(records, "deleted", back=True)


def _asked_to_adopt(records: Records) -> Records:
    return dataclasses.replace(records, restores=[100.0], adoptions=[90.0, 110.0, 120.0])


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


def _undone(records: Records) -> Records:
    undone = _without(_changed(records, "runs", undone=True), "runs")
    return dataclasses.replace(undone, mirrors_deleted=frozenset({"deleted", "runs"}))


def _back(records: Records) -> Records:
    left = {"deleted": Left("Failed", "MirrorLost", deleting=False)}
    return dataclasses.replace(
        _changed(records, "deleted", back=True), left={**records.left, **left}
    )


def _mirror_gone(records: Records) -> Records:
    left = {"ended": Left("Failed", "MirrorLost", deleting=False)}
    return dataclasses.replace(
        _changed(records, "ended", mirror_gone=True), left={**records.left, **left}
    )


def _restarted(records: Records) -> Records:
    return dataclasses.replace(_run_twice(records), restores=[150.0], foreign_restores=[150.0])


def _forgotten(records: Records) -> Records:
    return _changed(_run_twice(_two_mirrors(records)), "ended", forgotten=1)


def _unrecorded(records: Records) -> Records:
    return _changed(_two_mirrors(records), "ended", mirror_gone=True, unrecorded=1)


def _adopted(records: Records) -> Records:
    return dataclasses.replace(records, restores=[100.0, 115.0], adoptions=[110.0, 120.0])


EXPLAINED: dict[str, tuple[Callable[[Records], Records], list[str], list[str]]] = {
    "a pod that was created after the backup": (_undone, [], []),
    "a pod that was deleted after the backup": (_back, [], []),
    "a mirror that was created after the backup": (_mirror_gone, [], []),
    "a kubelet's restart": (_restarted, ["the container of ended ran again"], []),
    "a restored object without a record": (
        _forgotten,
        [],
        ["ended has had 2 mirrors", "the container of ended ran again"],
    ),
    "a lost mirror without a record": (_unrecorded, [], ["ended has had 2 mirrors"]),
    "adoptions after restores": (_adopted, [], []),
}


@pytest.mark.parametrize(
    ("change", "by_kubelets", "by_farlet"),
    [pytest.param(*case, id=name) for name, case in EXPLAINED.items()],
)
def test_restores_explain(
    change: Callable[[Records], Records], by_kubelets: list[str], by_farlet: list[str]
) -> None:
    verdict = judge.judge(change(good()))
    assert verdict.all == []
    assert (verdict.by_kubelets, verdict.by_farlet) == (by_kubelets, by_farlet)


UID, OTHER = "8f4b0c52-0000-4000-8000-00000000000a", "8f4b0c52-0000-4000-8000-00000000000b"
FOUND = ForeignState(namespace="farlet", uid=UID)


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        pytest.param(FOUND, UID, id="the right cluster, whose record is gone"),
        pytest.param(dataclasses.replace(FOUND, term="ab1"), f"{UID}/ab1", id="an unknown term"),
        pytest.param(dataclasses.replace(FOUND, uid=OTHER), None, id="another cluster"),
    ],
)
def test_an_administrator_adopts_the_right_cluster_only(
    found: ForeignState, asked: str | None
) -> None:
    word = cluster_identity.word(Record(), found)
    statement = str(cluster_identity.unconfirmed("why", node="far", adopt=word))
    assert candidates.adoption(f"[-]foreign failed: {statement}", UID) == asked


def test_an_administrator_restarts_a_process_that_ended_its_term() -> None:
    statement = "[-]foreign failed: another farlet. This process changes nothing any more. Stop"
    assert candidates.adoption(statement, UID) == ""
    assert candidates.adoption("[+]foreign ok", UID) is None


def _seen(name: str, *, mirrored: bool = True, **metadata: object) -> dict[str, Any]:
    condition = {"type": "farlet.io/Mirrored", "status": "True"}
    conditions = [condition] if mirrored else []
    return {"metadata": {"name": name, **metadata}, "status": {"conditions": conditions}}


def test_a_restored_home_cluster_undoes_only_what_came_after_the_backup() -> None:
    users = Workload.__new__(Workload)
    users.pods = {
        pod.name: pod
        for pod in (
            Created("new", "Never", created_at=11.0),
            Created("lost", "Never", created_at=9.0),
            Created("back", "Never", deleted=True, deleted_at=11.0),
            Created("undead", "Never", deleted=True, deleted_at=9.0),
            Created("in-flight", "Never", deleted=True, deleted_at=None),
            Created("ending", "Never", deleted=True, deleted_at=11.0),
            Created("forgotten", "Never", created_at=9.0),
            Created("created-meanwhile", "Never", created_at=21.0),
            Created("deleted-meanwhile", "Never", deleted=True, deleted_at=21.0),
        )
    }
    users.home_restored(
        [
            _seen("back"),
            _seen("undead"),
            _seen("in-flight"),
            _seen("ending", deletionTimestamp="now"),
            _seen("forgotten", mirrored=False),
            _seen("deleted-meanwhile"),
            _seen("of-others"),
        ],
        backup=10.0,
        listed=20.0,
    )
    expected = {name for name, pod in users.pods.items() if pod.expected}
    assert expected == {"lost", "back", "forgotten", "created-meanwhile"}
    assert [name for name, pod in users.pods.items() if pod.undone] == ["new"]
    assert [name for name, pod in users.pods.items() if pod.forgotten] == ["forgotten"]


def test_a_restored_foreign_cluster_loses_mirrors_with_and_without_a_record() -> None:
    users = Workload.__new__(Workload)
    users.pods = {name: Created(name, "Never") for name in ("kept", "recorded", "unrecorded")}
    users.foreign_restored(
        ["recorded", "unrecorded", "of-others"],
        [_seen("kept"), _seen("recorded"), _seen("unrecorded", mirrored=False)],
    )
    assert [name for name, pod in users.pods.items() if pod.mirror_gone] == [
        "recorded",
        "unrecorded",
    ]
    assert [name for name, pod in users.pods.items() if pod.unrecorded] == ["unrecorded"]


def test_a_campaign_that_was_too_short_reports_what_it_had_too_little_of() -> None:
    faults = collections.Counter(dict.fromkeys(Kind, results.LEAST_TIMES))
    faults[Kind.CLOCK] -= 1
    verdict = judge.judge(good())
    result = results.Result(faults, 199, good(), verdict, [], [20.0], 25.0, 0)
    assert result.shortfalls == [
        f"faults: {faults.total()} of 1000",
        "overlapping faults: 199 of 200",
        "pods: 5 of 3000",
        "containers that ran: 1 of 100",
        f"{Kind.CLOCK.about}: 39 of 40",
    ]
    assert "| pods | 5 |" in results.page(result, seed=1)


def test_a_schedule_is_the_same_for_the_same_seed_and_has_every_kind_in_each_round() -> None:
    count, kinds = (2 * schedule.TURNS + 1) * len(Kind) + 1, list(Kind)
    planned = schedule.plan(7, count, kinds)
    assert planned == schedule.plan(7, count, kinds)
    assert planned != schedule.plan(8, count, kinds)
    *whole, last = [collections.Counter(one.kind for one in each) for each in planned]
    assert whole == [dict.fromkeys(Kind, schedule.TURNS)] * 2
    assert sorted(last.values()) == [1] * (len(Kind) - 1) + [2]


class _Farlet:
    """Asks for an adoption until it is restarted with it."""

    health_address = ""

    def __init__(self) -> None:
        self.process = SimpleNamespace(environment={}, alive=True)
        self.starts = 0

    async def stop(self) -> None:
        self.process.alive = False

    def start(self) -> None:
        self.process.alive = True
        self.starts += 1


async def test_an_administrator_adopts_once_for_both_farlets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    word = f"{UID}/ab1"
    both = [_Farlet(), _Farlet()]
    allowed = iter([False])

    async def readiness(farlet: Any) -> str:
        asks = word not in farlet.process.environment.values()
        return f"restart farlet with --adopt-foreign-cluster={word}. Then" if asks else "ok"

    async def may_adopt() -> bool:
        return next(allowed, True)

    monkeypatch.setattr(candidates, "_readiness", readiness)
    monkeypatch.setattr(candidates, "LOOK_SECONDS", 0.001)
    made = candidates.Candidates(both)  # type: ignore[arg-type]
    administering = asyncio.create_task(made.administer(UID, may_adopt))
    async with asyncio.timeout(60):
        await made.looked.wait()
    administering.cancel()
    assert [farlet.starts for farlet in both] == [1, 1]
    assert [farlet.process.environment for farlet in both] == [
        {"FARLET_ADOPT_FOREIGN_CLUSTER": word}
    ] * 2
    assert len(made.adoptions) == 1
