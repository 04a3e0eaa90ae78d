"""Records of the objects that a watch has shown."""

from dataclasses import dataclass
from typing import Any

from farlet.client.records import Records
from farlet.forge.claims import ClaimKey


@dataclass(frozen=True)
class Seen:
    key: ClaimKey
    version: str


def _key(name: str) -> ClaimKey:
    return ClaimKey("shop", name, f"uid-{name}")


def _obj(name: str, version: int) -> dict[str, Any]:
    return {"name": name, "version": version}


class Watched:
    """Records, and the keys that were reported."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.records: Records[dict[str, Any], Seen] = Records(
            lambda obj: Seen(_key(obj["name"]), str(obj["version"])) if obj["name"] else None,
            on_change=lambda key: self.changes.append(key.name),
        )

    def relist(self, *objects: dict[str, Any]) -> None:
        self.records.listing()
        for obj in objects:
            self.records.listed(obj)
        self.records.replaced((), 1)

    @property
    def shown(self) -> dict[str, str]:
        return {one.key.name: one.version for one in self.records}

    def news(self) -> list[str]:
        found, self.changes = sorted(self.changes), []
        return found


def test_a_list_replaces_everything_and_reports_what_differs() -> None:
    watched = Watched()
    watched.relist(_obj("a", 1), _obj("b", 2), _obj("", 3))
    assert (watched.shown, watched.news()) == ({"a": "1", "b": "2"}, ["a", "b"])
    watched.relist(_obj("b", 2), _obj("c", 4))
    assert (watched.shown, watched.news()) == ({"b": "2", "c": "4"}, ["a", "c"])


def test_a_list_after_a_restore_has_lower_versions_and_counts() -> None:
    watched = Watched()
    watched.relist(_obj("a", 9))
    watched.relist(_obj("a", 3))
    assert watched.shown == {"a": "3"}


def test_an_event_that_is_older_than_an_answer_changes_nothing() -> None:
    watched = Watched()
    watched.relist()
    watched.records.put(_obj("a", 9))
    watched.records.changed("MODIFIED", _obj("a", 8))
    assert (watched.shown, watched.news()) == ({"a": "9"}, ["a"])
    watched.records.changed("MODIFIED", _obj("a", 10))
    watched.records.changed("DELETED", _obj("a", 11))
    watched.records.remove(_key("a"))
    assert (watched.shown, watched.news()) == ({}, ["a", "a"])


def test_an_object_without_a_version_is_replaced_by_any_other() -> None:
    watched = Watched()
    watched.relist({"name": "a", "version": ""})
    watched.records.changed("MODIFIED", {"name": "a", "version": ""})
    assert (watched.shown, watched.news()) == ({"a": ""}, ["a"])
    watched.records.changed("MODIFIED", _obj("a", 1))
    assert (watched.shown, watched.news()) == ({"a": "1"}, ["a"])


def test_an_object_that_is_not_needed_is_not_kept() -> None:
    watched = Watched()
    watched.records.changed("ADDED", _obj("", 1))
    assert (watched.shown, watched.news()) == ({}, [])


def test_keys_of_a_namespace_follow_lists_events_and_answers() -> None:
    seen = Watched()
    seen.relist(_obj("a", 1), _obj("b", 1))
    assert set(seen.records.keys("shop")) == {_key("a"), _key("b")}
    assert seen.records.keys("other") == ()
    seen.records.put(_obj("c", 2))
    seen.records.changed("DELETED", _obj("a", 3))
    assert set(seen.records.keys("shop")) == {_key("b"), _key("c")}
    seen.relist(_obj("c", 2))
    assert set(seen.records.keys("shop")) == {_key("c")}
    seen.records.remove(_key("c"))
    assert seen.records.keys("shop") == ()
