"""Ephemeral containers (`kubectl debug`): a whole farlet between two model clusters."""

from typing import Any

import pytest

from farlet import errors
from farlet.constants import Reason
from farlet.forge import copies
from unit.planning import model
from unit.reconcile.harness import FOREIGN, HOME, KUBELET, USER, Harness, running
from unit.reconcile.test_copies import APP, change, copy, pod, put

ADDITIONS = r"PATCH .*/pods/web/ephemeralcontainers"
STATUSES = r"PATCH .*/pods/web/status"
REJECTED = Reason.EPHEMERAL_CONTAINER_REJECTED.value
MIRROR, WEB = ("pods", FOREIGN, "web"), ("pods", HOME, "web")


def debug(s: Harness, name: str = "debug", **fields: Any) -> None:
    """A user adds an ephemeral container."""
    body = {"spec": {"ephemeralContainers": [{"name": name, "image": "busybox", **fields}]}}
    s.home_server.patch(WEB, body, by=USER, status=False, strategic=True)


def reports(s: Harness, **states: Any) -> None:
    """The foreign kubelet reports these states of ephemeral containers, and that the pod runs."""
    rows = [
        {"name": n, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        for n, state in states.items()
    ]
    main = {"name": "main", "image": "i", "imageID": "", "ready": True, "restartCount": 0}
    status = {
        "phase": "Running",
        "containerStatuses": [{**main, "state": {"running": {}}}],
        "ephemeralContainerStatuses": rows,
    }
    s.foreign_server.patch(MIRROR, {"status": status}, by=KUBELET, status=True, strategic=False)


def added(s: Harness) -> list[str]:
    spec = s.foreign_server.get(MIRROR)["spec"]
    return [one["name"] for one in spec.get("ephemeralContainers", ())]


def states(s: Harness) -> dict[str, Any]:
    rows = s.home_server.get(WEB)["status"].get("ephemeralContainerStatuses", [])
    return {row["name"]: row["state"] for row in rows}


def test_each_container_is_one_write_and_its_status_comes_back() -> None:
    with running() as s:
        s.create("web")
        s.wait(3.0)
        debug(s)
        s.wait()
        debug(s, "second")
        s.wait()
        reports(s, debug={"running": {}}, second={"waiting": {"reason": "ErrImagePull"}})
        s.wait()
        assert added(s) == ["debug", "second"]
        sent = [one.body for one in s.foreign.requests(ADDITIONS)]
        assert [one["spec"]["ephemeralContainers"][0]["name"] for one in sent] == [
            "debug",
            "second",
        ]
        assert states(s) == {
            "debug": {"running": {}},
            "second": {"waiting": {"reason": "ErrImagePull"}},
        }


@pytest.mark.parametrize(
    ("kind", "code"), [(errors.Forbidden, 403), (errors.Invalid, 422)], ids=["403", "422"]
)
def test_a_rejection_is_sent_once_shown_once_and_does_not_keep_others(
    kind: type[errors.ApiError], code: int
) -> None:
    with running() as s:
        s.create("web")
        s.wait(3.0)
        reports(s)
        s.wait()
        s.foreign.refusing[ADDITIONS] = s.foreign.refusal(kind, code, "a policy says no")
        for name in ("debug", "second"):
            debug(s, name)
            s.wait(30.0)
        assert len(s.foreign.requests(ADDITIONS)) == 2
        assert s.events("web").count(REJECTED) == 2
        for name, state in states(s).items():
            ended = state["terminated"]
            assert (ended["reason"], ended["exitCode"]) == (REJECTED, 128)
            assert f"ephemeral container {name}: the foreign API server" in ended["message"]
            assert "a policy says no" in ended["message"]
        s.foreign.refusing.clear()
        s.kill()
        s.start()
        debug(s, "third")
        s.wait(30.0)
        assert added(s) == ["third"]
        assert s.home_server.get(WEB)["status"]["phase"] == "Running"
        assert s.events("web").count(REJECTED) == 2


def test_a_missing_permission_is_an_event_and_the_container_follows_once_it_is_granted() -> None:
    with running() as s:
        s.create("web")
        s.wait(3.0)
        denied = (
            'pods "web" is forbidden: User "far" cannot patch resource "pods/ephemeralcontainers" '
            f'in API group "" in the namespace "{FOREIGN}"'
        )
        refusal = s.foreign.refusal(errors.Forbidden, 403, denied, reason="Forbidden")
        s.foreign.refusing[ADDITIONS] = refusal
        debug(s)
        s.wait(30.0)
        assert s.events("web").count(Reason.FOREIGN_FORBIDDEN.value) == 1
        message = next(
            e["message"]
            for e in s.home_server.all("events")
            if e["reason"] == Reason.FOREIGN_FORBIDDEN
        )
        assert "not allowed to patch pods/ephemeralcontainers" in message
        assert "offloaded-namespace.yaml" in message
        reports(s)
        s.wait()
        assert s.home_server.get(WEB)["status"]["phase"] == "Running"
        s.foreign.refusing.clear()
        s.wait(30.0)
        assert added(s) == ["debug"]


def test_a_container_that_the_foreign_cluster_removes_is_rejected() -> None:
    def removes(resource: str, obj: dict[str, Any]) -> None:
        if resource == "pods":
            obj["spec"].pop("ephemeralContainers", None)

    with running() as s:
        s.create("web")
        s.wait(3.0)
        s.foreign_server.policy = removes
        debug(s)
        s.wait(30.0)
        assert len(s.foreign.requests(ADDITIONS)) == 1
        assert "removes it" in states(s)["debug"]["terminated"]["message"]


def test_fields_that_the_foreign_cluster_drops_are_reported() -> None:
    def drops(resource: str, obj: dict[str, Any]) -> None:
        for one in obj.get("spec", {}).get("ephemeralContainers", ()):
            one.pop("targetContainerName", None)

    with running() as s:
        s.create("web")
        s.wait(3.0)
        s.foreign_server.policy = drops
        debug(s, targetContainerName="main")
        s.wait(3.0)
        assert added(s) == ["debug"]
        [message] = [
            e["message"]
            for e in s.home_server.all("events")
            if e["reason"] == Reason.SPEC_FIELDS_DROPPED
        ]
        assert "spec.ephemeralContainers[debug].targetContainerName" in message


def test_what_a_container_refers_to_is_copied_first_and_goes_when_it_has_ended() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "web")
        s.wait(3.0)
        assert copy(s, APP) is None
        debug(s, envFrom=[{"configMapRef": {"name": "app"}}])
        s.wait()
        writes = [one.request for one in s.foreign.requests(r"(POST|PATCH) .*/default-h/")][-2:]
        assert writes[0].endswith("/configmaps")
        assert writes[1].endswith("/ephemeralcontainers")
        [sent] = s.foreign.requests(ADDITIONS)
        [container] = sent.body["spec"]["ephemeralContainers"]
        name = copies.copy_name(APP, s.ctx)
        assert container["envFrom"] == [{"configMapRef": {"name": name}}]
        assert copy(s, APP)["data"] == {"mode": "1"}
        reports(s, debug={"running": {}})
        s.wait()
        change(s, APP, data={"mode": "2"})
        s.wait()
        assert copy(s, APP)["data"] == {"mode": "2"}
        reports(s, debug={"terminated": {"exitCode": 0}})
        s.wait(3.0)
        assert copy(s, APP) is None


