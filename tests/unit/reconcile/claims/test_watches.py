"""Foreign namespaces of claims: created, watched, and in the inventory while they hold volumes."""

from collections.abc import Callable

import pytest

from farlet import errors
from farlet.context import NewNamespaces
from farlet.forge.claims import ClaimKey
from unit.planning import model
from unit.reconcile.claims import volumes
from unit.reconcile.claims.volumes import (
    CLAIMS,
    bound,
    claim,
    placeholder,
    placeholder_where,
    provided,
    released,
    remote,
    remote_where,
    selected,
    used,
)
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness


def test_the_watch_of_a_foreign_namespace_ends_with_its_last_claim_and_begins_again(
    s: Harness,
) -> None:
    for name in ("data", "second"):
        key = claim(s, name)
        selected(s, name)
        s.wait()
        bound(s, key)
        provided(s, key)
        s.wait()
        released(s, key)
        s.wait(5)
        assert (remote(s, key), placeholder(s, key)) == (None, None)
        before = len(s.foreign.sent)
        s.foreign.break_watches()
        s.wait(60)
        watches = [one for one in s.foreign.sent[before:] if "/persistentvolumeclaims?" in one[2]]
        assert watches == []


def test_claims_are_listed_again_after_a_doubt_about_the_foreign_cluster(s: Harness) -> None:
    used(s)
    own, other = s.foreign.server, model.Server(s.clock, ("farlet", FOREIGN), cluster="other")
    s.foreign.server = other
    with pytest.raises(errors.Unconfirmed):
        s.probe()
    s.wait()
    before = len(s.foreign.received)
    s.foreign.server = own
    s.probe()
    s.wait(30)
    requests = [one.request for one in s.foreign.received[before:]]
    assert [one for one in requests if "/persistentvolumeclaims?" in one]


def test_a_namespace_that_changes_brings_only_its_own_claims(s: Harness) -> None:
    key = used(s)
    body = dict(s.home_server.get((CLAIMS, HOME, "data")), metadata={"name": "other"})
    other = s.home_server.create(CLAIMS, "second", model.clone(body), by=USER)
    s.wait()
    added: list[ClaimKey] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(s.claims._queue, "add", added.append)
        namespace = s.scopes.of(HOME)
        assert namespace is not None
        namespace.wake_all()
    assert added == [key]
    assert other["metadata"]["namespace"] == "second"


def _break_at_home(s: Harness) -> None:
    s.home.break_watches()


def _compact_at_home(s: Harness) -> None:
    s.home_server.compact()
    s.home.break_watches()


def _silent_at_home(s: Harness) -> None:
    s.home.refusing["GET .*/persistentvolume"] = s.home.silence
    s.home.break_watches()
    s.wait(60)
    s.home.refusing.clear()


@pytest.mark.parametrize("happens", [_break_at_home, _compact_at_home, _silent_at_home])
def test_a_lost_watch_of_claims_opens_no_namespace(
    s: Harness, happens: Callable[[Harness], None]
) -> None:
    used(s)
    idle(s)
    assert len(s.scopes) == 0
    before = len(s.foreign.received)
    happens(s)
    s.wait(60)
    assert len(s.scopes) == 0
    requests = [one.request for one in s.foreign.received[before:]]
    assert [one for one in requests if FOREIGN in one] == []


def test_what_was_deleted_while_claims_were_not_watched_is_reclaimed(s: Harness) -> None:
    key = used(s)
    idle(s)
    s.home.refusing["GET .*/persistentvolume"] = s.home.silence
    s.home.break_watches()
    s.wait(5)
    released(s, key)
    s.home_server.compact()
    s.wait(60)
    assert remote(s, key) is not None
    s.home.refusing.clear()
    s.wait(60)
    assert (remote(s, key), placeholder(s, key)) == (None, None)


def test_the_first_claim_creates_its_foreign_namespace_which_stays_while_it_has_data() -> None:
    with volumes.running(starts=False, new=NewNamespaces(), reclaimPolicy="Retain") as s:
        s.foreign_server.terminate_namespace(FOREIGN)
        s.foreign_server.finish_namespaces()
        s.start()
        key = used(s, seconds=10)
        assert placeholder(s, key) is not None
        released(s, key)
        s.home_server.terminate_namespace(HOME)
        s.home_server.finish_namespaces()
        for _ in range(4):
            s.wait(400)
            s.prune()
        assert remote(s, key) is not None
        assert (
            "deletionTimestamp" not in s.foreign_server.get(("namespaces", "", FOREIGN))["metadata"]
        )


def in_created_namespace(s: Harness) -> ClaimKey:
    """A volume in a foreign namespace that farlet created; no pod uses it for some minutes."""
    s.foreign_server.terminate_namespace(FOREIGN)
    s.foreign_server.finish_namespaces()
    s.start()
    key = used(s, seconds=10)
    idle(s)
    return key


def home_gone(s: Harness) -> None:
    s.home_server.terminate_namespace(HOME)
    s.home_server.finish_namespaces()
    s.home_server.finish_namespaces()


