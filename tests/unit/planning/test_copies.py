"""The table of `planning.copies`: one copy of a home object, and what it means to a pod."""

from dataclasses import dataclass
from typing import Any

import pytest

from farlet.constants import HOME_UID, HOME_VERSION, USED_BY, Reason
from farlet.errors import Refused
from farlet.forge import copies
from farlet.forge.copies import Source
from farlet.forge.references import Kind
from farlet.planning import copies as planning
from farlet.planning.copies import (
    CopySnapshot,
    DeleteCopy,
    HomeObject,
    ReadSource,
    UnmarkCopy,
    WriteCopy,
)
from farlet.planning.snapshot import Copied, Missing
from unit.planning.objects import CONTEXT

SOURCE = Source(Kind.SECRET, "default", "login")
HOME = HomeObject("uid-1", "7")
OURS, OTHERS = copies.mark(CONTEXT), f"{USED_BY}other"
ABSENT, UNKNOWN = Missing.ABSENT, Missing.UNKNOWN
FAILED = Refused(Reason.FOREIGN_FORBIDDEN, "no")


def copy(*marks: str, uid: str = "uid-1", version: str = "7", **more: Any) -> Any:
    """Metadata of a copy with the content of `HOME`."""
    return {
        "name": copies.copy_name(SOURCE, CONTEXT),
        "namespace": "default-h",
        "uid": "copy-1",
        "resourceVersion": "3",
        "labels": dict.fromkeys(marks or (OURS,), "true"),
        "annotations": {HOME_UID: uid, HOME_VERSION: version},
        **more,
    }


def given(home: HomeObject | Missing, found: Any, **more: Any) -> CopySnapshot:
    return CopySnapshot(SOURCE, home, found, **{"used": True, **more})


@dataclass(frozen=True)
class Row:
    sentence: str
    given: CopySnapshot
    action: Any


KEPT, TOKEN = HOME._replace(kept=True), HOME._replace(token=True)
NEWER = HOME._replace(version="8")
RECREATED = HomeObject("uid-2", "9")
UNMARKED = copy("app")