def test_a_pod_keeps_its_copies_when_an_ephemeral_container_comes_and_goes() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "web", APP)
        s.wait(3.0)
        before = copy(s, APP)["metadata"]["uid"]
        reads = len(s.home.requests(r"GET .*/configmaps"))
        debug(s, envFrom=[{"configMapRef": {"name": "app"}}])
        s.wait(3.0)
        reports(s, debug={"terminated": {"exitCode": 0}})
        s.wait(3.0)
        assert copy(s, APP)["metadata"]["uid"] == before
        assert len(s.home.requests(r"GET .*/configmaps")) == reads


def test_what_a_rejected_container_refers_to_never_leaves_home() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "web")
        s.wait(3.0)
        debug(
            s,
            envFrom=[{"configMapRef": {"name": "app"}}],
            securityContext={"capabilities": {"add": ["SYS_PTRACE"]}},
        )
        s.wait(3.0)
        assert states(s)["debug"]["terminated"]["reason"] == REJECTED
        assert s.home.requests(r"GET .*/configmaps") == []
        assert s.foreign.requests(ADDITIONS) == []


def test_a_container_that_ran_ends_with_its_mirror_and_one_that_never_ran_is_added_again() -> None:
    with running() as s:
        s.create("web")
        s.wait(3.0)
        debug(s)
        debug(s, "second")
        s.wait()
        reports(s, debug={"running": {}}, second={"waiting": {"reason": "ErrImagePull"}})
        s.wait()
        s.foreign_server.delete(MIRROR, by=USER, grace=0)
        s.wait(10.0)
        assert added(s) == ["second"]
        assert states(s)["debug"]["terminated"]["reason"] == "ContainerStatusUnknown"
        assert "waiting" in states(s)["second"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("fields", "additions", "events"),
    [({}, 100, 0), ({"securityContext": {"privileged": True}}, 0, 1)],
    ids=["that can be added", "that are not allowed"],
)
def test_a_hundred_containers_at_once(fields: dict[str, Any], additions: int, events: int) -> None:
    with running() as s:
        s.create("web")
        s.wait(3.0)
        reports(s)
        s.wait()
        before = len(s.home.requests(STATUSES))
        names = [f"debug-{n}" for n in range(100)]
        wanted = [{"name": name, "image": "busybox", **fields} for name in names]
        body = {"spec": {"ephemeralContainers": wanted}}
        s.home_server.patch(WEB, body, by=USER, status=False, strategic=True)
        s.wait(10.0)
        assert len(added(s)) == len(s.foreign.requests(ADDITIONS)) == additions
        assert s.events("web").count(REJECTED) == events
        assert len(states(s)) == 100
        assert len(s.home.requests(STATUSES)) - before < 5
        assert not [entry for entry in s.logs if entry["log_level"] == "error"]


def test_a_version_that_moved_on_is_read_again() -> None:
    with running() as s:
        s.create("web")
        s.wait(3.0)
        s.foreign.lag = 2.0
        reports(s)
        debug(s)
        s.wait(0.5)
        assert added(s) == ["debug"]
        assert len(s.foreign.requests(ADDITIONS)) == 2
        assert model.clone(states(s)) == {"debug": {"waiting": {"reason": "ContainerCreating"}}}
