"""What the store keeps, and that no caller can change it."""

import tracemalloc
from typing import Any

import pytest

from farlet.store import Store, key_of


def _pod(version: int, **status: object) -> Any:
    return {
        "metadata": {
            "namespace": "a",
            "name": "p",
            "uid": "u",
            "resourceVersion": str(version),
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {"nodeName": "n", "containers": [{"name": "main"}]},
        "status": {**status},
    }


KEY = key_of(_pod(1))


def test_what_is_read_can_be_changed_without_changing_what_is_kept() -> None:
    store = Store()
    store.home.put(_pod(1, phase="Pending"))
    read: Any = store.home.get(KEY)
    read["status"]["phase"] = "Running"
    assert store.home.get(KEY) == {
        "metadata": {"namespace": "a", "name": "p", "uid": "u", "resourceVersion": "1"},
        "spec": {"nodeName": "n", "containers": [{"name": "main"}]},
        "status": {"phase": "Pending"},
    }


def test_what_is_kept_takes_hardly_more_memory_than_its_json() -> None:
    store, count, text = Store(), 200, "x" * 2000
    tracemalloc.start()
    try:
        for number in range(count):
            pod = _pod(1, message=text)
            pod["metadata"] |= {"name": f"p-{number}", "uid": f"u-{number}"}
            store.home.put(pod)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = sum(len(document) for document in store.home.documents())
    assert kept > count * len(text)
    assert used < 1.5 * kept


def test_node_and_names_of_ephemeral_containers_of_a_mirror_s_spec_are_kept() -> None:
    store = Store()
    mirror: Any = _pod(1)
    mirror["spec"]["ephemeralContainers"] = [{"name": "debug", "env": [{"name": "A"}]}]
    store.mirrors.put(mirror)
    kept: Any = store.mirrors.get(KEY)
    assert kept["spec"] == {"nodeName": "n", "ephemeralContainers": [{"name": "debug"}]}


def test_no_data_of_a_secret_is_kept() -> None:
    store = Store()
    secret: Any = {"metadata": _pod(1)["metadata"], "data": {"token": "c2VjcmV0"}}
    store.secrets.put(secret)
    kept: Any = store.secrets.get(KEY)
    assert set(kept) == {"metadata"}


@pytest.mark.parametrize(
    ("known", "received", "kept"),
    [
        pytest.param(5, 6, 6, id="a newer version replaces"),
        pytest.param(6, 5, 6, id="an older version changes nothing"),
        pytest.param(9, 10, 10, id="versions are compared as numbers"),
    ],
)
def test_the_newest_version_is_kept(known: int, received: int, kept: int) -> None:
    store = Store()
    store.home.put(_pod(known))
    assert store.home.put(_pod(received)) is (kept == received)
    found: Any = store.home.get(KEY)
    assert found["metadata"]["resourceVersion"] == str(kept)


def test_a_late_event_does_not_bring_back_what_was_deleted() -> None:
    store = Store()
    store.home.put(_pod(1))
    store.home.remove(KEY, "u")
    assert not store.home.put(_pod(7))
    assert KEY not in store.home


def test_a_mirror_that_left_the_watch_comes_back_with_a_later_version() -> None:
    store = Store()
    store.mirrors.put(_pod(1))
    store.mirrors.remove(KEY, "u", as_of=4)
    assert not store.mirrors.put(_pod(3))
    assert store.mirrors.put(_pod(5))


def test_the_removal_of_an_earlier_pod_of_the_name_leaves_the_later_one() -> None:
    store = Store()
    store.home.put(_pod(1))
    store.home.remove(KEY, "another uid")
    assert KEY in store.home


def test_a_list_shows_what_is_missing_unless_it_is_newer_than_the_list() -> None:
    home = Store().home
    since = home.mark()
    home.put(_pod(5))
    assert home.remove_missing([], None, since=since, as_of=4) == []
    assert home.remove_missing([], "other namespace", since=since, as_of=5) == []
    assert home.remove_missing([_pod(5)], None, since=since, as_of=5) == []
    assert KEY in home
    assert [key_of(pod) for pod in home.remove_missing([], "a", since=since, as_of=5)] == [KEY]
    assert KEY not in home
