"""Which failures are reported on the home pod, how often, and with which message."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from farlet import errors
from farlet.constants import Reason
from farlet.errors import FarletError
from farlet.forge import status
from farlet.planning import api_refusals
from farlet.planning.actions import Step
from farlet.store import Store, key_of
from unit.planning import objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, USER, Harness

STATUS = "PATCH .*/status"


def _quota(s: Harness) -> None:
    """Each refusal of the quota has other numbers in it."""
    used = itertools.count(1)
    s.foreign.refusing[r"POST .*/pods$"] = lambda: errors.Forbidden(
        cluster="foreign",
        request="POST pods",
        code=403,
        status_reason="Forbidden",
        message=f"pods is forbidden: exceeded quota: few, used: pods={next(used)}",
    )


def test_other_messages_of_the_same_reason_are_written_once_a_minute() -> None:
    with harness.running() as s:
        _quota(s)
        s.create()
        s.wait(600.0)
        at = [one.at for one in s.home.requests(STATUS)]
        assert len(s.foreign.requests(r"POST .*/pods$")) > 30, "it is tried far more often"
        assert 5 <= len(at) <= 11
        assert all(b - a >= 60.0 for a, b in itertools.pairwise(at))


def test_other_messages_of_the_same_reason_are_one_event() -> None:
    with harness.running() as s:
        _quota(s)
        s.create()
        s.wait(600.0)
        assert s.events() == [Reason.FOREIGN_QUOTA_EXCEEDED.value]


def test_a_failure_is_logged_once_as_a_warning_and_again_after_a_success() -> None:
    with harness.running() as s:
        _quota(s)
        s.create()
        s.wait(600.0)
        s.foreign.refusing.clear()
        s.wait(60.0)
        assert s.mirror() is not None
        s.remove()
        _quota(s)
        s.wait(600.0)
        levels = [one["log_level"] for one in s.logs if one["event"] == "reconcile failed"]
    assert levels.count("warning") == 2
    assert levels.count("debug") > 30


def test_another_reason_is_written_and_reported_at_once() -> None:
    with harness.running() as s:
        _quota(s)
        s.create()
        s.wait(10.0)
        s.foreign.refusing[r"POST .*/pods$"] = s.foreign.refusal(
            errors.Invalid, 422, "spec is wrong", reason="Invalid"
        )
        s.wait(16.0)
        assert s.reason() == "ForeignRejected"
        assert s.events() == ["ForeignQuotaExceeded", "ForeignRejected"]


def test_a_pod_that_starts_is_not_delayed_by_the_minute() -> None:
    with harness.running() as s:
        _quota(s)
        s.create()
        s.wait(10.0)
        s.foreign.refusing.clear()
        s.wait(16.0)
        s.runs()
        s.wait(1.0)
        assert s.reason() is None


# --- a deletion that cannot be finished -------------------------------------------------------

_RIGHT = 'pods "web" is forbidden: User "farlet" cannot get resource "pods"'

OBSTACLES: dict[str, tuple[str, Any, str]] = {
    "its mirror cannot be read": (
        r"GET .*/pods/web",
        (errors.Forbidden, 403, _RIGHT),
        "ForeignForbidden",
    ),
    "the foreign cluster does not answer": (r"GET .*/pods/web", None, "ForeignUnreachable"),
}


@pytest.mark.parametrize(("request_", "answer", "reason"), OBSTACLES.values(), ids=OBSTACLES)
def test_a_home_pod_whose_deletion_cannot_be_finished_reports_why(
    request_: str, answer: Any, reason: str
) -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.runs()
        s.wait(1.0)
        s.delete()
        s.wait(1.0)
        s.foreign.refusing[request_] = (
            s.foreign.silence
            if answer is None
            else s.foreign.refusal(answer[0], answer[1], answer[2], reason="Forbidden")
        )
        s.remove(unproven=True)
        s.wait(120.0)
        assert s.pod() is not None
        assert s.events() == [reason]
        s.foreign.refusing.clear()
        s.wait(20.0)
        assert s.pod() is None


def test_a_home_pod_whose_mirror_cannot_be_deleted_reports_why() -> None:
    with harness.running() as s:
        s.create()
        s.wait(5.0)
        s.runs()
        s.wait(1.0)
        s.foreign.refusing[r"DELETE .*/pods/web"] = s.foreign.refusal(
            errors.Forbidden, 403, 'User "farlet" cannot delete resource "pods"', reason="Forbidden"
        )
        s.delete()
        s.wait(120.0)
        assert s.pod() is not None
        assert s.events() == ["ForeignForbidden"]


# --- what a 404 does not mean -----------------------------------------------------------------


def _not_found(text: str) -> FarletError:
    return errors.NotFound(
        cluster="foreign", request="PATCH", code=404, status_reason="NotFound", message=text
    )


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize(
    "text", ['pods "web" not found', 'secrets "farlet-uid-1" not found', "not found"]
)
def test_a_404_for_another_object_does_not_mean_a_missing_namespace(step: Step, text: str) -> None:
    assert api_refusals.of(_not_found(text), step=step) is None


@pytest.mark.parametrize("vanishes", ["the mirror", "the Secret"])
def test_a_refresh_of_a_vanished_object_reports_no_reason(vanishes: str) -> None:
    with harness.running() as s:
        s.create(mode="home")
        s.wait(2.0)
        s.runs()
        s.wait(1500.0)
        s.foreign.lag = 1000.0  # no watch shows it before the refresh meets it
        if vanishes == "the mirror":
            s.remove()
        else:
            (secret,) = s.secrets()
            where = ("secrets", FOREIGN, secret["metadata"]["name"])
            s.foreign_server.delete(where, by=harness.USER)
        s.wait(600.0)
        assert s.foreign.requests(r"PATCH .*/secrets/"), "it was tried"
        assert s.events() == []
        assert s.reason() is None
        s.wait(600.0)
        assert s.mirror() is not None
        assert len(s.secrets()) >= 1


# --- readiness gates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gated_in_foreign", "ready_in_home"),
    [(True, "True"), (False, "False")],
    ids=[
        "a mirror that only its own gate holds back is ready at home",
        "a mirror without a gate that is not ready is on a lost node",
    ],
)
def test_what_the_store_keeps_of_a_mirror(gated_in_foreign: bool, ready_in_home: str) -> None:
    mirror: Any = objects.mirror()
    mirror["status"]["conditions"] = [
        {"type": "ContainersReady", "status": "True"},
        {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
    ]
    if gated_in_foreign:
        mirror["spec"]["readinessGates"] = [{"conditionType": "example.org/injected"}]
    store = Store()
    store.mirrors.put(mirror)
    kept = store.mirrors.get(key_of(mirror))
    assert kept is not None
    wanted = status.reflect(objects.home(), kept, ctx=objects.CONTEXT, now=objects.NOW)
    ready = {c["type"]: c["status"] for c in wanted.status["conditions"]}
    assert ready["Ready"] == ready_in_home


# --- a home namespace without farlet's RoleBinding --------------------------------------------


def test_a_home_namespace_without_a_role_binding_is_reported_once_on_the_node() -> None:
    with harness.running() as s:
        for resource in ("pods/status", "events"):
            message = (
                f'{resource} is forbidden: User "system:serviceaccount:farlet:farlet" cannot '
                f'patch resource "{resource}" in API group "" in the namespace "default"'
            )
            path = resource.replace("pods/", "pods/.*/")
            s.home.refusing[f"namespaces/default/{path}"] = s.home.refusal(
                errors.Forbidden, 403, message, reason="Forbidden"
            )
        s.home.refusing.pop("namespaces/default/events")  # where Events on Nodes are, too
        s.create("one", mode="nonsense")
        s.create("two", mode="nonsense")
        s.wait(60)
        (event,) = (e for e in s.home_server.all("events") if e["involvedObject"]["kind"] == "Node")
        assert event["reason"] == "HomeNamespaceForbidden"
        assert (
            "kubectl create rolebinding farlet -n default --clusterrole farlet-pods "
            "--serviceaccount farlet:farlet"
        ) in event["message"]
        ((home, _, problem),) = s.reconciler.used_namespaces()
        assert problem is not None
        assert (home, problem.reason) == ("default", Reason.HOME_NAMESPACE_FORBIDDEN)
        assert problem.message == event["message"]
        s.home.refusing.clear()
        s.wait(120)
        assert s.reason("one") == Reason.INVALID_API_SERVER_SUPPORT
        assert [one.problem for one in s.reconciler.used_namespaces()] == [None]


def test_a_pod_that_does_not_wait_any_more_has_one_normal_event() -> None:
    with harness.running() as s:
        s.foreign_server.create("pods", FOREIGN, {"metadata": {"name": "web"}, "spec": {}}, by=USER)
        s.create("web")
        s.create("other")
        s.wait(3.0)
        assert s.reason() == Reason.NAME_CONFLICT
        s.foreign_server.delete(("pods", FOREIGN, "web"), by=USER, grace=0)
        s.wait(30.0)
        s.kill()
        s.start()
        s.wait(30.0)
        [event] = [e for e in s.home_server.all("events") if e["reason"] == "MirrorCreated"]
        assert (event["type"], event["involvedObject"]["name"]) == ("Normal", "web")
        assert "(NameConflict): farlet created its mirror in the foreign" in event["message"]