def namespace_exists(s: Harness) -> bool:
    found = volumes.found(s.foreign_server, ("namespaces", "", FOREIGN))
    return found is not None and "deletionTimestamp" not in found["metadata"]


def test_a_created_namespace_is_deleted_after_its_volumes() -> None:
    with volumes.running(starts=False, new=NewNamespaces()) as s:
        key = in_created_namespace(s)
        assert namespace_exists(s)
        released(s, key)
        home_gone(s)
        s.wait(60)
        assert (remote(s, key), placeholder(s, key)) == (None, None)
        idle(s)
        assert not namespace_exists(s)
        assert s.registered() == {}
        deletions = s.foreign.requests("DELETE ")
        assert [one.request.partition("/namespaces/")[2] for one in deletions] == [
            f"{FOREIGN}/persistentvolumeclaims/{remote_where(key)[2]}",
            FOREIGN,
        ]


@pytest.mark.parametrize("allowed", [True, False], ids=["404", "403"])
def test_the_placeholder_of_a_volume_whose_namespace_is_gone_is_deleted(allowed: bool) -> None:
    with volumes.running(starts=False, new=NewNamespaces()) as s:
        key = in_created_namespace(s)
        s.foreign_server.terminate_namespace(FOREIGN)
        for _ in range(3):
            s.foreign_server.finish_namespaces()
        if not allowed:  # the RoleBinding is gone, too
            pattern = rf"GET .*/{FOREIGN}/persistentvolumeclaims"
            s.foreign.refusing[pattern] = s.foreign.refusal(errors.Forbidden, 403, "no")
        released(s, key)
        home_gone(s)
        s.wait(120)
        assert placeholder(s, key) is None
        assert not namespace_exists(s), "it is not created again for that"


def test_a_placeholder_stays_while_its_claim_cannot_be_read_in_a_namespace_that_exists() -> None:
    with volumes.running(starts=False, new=NewNamespaces()) as s:
        key = in_created_namespace(s)
        pattern = rf"(GET|DELETE) .*/{FOREIGN}/persistentvolumeclaims"
        s.foreign.refusing[pattern] = s.foreign.refusal(errors.Forbidden, 403, "no")
        released(s, key)
        s.wait(120)
        assert placeholder(s, key) is not None


def killed_with_retained_volume(s: Harness) -> ClaimKey:
    """The home claim is deleted, its volume stays, and then farlet is killed."""
    key = used(s)
    released(s, key)
    s.wait(5)
    s.kill()
    return key


def test_a_retained_volume_costs_no_request_after_a_restart() -> None:
    with volumes.running(reclaimPolicy="Retain") as s:
        killed_with_retained_volume(s)
        before = len(s.foreign.received)
        s.start()
        s.wait(120)
        requests = [one.request for one in s.foreign.received[before:]]
        assert [one for one in requests if "persistentvolumeclaims" in one] == []


# --- the inventory, by which a copy of the home cluster is noticed ----------------------------


def idle(s: Harness) -> None:
    """No pod needs the namespace for some minutes."""
    for _ in range(3):
        s.wait(400)
        s.prune()


def _provided(_: Harness, __: ClaimKey) -> None:
    """The claim has its volume."""


def _lost_placeholder(s: Harness, key: ClaimKey) -> None:
    s.home_server.delete(placeholder_where(key), by=USER)


def _unknown(s: Harness, key: ClaimKey) -> None:
    """The placeholder is gone, and so is the watch that would show the others."""
    s.home.refusing["GET .*/persistentvolumes"] = s.home.silence
    s.home_server.compact()
    s.home.break_watches()


STAKES = {
    "volume that no pod uses": _provided,
    "volume that is retained": released,
    "foreign claim whose placeholder is gone": _lost_placeholder,
    "volume, while placeholders cannot be seen": _unknown,
}


@pytest.mark.parametrize("happens", STAKES.values(), ids=STAKES)
def test_a_namespace_stays_in_the_inventory_with_a(
    happens: Callable[[Harness, ClaimKey], None],
) -> None:
    with volumes.running(reclaimPolicy="Retain") as s:
        key = used(s)
        happens(s, key)
        idle(s)
        assert remote(s, key) is not None
        assert s.registered() == {FOREIGN: HOME}


def test_a_closed_namespace_leaves_the_inventory_after_its_last_volume(s: Harness) -> None:
    key = used(s)
    idle(s)
    assert s.registered() == {FOREIGN: HOME}
    released(s, key)
    s.wait(5)
    assert remote(s, key) is None
    idle(s)
    assert s.registered() == {}


def test_a_closed_namespace_leaves_the_inventory_with_its_retained_placeholder() -> None:
    with volumes.running(reclaimPolicy="Retain") as s:
        key = killed_with_retained_volume(s)
        s.start()  # from now on, no foreign claim is watched
        idle(s)
        assert (len(s.scopes), s.registered()) == (0, {FOREIGN: HOME})
        _lost_placeholder(s, key)
        s.wait(5)
        s.prune()
        assert s.registered() == {}
