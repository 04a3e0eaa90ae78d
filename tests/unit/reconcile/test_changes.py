"""Changes of running pods between two clusters: what is sent, and what is not."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from farlet import errors
from farlet.constants import APPLIED, JSON, VIRTUAL_NODE_ID, ObjectKey, Reason
from farlet.context import MirrorPatch
from unit.planning import objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness

PODS = 200
UPDATES = "PATCH .*/namespaces/default-h/pods/"
MIRROR = ("pods", FOREIGN, "web")
IMAGE = {"spec": {"containers": [{"name": "main", "image": "example.org/app:2"}]}}


def _running(s: Harness, *names: str) -> None:
    for name in names:
        s.create(name)
    s.wait(5.0)
    for name in names:
        s.runs(name)
    s.wait(5.0)


def _change(s: Harness, **body: Any) -> None:
    s.home_server.patch(("pods", HOME, "web"), body, by=USER, status=False, strategic=True)
    s.wait(5.0)


def _changed_in_foreign(s: Harness, **body: Any) -> None:
    s.foreign_server.patch(MIRROR, body, by=USER, status=False, strategic=True)
    s.wait(5.0)


def _mirror(s: Harness) -> Any:
    mirror = s.mirror()
    assert mirror is not None
    return mirror


def _pod(s: Harness) -> Any:
    pod = s.pod()
    assert pod is not None
    return pod


def _observed(s: Harness) -> Any:
    return _pod(s)["status"]["observedGeneration"]


def _restarts(s: Harness) -> Any:
    return _pod(s)["status"]["containerStatuses"][0]["restartCount"]


@contextlib.contextmanager
def _refused(
    kind: type[errors.ApiError], code: int, message: str, *, reason: str = "", what: str = UPDATES
) -> Iterator[Harness]:
    """The foreign cluster refuses changes of a mirror that runs; `what`: which requests."""
    with harness.running() as s:
        _running(s, "web")
        s.foreign.refusing = {what: s.foreign.refusal(kind, code, message, reason=reason)}
        yield s


def test_labels_annotations_and_images_reach_the_mirror_in_one_request() -> None:
    with harness.running() as s:
        _running(s, "web")
        _change(s, metadata={"labels": {"stage": "x"}, "annotations": {"go": "yes"}}, **IMAGE)
        mirror = _mirror(s)
        assert mirror["metadata"]["labels"]["stage"] == "x"
        assert mirror["metadata"]["annotations"]["go"] == "yes"
        assert mirror["spec"]["containers"][0]["image"] == "example.org/app:2"
        assert len(s.foreign.requests(UPDATES)) == 1


def test_home_shows_its_generation_when_the_foreign_kubelet_has_seen_the_change() -> None:
    with harness.running() as s:
        _running(s, "web")
        _change(s, **IMAGE)
        assert _pod(s)["metadata"]["generation"] == 2
        assert _observed(s) == 1
        seen = {"status": {"observedGeneration": 2}}
        s.foreign_server.patch(MIRROR, seen, by="kubelet", status=True, strategic=False)
        s.wait(5.0)
        assert _observed(s) == 2


def test_what_the_foreign_cluster_adds_stays_and_costs_nothing() -> None:
    with harness.running() as s:
        _running(s, "web")
        _changed_in_foreign(s, metadata={"labels": {"sidecar": "injected"}})
        _changed_in_foreign(s, spec={"containers": [{"name": "proxy", "image": "proxy"}]})
        assert s.foreign.requests(UPDATES) == []
        _change(s, metadata={"labels": {"stage": "x"}}, **IMAGE)
        mirror = _mirror(s)
        assert mirror["metadata"]["labels"]["sidecar"] == "injected"
        assert [c["image"] for c in mirror["spec"]["containers"]] == ["example.org/app:2", "proxy"]
        _change(s, metadata={"labels": {"stage": None}})
        assert "stage" not in _mirror(s)["metadata"]["labels"]
        assert _mirror(s)["metadata"]["labels"]["sidecar"] == "injected"
        assert len(s.foreign.requests(UPDATES)) == 2


def test_a_webhook_that_restores_its_values_meets_one_request_for_each_change() -> None:
    def inject(resource: str, obj: Any) -> None:
        if resource == "pods":
            obj["metadata"]["labels"]["stage"] = "theirs"

    with harness.running() as s:
        s.foreign_server.policy = inject
        _running(s, "web")
        _change(s, metadata={"labels": {"stage": "x"}})
        s.runs(restarts=1)
        s.wait(60.0)
        assert len(s.foreign.requests(UPDATES)) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("restart", [True, False], ids=["an upgrade", "changed settings"])
def test_two_hundred_running_pods_cost_no_write_at(restart: bool) -> None:
    with harness.running() as s:
        names = [f"web-{number}" for number in range(PODS)]
        _running(s, *names)
        if restart:
            s.kill()
        s.ctx = dataclasses.replace(
            s.ctx,
            keep_labels=("stage",),
            keep_annotations=("liqo.io/",),
            mirror_patch=MirrorPatch(labels={"team": "a"}, tolerations=({"key": "b"},)),
        )
        before = len(s.foreign.received)
        if restart:
            s.start()
        for name in names:
            s.runs(name, restarts=1)  # each pod is reconciled
        s.wait(60.0)
        written = [r.request for r in s.foreign.received[before:] if "GET" not in r.request]
        assert [one for one in written if "/pods" in one] == []


def test_a_mirror_of_an_older_farlet_is_not_written() -> None:
    with harness.running() as s:
        _running(s, "web")
        _changed_in_foreign(s, metadata={"annotations": {APPLIED: None}})
        _change(s, metadata={"labels": {"stage": "x"}})
        assert s.foreign.requests(UPDATES) == []


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        (errors.Invalid, 422, "spec: Forbidden: pod updates may not change fields"),
        (errors.Forbidden, 403, 'admission webhook "images" denied the request: not signed'),
    ],
)
def test_a_change_that_is_rejected_is_one_event_until_the_pod_changes_again(
    kind: type[errors.ApiError], code: int, message: str
) -> None:
    with _refused(kind, code, message) as s:
        _change(s, **IMAGE)
        s.runs(restarts=1)
        s.wait(300.0)
        assert _restarts(s) == 1, "its status follows"
        assert len(s.foreign.requests(UPDATES)) == 1
        assert s.events() == [Reason.CHANGE_REJECTED.value]
        (event,) = s.home_server.all("events")
        assert event["type"] == "Warning"
        assert "spec.containers[main].image" in event["message"]
        assert message in event["message"]

        _change(s, metadata={"labels": {"stage": "x"}})
        assert len(s.foreign.requests(UPDATES)) == 2
        assert s.events() == [Reason.CHANGE_REJECTED.value] * 2

        _change(s, metadata={"labels": {"stage": None}})
        _change(s, metadata={"labels": {"stage": "x"}})
        assert len(s.foreign.requests(UPDATES)) == 4, "it may be allowed by now"
        s.foreign.refusing = {}
        _change(s, metadata={"labels": {"stage": "y"}})
        assert _mirror(s)["spec"]["containers"][0]["image"] == "example.org/app:2"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (403, 'pods "web" is forbidden: not yet ready to handle request'),
        (403, 'User "farlet" cannot patch resource "pods" in API group "" in the namespace "x"'),
        (500, "failed calling webhook: connection refused"),
    ],
    ids=["an API server that starts", "a missing permission", "a webhook that is down"],
)
def test_a_change_is_sent_again_after(code: int, message: str) -> None:
    kind = errors.Forbidden if code == 403 else errors.ApiError
    with _refused(kind, code, message, reason="Forbidden" if code == 403 else "") as s:
        _change(s, **IMAGE)
        s.runs(restarts=1)
        s.wait(5.0)
        assert _restarts(s) == 1, "its status follows"
        s.foreign.refusing = {}
        s.wait(30.0)
        assert _mirror(s)["spec"]["containers"][0]["image"] == "example.org/app:2"


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        (errors.Conflict, 409, "the object has been modified"),
        (errors.Invalid, 422, "metadata.uid: Invalid value: field is immutable"),
    ],
)
def test_a_mirror_that_changed_meanwhile_is_read_and_then_changed(
    kind: type[errors.ApiError], code: int, message: str
) -> None:
    with _refused(kind, code, message) as s:
        s.home_server.patch(("pods", HOME, "web"), IMAGE, by=USER, status=False, strategic=True)
        s.wait(0.003)
        s.foreign.refusing = {}
        s.wait(5.0)
        assert _mirror(s)["spec"]["containers"][0]["image"] == "example.org/app:2"
        assert objects.CONTEXT.virtual_node_id in _mirror(s)["metadata"]["labels"].values()
        assert s.events() == []


@pytest.mark.parametrize("ours", [False, True], ids=["another pod", "the mirror without its label"])
def test_what_is_read_after_a_change_is_stored_only_if_a_watch_follows_it(ours: bool) -> None:
    with harness.running() as s:
        _running(s, "web")
        s.foreign.lag = 1e6
        if ours:
            body: JSON = {"metadata": {"labels": {VIRTUAL_NODE_ID: None}}}
            s.foreign_server.patch(MIRROR, body, by=USER, status=False, strategic=False)
        else:
            s.remove()
            body = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "main"}]}}
            s.foreign_server.create("pods", FOREIGN, body, by=USER)
        refusal = s.foreign.refusal(errors.Conflict, 409, "the object has been modified")
        refused = iter([refusal])
        s.foreign.refusing = {UPDATES: lambda: r() if (r := next(refused, None)) else None}
        _change(s, **IMAGE)
        s.wait(5.0)
        key = ObjectKey(FOREIGN, "web")
        stored, there = s.store.mirrors.uid(key), _mirror(s)
        labelled = VIRTUAL_NODE_ID in there["metadata"].get("labels", {})
        assert (stored, labelled) == ((there["metadata"]["uid"], True) if ours else (None, False))


RESIZES = "PATCH .*/pods/web/resize"
TWO = {"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "2"}}}]}}


def _condition(s: Harness) -> Any:
    found = [c for c in _pod(s)["status"]["conditions"] if c["type"] == "PodResizePending"]
    return found[0] if found else None


def test_a_resize_reaches_the_mirror_by_its_subresource() -> None:
    with harness.running() as s:
        _running(s, "web")
        _change(s, metadata={"labels": {"stage": "x"}}, **TWO)
        mirror = _mirror(s)
        assert mirror["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}}
        assert mirror["metadata"]["labels"]["stage"] == "x"
        assert len(s.foreign.requests(RESIZES)) == 1
        # The labels, the resize, and the record of the resize.
        assert len(s.foreign.requests(UPDATES)) == 3
        s.kill()
        s.start()
        s.runs(restarts=1)
        s.wait(60.0)
        assert len(s.foreign.requests(UPDATES)) == 3
        assert _condition(s) is None


def test_a_resize_that_is_rejected_is_infeasible_until_home_changes_it() -> None:
    limit = "maximum cpu usage per Container is 1"
    with _refused(errors.Forbidden, 403, limit, reason="Forbidden", what=RESIZES) as s:
        _change(s, **TWO)
        condition = _condition(s)
        assert (condition["status"], condition["reason"]) == ("True", "Infeasible")
        assert limit in condition["message"]
        assert condition["observedGeneration"] == 2
        assert _observed(s) == 2
        s.runs(restarts=1)
        s.wait(300.0)
        assert len(s.foreign.requests(RESIZES)) == 1
        assert s.events() == []

        before = len(s.home.requests("PATCH .*/pods/web/status"))
        s.kill()
        s.start()
        s.wait(60.0)
        assert len(s.foreign.requests(RESIZES)) == 2, "once more after a restart"
        assert len(s.home.requests("PATCH .*/pods/web/status")) == before, "it did not flap"
        assert _condition(s) == condition

        _change(s, spec={"containers": [{"name": "main", "resources": None}]})
        assert len(s.foreign.requests(RESIZES)) == 2
        assert _condition(s) is None
        s.foreign.refusing = {}
        _change(s, **TWO)
        assert _mirror(s)["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}}
        assert _condition(s) is None


def test_a_resize_that_exceeds_a_quota_is_deferred_until_there_is_room() -> None:
    used = itertools.count(9)

    def full() -> errors.FarletError | None:
        text = f"exceeded quota: team, requested: cpu=1, used: cpu={next(used)}, limited: cpu=9"
        return s.foreign.refusal(errors.Forbidden, 403, text, reason="Forbidden")()

    with harness.running() as s:
        _running(s, "web")
        s.foreign.refusing = {RESIZES: full}
        _change(s, **TWO)
        condition = _condition(s)
        assert (condition["status"], condition["reason"]) == ("True", "Deferred")
        assert "exceeded quota: team" in condition["message"]
        assert _observed(s) == 2
        assert s.events() == [Reason.FOREIGN_QUOTA_EXCEEDED.value]
        s.wait(60.0)
        assert 3 <= len(s.foreign.requests(RESIZES)) <= 12, "with growing pauses"
        written = len(s.home.requests("PATCH .*/pods/web/status"))
        s.wait(600.0)
        assert len(s.home.requests("PATCH .*/pods/web/status")) == written, "it does not flap"
        s.foreign.refusing = {}
        s.wait(60.0)
        assert _mirror(s)["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}}
        assert _condition(s) is None
        assert s.events() == [Reason.FOREIGN_QUOTA_EXCEEDED.value]


@pytest.mark.thorough
def test_a_change_that_keeps_failing_is_not_sent_again_whenever_the_mirror_changes() -> None:
    with _refused(errors.ApiError, 500, "failed calling webhook", what=f"{UPDATES}web$") as s:
        _change(s, **IMAGE)
        for number in range(300):
            body: JSON = {"metadata": {"annotations": {"other": str(number)}}}
            s.foreign_server.patch(MIRROR, body, by=USER, status=False, strategic=True)
            s.wait(0.1)
        assert 3 <= len(s.foreign.requests(f"{UPDATES}web$")) <= 12
        s.foreign.refusing = {}
        s.wait(30.0)
        assert _mirror(s)["spec"]["containers"][0]["image"] == "example.org/app:2"


def test_a_change_that_keeps_failing_delays_neither_resize_nor_kubectl_debug() -> None:
    failing = "failed calling webhook: connection refused"
    with _refused(errors.ApiError, 500, failing, what=f"{UPDATES}web$") as s:
        s.foreign.lag = 0.02
        _change(s, **IMAGE)
        debug = [{"name": f"debug-{n}", "image": "example.org/debug:1"} for n in range(8)]
        _change(s, spec={"ephemeralContainers": debug})
        s.wait(2.0)
        added = _mirror(s)["spec"].get("ephemeralContainers", [])
        assert sorted(one["name"] for one in added) == [one["name"] for one in debug]
        _change(s, **TWO)
        s.wait(2.0)
        assert _mirror(s)["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}}
        assert _mirror(s)["spec"]["containers"][0]["image"] == "example.org/app"
        s.foreign.refusing = {}
        s.wait(60.0)
        assert _mirror(s)["spec"]["containers"][0]["image"] == "example.org/app:2"


def test_a_role_without_the_resize_permission_is_reported_and_waited_for() -> None:
    denied = (
        'User "farlet" cannot patch resource "pods/resize" in API group "" in the namespace "x"'
    )
    with _refused(errors.Forbidden, 403, denied, reason="Forbidden", what=RESIZES) as s:
        _change(s, **TWO)
        assert s.events() == [Reason.FOREIGN_FORBIDDEN.value]
        assert _condition(s) is None
        s.foreign.refusing = {}
        s.wait(30.0)
        assert _mirror(s)["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}}
