"""What a table keeps when events, answers and lists come in any order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from farlet import store as store_module
from farlet.constants import ObjectKey
from farlet.k8s_types import NamespacedMeta, PartialObject
from farlet.planning.snapshot import Departure, Sign
from farlet.store import PartialTable, Store, Table

KEY = ObjectKey("default", "web")


def _object(version: int, *, uid: str = "u1", namespace: str = "default") -> PartialObject:
    metadata: NamespacedMeta = {
        "namespace": namespace,
        "name": KEY.name,
        "uid": uid,
        "resourceVersion": str(version),
    }
    return {"metadata": metadata}


def _table() -> PartialTable:
    return Table(lambda obj: obj, lambda _: None)


def _known(table: PartialTable) -> tuple[str, str] | None:
    found = table.get(KEY)
    return found and (found["metadata"]["uid"], found["metadata"]["resourceVersion"])


def _gone(uid: str, as_of: int | None = None) -> tuple[str, int | None]:
    return (uid, as_of)


STORIES: dict[str, tuple[list[PartialObject | tuple[str, int | None]], tuple[str, str] | None]] = {
    "an object that never came is unknown": ([], None),
    "a newer version replaces an older one": ([_object(1), _object(2)], ("u1", "2")),
    "an older version replaces nothing": ([_object(2), _object(1)], ("u1", "2")),
    "versions are numbers, not words": ([_object(9), _object(10)], ("u1", "10")),
    "another uid of the name replaces an older one": (
        [_object(1), _object(2, uid="u2")],
        ("u2", "2"),
    ),
    "an event of the uid before comes late": ([_object(3, uid="u2"), _object(2)], ("u2", "3")),
    "what was deleted for good does not come back": ([_object(1), _gone("u1"), _object(9)], None),
    "an answer that is older than the deletion is too late": (
        [_object(1), _gone("u1", 5), _object(4)],
        None,
    ),
    "what lost its label and got it back is there again": (
        [_object(1), _gone("u1", 5), _object(6)],
        ("u1", "6"),
    ),
    "a deletion that comes late does not take what is newer": (
        [_object(6), _gone("u1", 5)],
        ("u1", "6"),
    ),
    "a deletion of the uid before takes nothing": (
        [_object(3, uid="u2"), _gone("u1")],
        ("u2", "3"),
    ),
    "a uid is kept as deleted before it ever came": ([_gone("u1"), _object(1)], None),
    "a late deletion does not make one for good doubtful": (
        [_object(1), _gone("u1"), _gone("u1", 5), _object(6)],
        None,
    ),
}


@pytest.mark.parametrize(("received", "known"), STORIES.values(), ids=STORIES)
def test_a_table_knows_the_newest(
    received: list[PartialObject | tuple[str, int | None]], known: tuple[str, str] | None
) -> None:
    table = _table()
    _receive(table, received)
    assert _known(table) == known


def test_put_returns_whether_it_kept_the_object() -> None:
    table = _table()
    assert [table.put(_object(v)) for v in (1, 1, 2, 1)] == [True, False, True, False]


def _listed(table: PartialTable, *listed: PartialObject, since: int, as_of: int) -> list[str]:
    """Replace one namespace by a complete list. Returns the uids that were dropped."""
    gone = table.remove_missing(listed, "default", since=since, as_of=as_of)
    for obj in listed:
        table.put_listed(obj, since=since, as_of=as_of)
    return [obj["metadata"]["uid"] for obj in gone]


def test_a_list_drops_what_it_lacks_in_its_namespace() -> None:
    table = _table()
    table.put(_object(1))
    table.put(_object(2, uid="u2", namespace="other"))
    assert _listed(table, since=table.mark(), as_of=5) == ["u1"]
    assert len(table) == 1


def test_a_list_of_all_namespaces_covers_all() -> None:
    table = _table()
    table.put(_object(1))
    table.put(_object(2, uid="u2", namespace="other"))
    gone = table.remove_missing([], None, since=table.mark(), as_of=5)
    assert sorted(obj["metadata"]["uid"] for obj in gone) == ["u1", "u2"]


Received = list[PartialObject | tuple[str, int | None]]

LISTS: dict[str, tuple[Received, Received, list[PartialObject], int, tuple[str, str] | None]] = {
    # known before, received while it was on its way, the list, its version, known after it
    "is the truth about a deletion that came before": (
        [_object(3), _gone("u1")],
        [],
        [_object(3)],
        9,
        ("u1", "3"),
    ),
    "has an older version after a restore": ([_object(9)], [], [_object(4)], 5, ("u1", "4")),
    "has an older version under a later number": ([_object(9)], [], [_object(4)], 99, ("u1", "4")),
    "has another uid after a restore": ([_object(9, uid="u2")], [], [_object(4)], 5, ("u1", "4")),
    "lacks an object of a later version after a restore": ([_object(9)], [], [], 5, None),
    "lacks what an answer has created since": ([], [_object(9)], [], 5, ("u1", "9")),
    "lacks what an answer that came late shows": ([], [_object(4)], [], 5, None),
    "is older than an answer that came since": (
        [_object(3)],
        [_object(9)],
        [_object(3)],
        5,
        ("u1", "9"),
    ),
    "is newer than an answer that came late": (
        [_object(3)],
        [_object(4)],
        [_object(5)],
        5,
        ("u1", "5"),
    ),
    "has an object whose deletion was answered since": (
        [_object(3)],
        [_gone("u1")],
        [_object(3)],
        5,
        None,
    ),
}


def _receive(table: PartialTable, received: Received) -> None:
    for one in received:
        if not isinstance(one, tuple):
            table.put(one)
        elif one[1] is None:
            table.remove(KEY, one[0])
        else:
            table.remove(KEY, one[0], as_of=one[1])


@pytest.mark.parametrize(
    ("before", "meanwhile", "listed", "as_of", "known"), LISTS.values(), ids=LISTS
)
def test_a_complete_list(
    before: Received,
    meanwhile: Received,
    listed: list[PartialObject],
    as_of: int,
    known: tuple[str, str] | None,
) -> None:
    table = _table()
    _receive(table, before)
    since = table.mark()
    _receive(table, meanwhile)
    _listed(table, *listed, since=since, as_of=as_of)
    assert _known(table) == known


def test_events_of_the_restored_history_are_kept() -> None:
    table = _table()
    table.put(_object(90))
    _listed(table, _object(4), since=table.mark(), as_of=5)
    assert table.put(_object(6))
    assert _known(table) == ("u1", "6")


def test_an_object_that_a_restored_server_lacks_can_come_back() -> None:
    table = _table()
    table.put(_object(90))
    _listed(table, since=table.mark(), as_of=5)
    assert table.put(_object(6))


def test_a_list_says_whether_it_knows() -> None:
    table = _table()
    table.put(_object(1))
    listed = [table.put_listed(_object(v), since=table.mark(), as_of=3) for v in (1, 2, 2)]
    assert listed == [False, True, False]


CONTRADICTIONS: dict[str, tuple[Received, list[PartialObject], bool]] = {
    "the same version": ([_object(3)], [_object(3)], False),
    "a later version": ([_object(3)], [_object(4)], False),
    "an earlier version": ([_object(3)], [_object(2)], True),
    "an unknown object": ([], [_object(2)], False),
    "an object that was deleted": ([_object(3), _gone("u1")], [_object(3)], True),
    "the next object of the name": ([_object(3)], [_object(2, uid="u0")], False),
}


@pytest.mark.parametrize(
    ("known", "listed", "expected"), CONTRADICTIONS.values(), ids=CONTRADICTIONS
)
def test_a_list_contradicts_what_was_known_by(
    known: Received, listed: list[PartialObject], expected: bool
) -> None:
    table = _table()
    _receive(table, known)
    assert table.contradicted_by(listed, since=table.mark()) is expected


def test_what_came_since_contradicts_no_list() -> None:
    table = _table()
    since = table.mark()
    _receive(table, [_object(3), _gone("u2")])
    listed = [_object(2), _object(2, uid="u2")]
    assert not table.contradicted_by(listed, since=since)


def test_a_deletion_is_remembered_by_uid() -> None:
    table = _table()
    table.put(_object(1))
    table.remove(KEY, "u1")
    assert table.deleted("u1")
    assert not table.deleted("u2")


def test_what_is_known_of_deletions_is_the_same_after_they_were_moved_together() -> None:
    store, more = Store(), [f"s{n}" for n in range(100)]
    for table in (store.home, store.secrets):
        for uid in ("u1", *more):
            table.remove(KEY, uid)
    store.mirrors.remove(KEY, "u1", as_of=5)
    since = store.mirrors.mark()
    store.mirrors.remove(KEY, "u2", as_of=7)
    store.gather_deletions()
    assert all(store.home.deleted_for_good(uid) for uid in ("u1", *more))
    assert all(store.secrets.deleted_for_good(uid) for uid in ("u1", *more))
    assert store.mirrors.deleted("u1")
    assert not store.mirrors.deleted_for_good("u1")
    assert not store.mirrors.put(_pod(**_object(5), spec={})), "a late answer"
    assert store.mirrors.put(_pod(**_object(6), spec={})), "it is back"
    listed = [_object(7, uid="u2")]
    assert not store.mirrors.contradicted_by(listed, since=since), "its deletion came since"
    assert store.mirrors.contradicted_by(listed, since=store.mirrors.mark())


def test_the_oldest_deletions_give_way_after_they_were_moved_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_module, "TOMBSTONES", 10)
    store = Store()
    for n in range(10):
        store.home.remove(KEY, f"u{n}")
    store.gather_deletions()
    store.home.remove(KEY, "u10")
    assert [n for n in range(11) if store.home.deleted(f"u{n}")] == [*range(1, 11)]


def _pod(**more: Any) -> Any:
    return {**_object(1), **more}


def test_a_mirror_is_kept_without_fields_of_its_home_pod() -> None:
    store = Store()
    spec = {"nodeName": "worker", "containers": [{"name": "main", "image": "app"}]}
    store.mirrors.put(_pod(spec=spec, status={"phase": "Running"}))
    kept = store.mirrors.get(KEY)
    assert kept is not None
    assert kept["spec"] == {"nodeName": "worker"}
    assert kept["status"] == {"phase": "Running"}


def test_an_object_whose_annotations_are_null_is_kept() -> None:
    store, partial = Store(), _object(1)
    partial["metadata"]["annotations"] = None  # type: ignore[typeddict-item]
    store.secrets.put(partial)
    assert store.secrets.get(KEY) == partial


def test_no_token_stays_of_the_answer_to_a_secret() -> None:
    store = Store()
    store.secrets.put(_pod(data={"token": "c2VjcmV0"}, stringData={"token": "secret"}))
    assert store.secrets.get(KEY) == _object(1)


FOREIGN = ObjectKey("default-h", "web")


def _mirror(uid: str, version: int) -> Any:
    return {**_object(version, uid=uid, namespace=FOREIGN.namespace), "spec": {}}


def _requests(store: Store) -> None:
    store.posting(FOREIGN, KEY)


def _knows_another(store: Store) -> None:
    store.put_mirror(_mirror("m2", 9))


def _requests_and_reads(store: Store) -> None:
    store.posting(FOREIGN, KEY)
    store.posted(FOREIGN)


@pytest.mark.parametrize(
    ("before", "posted"),
    [
        pytest.param(lambda _: None, False, id="nothing"),
        pytest.param(_requests, True, id="the request for another one"),
        pytest.param(_knows_another, True, id="another one"),
        pytest.param(_requests_and_reads, False, id="a request that was answered"),
    ],
)
def test_the_end_of_a_mirror_is_weighed_with_what_came_before_its_event(
    before: Callable[[Store], None], *, posted: bool
) -> None:
    store = Store()
    store.home.put(_pod(spec={}))
    before(store)
    store.depart(FOREIGN, KEY, _mirror("m1", 3), Sign.EVENT)
    assert store.departed[FOREIGN].posted is posted


def test_a_request_for_a_mirror_is_remembered_with_each_end_of_the_one_before() -> None:
    store = Store()
    store.home.put(_pod(spec={}))
    store.depart(FOREIGN, KEY, _mirror("m1", 3), Sign.EVENT)
    store.posting(FOREIGN, KEY)
    store.posted(FOREIGN)
    store.depart(FOREIGN, KEY, _mirror("m1", 4), Sign.ANSWER)
    assert store.departed[FOREIGN].posted


def test_the_request_for_a_mirror_is_forgotten_with_its_home_pod() -> None:
    store = Store()
    store.home.put(_pod(spec={}))
    store.posting(FOREIGN, KEY)
    store.home.remove(KEY, "u1")
    store.forget(KEY, FOREIGN, "u1")
    store.posting(FOREIGN, KEY)
    again: Any = {**_object(2, uid="u2"), "spec": {}}
    store.home.put(again)
    store.depart(FOREIGN, KEY, _mirror("m1", 3), Sign.EVENT)
    assert not store.departed[FOREIGN].posted


def test_the_end_of_a_mirror_that_is_known_again_is_forgotten() -> None:
    store = Store()
    store.home.put(_pod(spec={}))
    store.mirrors.remove(FOREIGN, "m1", as_of=3)
    store.depart(FOREIGN, KEY, _mirror("m1", 3), Sign.EVENT)
    assert not store.put_mirror(_mirror("m1", 2))
    assert list(store.departed) == [FOREIGN]
    assert store.put_mirror(_mirror("m1", 4))
    assert store.departed == {}


def test_how_a_mirror_left_takes_the_memory_of_its_json() -> None:
    store = Store()
    store.home.put(_pod(spec={}))
    mirror = _mirror("m1", 3)
    mirror["status"] = {"containerStatuses": [{"name": f"c{n}", "state": {}} for n in range(50)]}
    store.depart(FOREIGN, KEY, mirror, Sign.EVENT)
    ((json, *rest),) = store.departed._kept.values()
    assert sys.getsizeof(json) < 3_000
    assert rest == [Sign.EVENT, False, False]
    first, second = store.departed[FOREIGN], store.departed[FOREIGN]
    assert first == second == Departure(mirror, Sign.EVENT, mirror["metadata"])
    first.last["status"] = {}
    assert store.departed[FOREIGN] == second, "a copy"


def test_a_departed_mirror_is_kept_for_a_home_pod_only() -> None:
    store, foreign = Store(), ObjectKey("default-h", "web")
    store.depart(foreign, KEY, _pod(spec={}), Sign.EVENT)
    assert store.departed == {}
    store.home.put(_pod(spec={}))
    store.depart(foreign, KEY, _pod(spec={}), Sign.EVENT)
    assert list(store.departed) == [foreign]
    store.forget(KEY, foreign, "u1")
    assert list(store.departed) == [foreign], "its home pod is still there"
    store.home.remove(KEY, "u1")
    store.forget(KEY, foreign, "u1")
    assert store.departed == {}
