"""Services of a home namespace in its foreign namespace (`--reflect=services`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from farlet import errors
from farlet.context import Context, NewNamespaces, PodNetwork, Reflection
from unit.planning import model, objects
from unit.planning.fake_cluster import Fault
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness

CTX: Context = dataclasses.replace(
    objects.CONTEXT, reflect=frozenset({Reflection.SERVICES}), pod_network=PodNetwork.CONNECTED
)
PORTS = [{"port": 80, "protocol": "TCP"}]
LABEL = "kubernetes.io/service-name"


@pytest.fixture
def s() -> Iterator[Harness]:
    with harness.running(ctx=CTX, starts=False) as made:
        made.reflects = True
        yield made


def service(s: Harness, name: str = "web", **spec: Any) -> JSON:
    body = {"metadata": {"name": name}, "spec": {"ports": PORTS, "clusterIP": "10.96.0.7", **spec}}
    return s.home_server.create("services", HOME, body, by=USER)


def endpoints(s: Harness, *addresses: str, name: str = "web-abc", of: str = "web") -> JSON:
    body = {
        "metadata": {"name": name, "labels": {LABEL: of}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip]} for ip in addresses],
        "ports": PORTS,
    }
    return s.home_server.create("endpointslices", HOME, body, by=USER)


def change(s: Harness, resource: str, name: str, body: JSON) -> None:
    where = (resource, HOME, name)
    s.home_server.patch(where, body, by=USER, status=False, strategic=False)


def shown(s: Harness) -> dict[str, list[str]]:
    """Addresses of the endpoints of each reflected Service."""
    found: dict[str, list[str]] = {
        one["metadata"]["name"]: []
        for one in s.foreign_server.all("services", FOREIGN)
        if "farlet.io/reflected" in one["metadata"].get("labels", {})
    }
    for one in s.foreign_server.all("endpointslices", FOREIGN):
        for endpoint in one["endpoints"]:
            found[one["metadata"]["labels"][LABEL]] += endpoint["addresses"]
    return found


def started(s: Harness) -> None:
    s.start()
    s.create()
    s.wait(5.0)


def test_services_and_endpoints_are_there_before_the_first_mirror(s: Harness) -> None:
    service(s)
    service(s, "db", clusterIP="None")
    endpoints(s, "10.1.0.3", "10.1.0.4")
    started(s)
    assert shown(s) == {"web": ["10.1.0.3", "10.1.0.4"], "db": []}
    sent = [one.request for one in s.foreign.received if one.request.startswith("POST")]
    services = [n for n, one in enumerate(sent) if "services" in one or "endpointslices" in one]
    (pod,) = [n for n, one in enumerate(sent) if one.endswith("/pods")]
    assert max(services) < pod


def test_changes_at_home_follow_and_nothing_else_is_written(s: Harness) -> None:
    service(s)
    endpoints(s, "10.1.0.3")
    started(s)
    change(s, "endpointslices", "web-abc", {"endpoints": [{"addresses": ["10.1.0.9"]}]})
    service(s, "late")
    s.wait(2.0)
    assert shown(s) == {"web": ["10.1.0.9"], "late": []}
    s.home_server.delete(("services", HOME, "web"), by=USER)
    s.wait(2.0)
    assert shown(s) == {"late": []}, "its endpoints are gone too"
    before = len(s.foreign.requests("POST|PUT|DELETE|PATCH"))
    s.wait(600.0)
    assert len(s.foreign.requests("POST|PUT|DELETE|PATCH")) == before


def test_nothing_is_reflected_without_the_setting() -> None:
    with harness.running() as s:
        service(s)
        s.create()
        s.wait(5.0)
        assert s.mirror() is not None
        assert s.foreign_server.all("services") == []
        assert s.home.requests("services|endpointslices") == []


def test_a_service_of_another_owner_is_left_alone_and_gets_no_endpoints(s: Harness) -> None:
    theirs = {"metadata": {"name": "web"}, "spec": {"ports": PORTS, "selector": {"a": "b"}}}
    s.foreign_server.create("services", FOREIGN, theirs, by=USER)
    service(s)
    endpoints(s, "10.1.0.3")
    started(s)
    assert s.mirror() is not None
    assert s.foreign_server.all("endpointslices", FOREIGN) == []
    found = s.foreign_server.get(("services", FOREIGN, "web"))
    assert found["spec"]["selector"] == {"a": "b"}
    attempts = len(s.foreign.requests("POST .*/services$"))
    s.wait(300.0)
    assert len(s.foreign.requests("POST .*/services$")) - attempts <= 5
    s.foreign_server.delete(("services", FOREIGN, "web"), by=USER)
    s.wait(61.0)
    assert shown(s) == {"web": ["10.1.0.3"]}


QUOTA = "exceeded quota: services, requested: services=1, used: services=5, limited: services=5"
REJECTED = {
    "a new Service, by a quota": ("POST .*/services$", "services", QUOTA),
    "a new slice, by a policy": ("POST .*/endpointslices$", "endpointslices", "denied by policy"),
    "a change of a Service, by a policy": ("PUT .*/services/", "services", "denied by policy"),
    "a deletion, by a policy": ("DELETE .*/services/", "services", "denied by policy"),
}


@pytest.mark.parametrize(("request_", "kind", "text"), REJECTED.values(), ids=REJECTED)
def test_an_object_that_is_rejected_holds_up_no_other(
    s: Harness, request_: str, kind: str, text: str
) -> None:
    changes = request_.startswith(("PUT", "DELETE"))
    for name in ("bad", "bad-too", "good"):
        service(s, name)
        endpoints(s, "10.1.0.3", name=f"{name}-abc", of=name)
    if changes:
        started(s)
    refusal = s.foreign.refusal(errors.Forbidden, 403, text, reason="Forbidden")

    def refuse() -> errors.FarletError | None:
        sent = s.foreign.received[-1]
        return refusal() if "bad" in f"{sent.request} {sent.body}" else None

    s.foreign.refusing[request_] = refuse
    for name in ("bad", "bad-too") if changes else ():
        if request_.startswith("PUT"):
            change(s, "services", name, {"spec": {"ports": [{"port": 81, "protocol": "TCP"}]}})
        else:
            s.home_server.delete(("services", HOME, name), by=USER)
    if not changes:
        started(s)
    assert s.mirror() is not None
    for number in range(30):
        body = {"endpoints": [{"addresses": [f"10.1.0.{number}"]}]}
        change(s, "endpointslices", "good-abc", body)
        s.wait(10.0)
    assert shown(s)["good"] == ["10.1.0.29"]
    sent = [one for one in s.foreign.requests(request_) if "bad" in f"{one.request} {one.body}"]
    assert 2 * 5 <= len(sent) <= 2 * 6, "each one once a minute"
    logs = [one for one in s.logs if one["event"] == "home object not reflected"]
    warnings = [one for one in logs if one["log_level"] == "warning"]
    assert [one["kind"] for one in warnings] == [kind] * 2
    s.foreign.refusing.clear()
    s.wait(61.0)
    expected = {"good"} if request_.startswith("DELETE") else {"bad", "bad-too", "good"}
    assert set(shown(s)) == expected
    assert all(shown(s).values())


def test_annotations_that_are_null_do_not_stop_the_namespace(s: Harness) -> None:
    service(s)["metadata"]["annotations"] = None
    endpoints(s, "10.1.0.1")["metadata"]["annotations"] = None
    started(s)
    assert shown(s) == {"web": ["10.1.0.1"]}
    for one in s.foreign_server.all("services"):
        one["metadata"]["annotations"] = None
    s.kill()
    s.start()
    service(s, "later")
    s.wait(5.0)
    assert shown(s) == {"web": ["10.1.0.1"], "later": []}


def test_an_object_that_was_rejected_is_written_again_when_it_changes(s: Harness) -> None:
    refusal = s.foreign.refusal(errors.Forbidden, 403, QUOTA, reason="Forbidden")
    s.foreign.refusing["POST .*/services$"] = refusal
    service(s)
    started(s)
    assert shown(s) == {}
    s.foreign.refusing.clear()
    service(s, "other")
    s.wait(2.0)
    assert shown(s) == {"other": []}
    change(s, "services", "web", {"spec": {"ports": [{"port": 81, "protocol": "TCP"}]}})
    s.wait(2.0)
    assert shown(s) == {"web": [], "other": []}


def test_a_service_that_a_foreign_user_deletes_is_created_again(s: Harness) -> None:
    service(s)
    endpoints(s, "10.1.0.3")
    started(s)
    s.foreign_server.delete(("services", FOREIGN, "web"), by=USER)
    s.wait(2.0)
    assert shown(s) == {"web": ["10.1.0.3"]}


STATE = "farlet.io/home-state"


def written_by_another_node(s: Harness, name: str) -> str:
    """A virtual node whose watch of home is ahead writes an object. Returns the state."""
    found = s.home_server.get(("services", HOME, name))["metadata"]
    state = f"{found['uid']}/{found['resourceVersion']}"
    metadata = {
        "name": name,
        "labels": {"farlet.io/reflected": "true"},
        "annotations": {STATE: state},
    }
    where = ("services", FOREIGN, name)
    body = {"metadata": metadata, "spec": {"ports": PORTS}}
    if name in shown(s):
        s.foreign_server.patch(where, body, by=USER, status=False, strategic=False)
    else:
        s.foreign_server.create("services", FOREIGN, body, by=USER)
    return state


def states(s: Harness) -> dict[str, str]:
    return {
        one["metadata"]["name"]: one["metadata"]["annotations"][STATE]
        for one in s.foreign_server.all("services", FOREIGN)
    }


def test_a_node_whose_watch_of_home_lags_undoes_nothing_of_another_one(s: Harness) -> None:
    service(s)
    service(s, "gone")
    started(s)
    s.home.lag = 70.0
    s.home_server.delete(("services", HOME, "gone"), by=USER)
    change(s, "services", "web", {"spec": {"ports": [{"port": 81, "protocol": "TCP"}]}})
    service(s, "late")
    writes = "(POST|PUT|DELETE) .*/services"
    before = len(s.foreign.requests(writes))
    expected = {name: written_by_another_node(s, name) for name in ("web", "late")}
    for _ in range(30):
        if "gone" in shown(s):
            s.foreign_server.delete(("services", FOREIGN, "gone"), by=USER)
        s.wait(2.0)
    assert {name: state for name, state in states(s).items() if name != "gone"} == expected
    again = s.foreign.requests(writes)[before:]
    assert [one.request.split(" ")[0] for one in again] == ["POST"] * len(again)
    assert len(again) <= 2, "one that this node does not know to be gone, not each time"
    s.home.lag = 0.0
    s.wait(30.0)
    assert states(s) == expected


def test_what_home_has_never_shown_is_corrected_after_a_restore_of_home(s: Harness) -> None:
    service(s)
    started(s)
    before = states(s)
    body = {"metadata": {"annotations": {STATE: f"{before['web'].split('/')[0]}/999999"}}}
    where = ("services", FOREIGN, "web")
    s.foreign_server.patch(where, body, by=USER, status=False, strategic=False)
    s.wait(90.0)
    assert s.foreign.requests("PUT .*/services/") == []
    s.wait(80.0)
    assert states(s) == before


def test_a_service_whose_change_is_not_valid_is_created_again(s: Harness) -> None:
    service(s)
    started(s)
    before = s.foreign_server.get(("services", FOREIGN, "web"))["metadata"]["uid"]
    refusal = s.foreign.refusal(errors.Invalid, 422, "spec.clusterIP: field is immutable")
    s.foreign.refusing["PUT .*/services/web"] = refusal
    change(s, "services", "web", {"spec": {"clusterIP": "None"}})
    s.wait(2.0)
    found = s.foreign_server.get(("services", FOREIGN, "web"))
    assert found["spec"]["clusterIP"] == "None"
    assert found["metadata"]["uid"] != before


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
@pytest.mark.parametrize("before", range(4))
def test_a_write_that_failed_is_followed_by_a_correct_one(
    s: Harness, fault: Fault, before: int
) -> None:
    service(s)
    endpoints(s, "10.1.0.3")
    s.foreign.faults.extend([*[Fault.FINE] * (2 + before), fault])
    started(s)
    s.wait(70.0)
    assert shown(s) == {"web": ["10.1.0.3"]}
    assert s.mirror() is not None


NO = 'services is forbidden: User "farlet" cannot use resource "services" in API group ""'
DENIED = {
    "home": (r"GET .*/endpointslices\?", "home", "HomeNamespaceForbidden", "-f manifests/home"),
    "foreign": (
        r"GET .*/default-h/services\?",
        "foreign",
        "ForeignForbidden",
        "-n default-h -f manifests/foreign/reflected-services.yaml",
    ),
    "writes": (
        r"POST .*/services$",
        "foreign",
        "ForeignForbidden",
        "-n default-h -f manifests/foreign/reflected-services.yaml",
    ),
}


@pytest.mark.parametrize(("pattern", "side", "reason", "text"), DENIED.values(), ids=DENIED)
def test_pods_wait_with_a_reason_while_a_permission_is_missing(
    s: Harness, pattern: str, side: str, reason: str, text: str
) -> None:
    service(s)
    cluster = s.home if side == "home" else s.foreign
    cluster.refusing[pattern] = cluster.refusal(errors.Forbidden, 403, NO, reason="Forbidden")
    started(s)
    pod = s.pod()
    assert pod is not None
    assert s.mirror() is None
    assert pod["status"]["reason"] == reason
    assert f"kubectl apply {text}" in pod["status"]["message"]
    cluster.refusing.clear()
    s.wait(40.0)
    assert s.mirror() is not None


def test_nothing_is_deleted_while_home_is_unknown(s: Harness) -> None:
    service(s)
    endpoints(s, "10.1.0.3")
    started(s)
    s.home.down = True
    s.home.break_watches()
    s.wait(60.0)
    assert shown(s) == {"web": ["10.1.0.3"]}
    assert s.foreign.requests("DELETE") == []


def test_nothing_is_written_to_another_foreign_cluster(s: Harness) -> None:
    service(s)
    started(s)
    other = model.Server(s.clock, ("farlet", FOREIGN), cluster="other")
    s.foreign.lead_to(other)
    service(s, "late")
    s.wait(60.0)
    assert other.all("services") == []


def test_a_namespace_that_no_pod_needs_keeps_no_reflected_object(s: Harness) -> None:
    service(s)
    endpoints(s, "10.1.0.3")
    started(s)
    theirs = {"metadata": {"name": "theirs"}, "spec": {"ports": PORTS}}
    s.foreign_server.create("services", FOREIGN, theirs, by=USER)
    s.delete()
    s.wait(60.0)
    s.prune()
    s.wait(301.0)
    s.prune()
    assert shown(s) == {}
    assert [one["metadata"]["name"] for one in s.foreign_server.all("services")] == ["theirs"]
    assert s.foreign_server.all("endpointslices") == []
    assert s.registered() == {}


def closed(s: Harness) -> None:
    """No pod needs the namespace any more, and it is about to close."""
    s.delete()
    s.wait(60.0)
    s.prune()
    s.wait(301.0)


def test_reflected_services_are_deleted_once_and_not_with_each_prune_of_a_kept_namespace() -> None:
    with harness.running(ctx=CTX, starts=False, new=NewNamespaces()) as s:
        s.reflects = True
        s.home_server.create_namespace("shop")
        s.start()
        s.create(namespace="shop")
        s.wait(5.0)
        s.delete(namespace="shop")
        s.wait(60.0)
        s.prune()
        s.wait(301.0)
        s.prune()
        assert s.registered() == {"shop-h": "shop"}, "its home namespace exists"
        theirs = {"metadata": {"name": "web", "labels": {"farlet.io/reflected": "true"}}}
        s.foreign_server.create("services", "shop-h", theirs, by=USER)
        for _ in range(3):
            s.wait(300.0)
            s.prune()
        assert len(s.foreign_server.all("services", "shop-h")) == 1


def test_reflected_services_are_deleted_later_if_the_foreign_cluster_does_not_answer(
    s: Harness,
) -> None:
    service(s)
    started(s)
    closed(s)
    s.foreign.refusing["DELETE .*/services/"] = s.foreign.silence
    s.prune()
    assert shown(s) == {"web": []}
    s.foreign.refusing.clear()
    s.prune()
    assert shown(s) == {}
    assert s.registered() == {}


def test_reflected_services_stay_in_a_namespace_that_belongs_to_another_home_now(
    s: Harness,
) -> None:
    service(s)
    started(s)
    closed(s)
    where = ("configmaps", FOREIGN, "farlet-home-namespace")
    body = {"data": {"home-id": "another"}}
    s.foreign_server.patch(where, body, by=USER, status=False, strategic=False)
    s.prune()
    assert shown(s) == {"web": []}
    assert s.registered() == {}


def test_reflected_services_stay_in_a_namespace_that_belongs_to_no_home(s: Harness) -> None:
    service(s)
    started(s)
    closed(s)
    s.foreign_server.delete(("configmaps", FOREIGN, "farlet-home-namespace"), by=USER)
    s.prune()
    assert shown(s) == {"web": []}


def test_no_reflected_service_is_deleted_on_the_answers_of_another_cluster(s: Harness) -> None:
    service(s)
    started(s)
    closed(s)
    list_all, former = s.foreign.list_all, s.foreign_server

    async def listed(resource: Any, **kwargs: Any) -> Any:
        found = await list_all(resource, **kwargs)
        if resource.plural == "endpointslices":
            other = model.Server(s.clock, ("farlet", FOREIGN), cluster="other")
            s.foreign.lead_to(other, login=False)
        return found

    s.foreign.list_all = listed  # type: ignore[method-assign]
    s.prune()
    s.foreign.lead_to(former)
    assert shown(s) == {"web": []}
    assert s.foreign.requests("DELETE .*/services/") == []


def test_reflected_services_stay_for_the_mirrors_of_another_virtual_node(s: Harness) -> None:
    service(s)
    started(s)
    labels = {"farlet.io/virtual-node-id": "another"}
    body = {"metadata": {"name": "theirs", "labels": labels}, "spec": {}}
    s.foreign_server.create("pods", FOREIGN, body, by=USER)
    s.delete()
    s.wait(60.0)
    s.prune()
    s.wait(301.0)
    s.prune()
    assert shown(s) == {"web": []}


def test_a_namespace_that_farlet_created_is_deleted_with_its_reflected_services() -> None:
    with harness.running(ctx=CTX, starts=False, new=NewNamespaces()) as s:
        s.reflects = True
        s.home_server.create_namespace("shop")
        body = {"metadata": {"name": "web"}, "spec": {"ports": PORTS}}
        s.home_server.create("services", "shop", body, by=USER)
        s.start()
        s.create(namespace="shop")
        s.wait(5.0)
        assert len(s.foreign_server.all("services", "shop-h")) == 1
        s.delete(namespace="shop")
        s.wait(60.0)
        s.prune()
        s.wait(301.0)
        s.home_server.terminate_namespace("shop")
        for _ in range(2):
            s.home_server.finish_namespaces()
        s.prune()
        assert s.foreign_server.all("services", "shop-h") == []
        assert len(s.foreign.requests("DELETE /api/v1/namespaces/shop-h$")) == 1


def test_an_internal_error_concerns_no_other_part(
    s: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    service(s)
    started(s)

    def fail(*_args: object) -> list[object]:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("farlet.planning.services.of_services", fail)
        service(s, "late")
        s.wait(5.0)
        s.create("second")
        s.wait(5.0)
        assert s.mirror("second") is not None
    s.wait(40.0)
    assert shown(s) == {"web": [], "late": []}