ROWS = (
    Row("a new object is read first", given(HOME, ABSENT), ReadSource()),
    Row("what was read is created", given(HOME, ABSENT, live=HOME), WriteCopy(None)),
    Row("a copy with the same content stays", given(HOME, copy()), None),
    Row("a change is read first", given(NEWER, copy()), ReadSource()),
    Row("what was read replaces the copy", given(NEWER, copy(), live=NEWER), WriteCopy(copy())),
    Row("a watch that lags changes nothing", given(HOME, copy(version="8"), live=NEWER), None),
    Row(
        "an object whose versions went back is written",
        given(HOME, copy(version="90"), live=HOME),
        WriteCopy(copy(version="90")),
    ),
    Row(
        "the copy of an earlier object of this name is deleted",
        given(RECREATED, copy(), live=RECREATED),
        DeleteCopy(copy()),
    ),
    Row(
        "a copy that only other nodes have marked gets our mark",
        given(HOME, copy(OTHERS), live=HOME),
        WriteCopy(copy(OTHERS)),
    ),
    Row("a copy with our mark among others stays", given(HOME, copy(OURS, OTHERS)), None),
    Row(
        "a copy that rejects a change is replaced",
        given(NEWER, copy(), live=NEWER, rejected=True),
        DeleteCopy(copy()),
    ),
    Row("an object that a watch lacks is read first", given(ABSENT, copy()), ReadSource()),
    Row(
        "the copy of an object that is gone is deleted",
        given(ABSENT, copy(OURS, OTHERS), live=ABSENT),
        DeleteCopy(copy(OURS, OTHERS)),
    ),
    Row(
        "an object that the watch lacks but exists keeps its copy",
        given(ABSENT, copy(), live=HOME),
        None,
    ),
    Row("an object that does not exist has no copy", given(ABSENT, ABSENT), None),
    Row("an unknown object changes nothing", given(UNKNOWN, copy()), None),
    Row("an unknown copy is not created again", given(HOME, UNKNOWN), None),
    Row(
        "nothing is done in a namespace that cannot be used", given(HOME, ABSENT, open=False), None
    ),
    Row("an object that is kept at home is not read", given(KEPT, ABSENT), None),
    Row(
        "an object that is kept at home while it is read is not written",
        given(HOME, ABSENT, live=KEPT),
        None,
    ),
    Row(
        "the copy of an object that is now kept at home is deleted",
        given(KEPT, copy(), live=KEPT),
        DeleteCopy(copy()),
    ),
    Row("a ServiceAccount token is not written", given(HOME, ABSENT, live=TOKEN), None),
    Row("a known ServiceAccount token is not read again", given(TOKEN, ABSENT), None),
    Row("an unrelated object is not changed", given(HOME, UNMARKED, live=HOME), None),
    Row("an unrelated object is not deleted", given(ABSENT, UNMARKED, live=ABSENT), None),
    Row("an unrelated object is not released", given(UNKNOWN, UNMARKED, used=False), None),
    Row(
        "a copy that is being deleted is waited for",
        given(HOME, copy(deletionTimestamp="2026-01-01T00:00:00Z"), live=HOME),
        None,
    ),
    Row(
        "the last node that uses a copy deletes it",
        given(UNKNOWN, copy(), used=False),
        DeleteCopy(copy()),
    ),
    Row(
        "another node that uses a copy keeps it",
        given(UNKNOWN, copy(OURS, OTHERS), used=False),
        UnmarkCopy(copy(OURS, OTHERS)),
    ),
    Row("a copy of others is not released", given(UNKNOWN, copy(OTHERS), used=False), None),
    Row("a copy is kept while users are not known", given(HOME, copy(), used=None), None),
    Row("a copy without users that is gone stays so", given(UNKNOWN, ABSENT, used=False), None),
    Row(
        "nothing is released in a namespace that cannot be used",
        given(UNKNOWN, copy(), used=False, open=False),
        None,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.sentence)
def test_next_action(row: Row) -> None:
    assert planning.decide(row.given, ctx=CONTEXT) == row.action


@pytest.mark.parametrize(
    ("snapshot", "state"),
    [
        pytest.param(given(HOME, copy()), Copied.SETTLED, id="a copy with the same content"),
        pytest.param(given(NEWER, copy()), Copied.PENDING, id="an older copy"),
        pytest.param(given(HOME, copy(OTHERS)), Copied.PENDING, id="a copy without our mark"),
        pytest.param(given(HOME, ABSENT), Copied.PENDING, id="no copy yet"),
        pytest.param(given(HOME, UNKNOWN), Copied.PENDING, id="an unknown copy"),
        pytest.param(given(UNKNOWN, copy()), Copied.PENDING, id="an unknown object"),
        pytest.param(given(ABSENT, ABSENT), Copied.SETTLED, id="no object"),
        pytest.param(given(ABSENT, UNKNOWN), Copied.SETTLED, id="no object, unknown copy"),
        pytest.param(given(HOME, ABSENT, problem=FAILED), FAILED, id="a failure"),
        pytest.param(given(HOME, copy(), problem=FAILED), Copied.SETTLED, id="a failure before"),
    ],
)
def test_what_a_copy_means_to_a_new_pod(snapshot: CopySnapshot, state: object) -> None:
    assert planning.state(snapshot, ctx=CONTEXT) == state


@pytest.mark.parametrize(
    ("home", "reason", "words"),
    [
        pytest.param(KEPT, Reason.KEPT_AT_HOME, "farlet.io/keep-at-home=true", id="kept"),
        pytest.param(TOKEN, Reason.UNSUPPORTED_POD, "token that never expires", id="token"),
    ],
)
def test_an_object_that_never_leaves_keeps_its_pods_waiting(
    home: HomeObject, reason: Reason, words: str
) -> None:
    found = planning.state(given(home, ABSENT), ctx=CONTEXT)
    assert isinstance(found, Refused)
    assert found.reason is reason
    assert "the Secret default/login" in found.message
    assert words in found.message


def test_an_unrelated_object_is_a_name_conflict() -> None:
    found = planning.conflict(given(HOME, UNMARKED))
    assert found is not None
    assert found.reason is Reason.NAME_CONFLICT
    assert f"Secret {UNMARKED['name']}" in found.message
    assert planning.conflict(given(HOME, copy(OTHERS))) is None
    assert planning.conflict(given(HOME, ABSENT)) is None


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param({}, HOME, id="an object"),
        pytest.param({"type": "Opaque"}, HOME, id="a Secret"),
        pytest.param({"type": copies.SERVICE_ACCOUNT_TOKEN}, TOKEN, id="a token"),
    ],
)
def test_what_is_kept_of_an_object(obj: dict[str, Any], expected: HomeObject) -> None:
    metadata: dict[str, Any] = {"uid": "uid-1", "resourceVersion": "7", "labels": None}
    assert HomeObject.of({"metadata": metadata, **obj}) == expected
    for value, kept in (("true", True), ("false", False)):
        metadata["labels"] = {"farlet.io/keep-at-home": value}
        assert HomeObject.of({"metadata": metadata, **obj}) == expected._replace(kept=kept)
