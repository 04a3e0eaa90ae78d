"""The storage of either API server is restored from a backup while farlet runs.

Without a bump of the revisions, watches from a later version show nothing and report no error.
"""

from __future__ import annotations

import pytest

from farlet.constants import ObjectKey
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, USER, Harness

NOTICED_SECONDS = 100.0
"""A silent watch is given up after 80 s."""
RESYNC_SECONDS = 302.0

BUMPS = {"with the revisions of the backup": 0, "with later revisions": 1_000_000}


@pytest.fixture(params=[pytest.param(bump, id=name) for name, bump in BUMPS.items()])
def bump(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def _write_much(s: Harness, side: str) -> None:
    """Time passes and others write, so that versions grow."""
    server = {"home": s.home_server, "foreign": s.foreign_server}[side]
    namespace = {"home": HOME, "foreign": FOREIGN}[side]
    for number in range(50):
        name = f"other-{server.version}-{number}"
        server.create("configmaps", namespace, {"metadata": {"name": name}}, by=USER)


def _running(s: Harness, name: str = "web", **how: str) -> None:
    s.create(name, **how)
    s.wait(3.0)
    s.runs(name)
    s.wait(3.0)


def _phase(s: Harness, name: str = "web") -> str | None:
    pod = s.pod(name)
    return None if pod is None else str(pod["status"]["phase"])


def test_a_mirror_that_a_restored_foreign_cluster_lacks_is_noticed(bump: int) -> None:
    with harness.running() as s:
        backup = s.foreign_server.backup()
        _running(s, policy="Never")
        _running(s, "again")
        before = s.mirror("again")
        _write_much(s, "foreign")
        s.restore("foreign", backup, bump=bump)
        s.wait(NOTICED_SECONDS)
        assert _phase(s) == "Failed"
        assert s.reason() == "MirrorLost"
        mirror = s.mirror("again")
        assert mirror is not None
        assert before is not None
        assert mirror["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_mirror_that_a_restored_foreign_cluster_has_again_is_deleted(bump: int) -> None:
    with harness.running() as s:
        _running(s)
        backup = s.foreign_server.backup()
        s.delete()
        s.wait(1.0)
        s.remove()
        s.wait(5.0)
        assert s.pod() is None
        _write_much(s, "foreign")
        s.restore("foreign", backup, bump=bump)
        s.wait(NOTICED_SECONDS)
        mirror = s.mirror()
        assert mirror is not None
        assert "deletionTimestamp" in mirror["metadata"]


def test_the_status_of_a_mirror_is_reflected_after_a_restore(bump: int) -> None:
    with harness.running() as s:
        _running(s, policy="Never")
        backup = s.foreign_server.backup()
        s.runs(restarts=1)
        _write_much(s, "foreign")
        s.wait(3.0)
        s.restore("foreign", backup, bump=bump)
        s.wait(NOTICED_SECONDS)
        body = {"status": {"phase": "Failed"}}
        s.foreign_server.patch(
            ("pods", FOREIGN, "web"), body, by=KUBELET, status=True, strategic=False
        )
        s.wait(3.0)
        assert _phase(s) == "Failed"


def test_the_mirror_of_a_pod_that_a_restored_home_lacks_ends(bump: int) -> None:
    with harness.running() as s:
        backup = s.home_server.backup()
        _running(s)
        _write_much(s, "home")
        s.restore("home", backup, bump=bump)
        s.wait(RESYNC_SECONDS)
        mirror = s.mirror()
        assert mirror is not None
        assert "deletionTimestamp" in mirror["metadata"]


def test_a_pod_that_a_restored_home_has_again_is_served(bump: int) -> None:
    with harness.running() as s:
        _running(s)
        backup = s.home_server.backup()
        s.delete(grace=0)
        s.wait(1.0)
        s.remove()
        s.wait(5.0)
        _write_much(s, "home")
        s.restore("home", backup, bump=bump)
        s.wait(RESYNC_SECONDS)
        mirror = s.mirror()
        assert mirror is not None
        assert "deletionTimestamp" not in mirror["metadata"]


def test_a_home_pod_shows_its_mirror_after_a_restore(bump: int) -> None:
    with harness.running() as s:
        s.create()
        s.wait(1.0)
        backup = s.home_server.backup()
        s.wait(2.0)
        s.runs()
        _write_much(s, "home")
        s.wait(3.0)
        s.restore("home", backup, bump=bump)
        assert _phase(s) == "Pending"
        s.wait(RESYNC_SECONDS)
        assert _phase(s) == "Running"


def test_kopf_watches_anew_after_a_restore_of_home() -> None:
    with harness.running() as s:
        _running(s)
        backup = s.home_server.backup()
        _write_much(s, "home")
        s.create("late")
        s.wait(3.0)
        s.restore("home", backup)
        s.wait(RESYNC_SECONDS)
        assert s.restarts == 1
        s.create("new")
        s.wait(3.0)
        assert s.mirror("new") is not None
        s.wait(2 * RESYNC_SECONDS)
        assert s.restarts == 1


def test_a_sign_of_a_restore_makes_farlet_list_home_pods_at_once() -> None:
    with harness.running() as s:
        backup = s.home_server.backup()
        _running(s)
        _write_much(s, "home")
        s.restore("home", backup)
        s.pods.rewound()
        s.wait(5.0)
        assert ObjectKey(HOME, "web") not in s.store.home
        assert s.restarts == 1


def test_until_home_is_listed_again_no_mirror_is_deleted() -> None:
    with harness.running() as s:
        backup = s.home_server.backup()
        _running(s)
        _write_much(s, "home")
        s.restore("home", backup)
        s.home.refusing["GET .*pods"] = s.home.silence
        s.pods.rewound()
        s.wait(60.0)
        mirror = s.mirror()
        assert mirror is not None
        assert "deletionTimestamp" not in mirror["metadata"]
        s.home.refusing.clear()
        s.wait(20.0)
        mirror = s.mirror()
        assert mirror is not None
        assert "deletionTimestamp" in mirror["metadata"]


def test_a_pod_that_kopf_does_not_deliver_is_found_by_the_second_list() -> None:
    with harness.running() as s:
        _running(s)
        s.feeding = False
        s.create("unseen")
        s.wait(2 * RESYNC_SECONDS)
        assert s.mirror("unseen") is not None
        assert s.restarts == 1


def test_nothing_is_listed_anew_without_a_restore() -> None:
    with harness.running() as s:
        for number in range(5):
            _running(s, f"web-{number}")
        s.delete("web-0")
        s.wait(4 * RESYNC_SECONDS)
        assert s.restarts == 0
        assert not [one for one in s.logs if "went back" in one["event"]]
