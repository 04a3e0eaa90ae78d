"""Foreign namespaces that farlet creates with the first pod and deletes with the home namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog.testing

from farlet import errors
from farlet.context import NewNamespaces
from farlet.foreign.created_namespaces import CreatedNamespaces
from unit.planning import model
from unit.planning.fake_cluster import Fault
from unit.planning.model import JSON
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, USER, Harness

SHOP, SHOP_HOME = "shop-h", "shop"
NEW = NewNamespaces(
    labels={"team": "guests"},
    annotations={"contact": "shop@example.com"},
    pod_security_level="restricted",
    resource_quota={"hard": {"pods": "50"}},
    network_policy={"podSelector": {}, "policyTypes": ["Ingress"]},
)
CREATED = r"POST /api/v1/namespaces$"
DELETED = rf"DELETE /api/v1/namespaces/{SHOP}$"


@pytest.fixture
def s() -> Iterator[Harness]:
    """A farlet with a home namespace that has no foreign one yet."""
    with harness.running(new=NEW) as made:
        made.home_server.create_namespace(SHOP_HOME)
        yield made


def find(s: Harness, resource: str, name: str, namespace: str = SHOP) -> JSON | None:
    try:
        return s.foreign_server.get((resource, namespace, name))
    except model.Status:
        return None


def shop(s: Harness) -> JSON | None:
    return find(s, "namespaces", SHOP, "")


def mirrored(s: Harness) -> None:
    s.create(namespace=SHOP_HOME)
    s.wait(5.0)
    assert s.mirror(namespace=SHOP) is not None


# --- creation ---------------------------------------------------------------------------------


def test_the_first_pod_creates_its_foreign_namespace_with_all_that_is_set(s: Harness) -> None:
    assert s.foreign.requests(CREATED) == []
    s.create(namespace=SHOP_HOME)
    s.create("second", namespace=SHOP_HOME)
    s.wait(5.0)
    made = shop(s)
    assert made is not None
    assert made["metadata"]["labels"] == {
        "team": "guests",
        "pod-security.kubernetes.io/enforce": "restricted",
        "farlet.io/created-namespace": "true",
    }
    assert made["metadata"]["annotations"] == {
        "contact": "shop@example.com",
        "farlet.io/home-cluster-id": s.ctx.home_id,
        "farlet.io/home-namespace": SHOP_HOME,
    }
    binding, quota = find(s, "rolebindings", "farlet"), find(s, "resourcequotas", "farlet")
    policy = find(s, "networkpolicies", "farlet")
    assert binding is not None
    assert quota is not None
    assert policy is not None
    assert binding["roleRef"]["name"] == "farlet-offloaded"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "namespace": "farlet", "name": "farlet"}
    ]
    assert quota["spec"] == NEW.resource_quota
    assert policy["spec"] == NEW.network_policy
    assert len(s.foreign.requests(CREATED)) == 1
    for name in ("web", "second"):
        mirror = s.mirror(name, namespace=SHOP)
        assert mirror is not None
        assert mirror["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert s.registered() == {SHOP: SHOP_HOME}


def test_pods_report_nothing_while_their_namespace_is_created(s: Harness) -> None:
    mirrored(s)
    assert s.events() == []


def test_a_namespace_of_an_administrator_is_used_as_it_is(s: Harness) -> None:
    s.create()
    s.wait(5.0)
    assert s.mirror() is not None
    assert s.foreign.requests(CREATED) == []
    assert find(s, "rolebindings", "farlet", FOREIGN) is None
    assert "labels" not in s.foreign_server.get(("namespaces", "", FOREIGN))["metadata"]


def test_no_namespace_is_created_without_the_setting() -> None:
    with harness.running() as s:
        s.home_server.create_namespace(SHOP_HOME)
        s.create(namespace=SHOP_HOME)
        s.wait(5.0)
        assert s.reason(namespace=SHOP_HOME) == "ForeignNamespaceNotFound"
        assert s.foreign.requests(CREATED) == []


def test_a_refused_creation_is_reported_and_tried_again(s: Harness) -> None:
    s.foreign.refusing[CREATED] = s.foreign.refusal(
        errors.Forbidden, 403, "farlet can create only namespaces with the label"
    )
    s.create(namespace=SHOP_HOME)
    s.wait(60.0)
    pod = s.pod(namespace=SHOP_HOME)
    assert pod is not None
    assert pod["status"]["reason"] == "ForeignForbidden"
    assert "kubectl apply -k manifests/foreign/created-namespaces" in pod["status"]["message"]
    assert 3 < len(s.foreign.requests(CREATED)) < 15, "each attempt pauses longer, up to 10 s"
    s.foreign.refusing.clear()
    s.wait(15.0)
    assert s.mirror(namespace=SHOP) is not None


def test_a_refused_creation_is_reported_all_the_time_and_logged_once(s: Harness) -> None:
    s.foreign.refusing[CREATED] = s.foreign.refusal(errors.Forbidden, 403, "no")
    s.create(namespace=SHOP_HOME)
    s.wait(5.0)
    with structlog.testing.capture_logs() as logs:
        for _ in range(200):
            s.wait(0.3)
            (namespace,) = s.scopes.opened()
            assert namespace.problem is not None
    assert [one for one in logs if one["log_level"] == "warning"] == []
    s.delete(namespace=SHOP_HOME)
    s.wait(150.0)
    (namespace,) = s.scopes.opened()
    assert namespace.problem is None, "no pod needs it any more"


def test_a_namespace_that_does_not_become_usable_is_read_less_often(
    s: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    async def unusable(_: CreatedNamespaces, name: str) -> bool:
        reads.append(name)
        return False

    monkeypatch.setattr(CreatedNamespaces, "_has_account", unusable)
    s.create(namespace=SHOP_HOME)
    s.wait(120.0)
    assert s.reason(namespace=SHOP_HOME) == "ForeignForbidden"
    assert 20 < len(reads) < 100


def test_a_pod_that_is_deleted_after_a_refused_creation_is_removed_and_creates_nothing(
    s: Harness,
) -> None:
    s.foreign.refusing[CREATED] = s.foreign.refusal(errors.Forbidden, 403, "no")
    s.create(namespace=SHOP_HOME)
    s.wait(5.0)
    s.delete(namespace=SHOP_HOME)
    s.wait(5.0)
    assert s.pod(namespace=SHOP_HOME) is None
    s.foreign.refusing.clear()
    s.wait(60.0)
    assert shop(s) is None


@pytest.mark.parametrize("fault", [Fault.DONE, Fault.LOST, Fault.LATE], ids=lambda f: f.value)
@pytest.mark.parametrize("before", range(5), ids=lambda n: f"after {n} writes")
def test_a_creation_that_is_interrupted_is_completed(s: Harness, fault: Fault, before: int) -> None:
    s.foreign.faults.extend([*[Fault.FINE] * before, fault])
    s.create(namespace=SHOP_HOME)
    s.wait(30.0)
    assert s.mirror(namespace=SHOP) is not None
    for resource in ("rolebindings", "resourcequotas", "networkpolicies"):
        assert find(s, resource, "farlet") is not None


def test_a_restarted_farlet_completes_a_namespace_that_lacks_its_binding(s: Harness) -> None:
    mirrored(s)
    s.kill()
    s.foreign_server.delete(("rolebindings", SHOP, "farlet"), by=USER)
    s.foreign_server.delete(("configmaps", SHOP, "farlet-home-namespace"), by=USER)
    s.start()
    s.wait(5.0)
    assert find(s, "rolebindings", "farlet") is not None
    assert find(s, "configmaps", "farlet-home-namespace") is not None


def test_a_complete_namespace_costs_one_read_a_minute_beside_the_usual_one(s: Harness) -> None:
    mirrored(s)
    s.wait(30.0)
    before = len(s.foreign.received)
    s.wait(600.0)
    sent = [one.request for one in s.foreign.received[before:] if "inventory" not in one.request]
    about = [one for one in sent if SHOP in one and "pods" not in one]
    assert len(about) <= 20, about


def test_a_namespace_that_was_deleted_is_created_again_for_its_pods(s: Harness) -> None:
    mirrored(s)
    s.foreign_server.terminate_namespace(SHOP)
    s.wait(1.0)
    s.remove(namespace=SHOP)
    for _ in range(2):
        s.foreign_server.finish_namespaces()
    s.wait(60.0)
    assert len(s.foreign.requests(CREATED)) == 2
    assert s.mirror(namespace=SHOP) is not None


@pytest.mark.parametrize(
    ("request_of", "answer"),
    [
        pytest.param(CREATED, {"kind": "Namespace"}, id="a namespace without metadata"),
        pytest.param(CREATED, {"kind": "Namespace", "metadata": []}, id="metadata that is a list"),
        pytest.param("/selfsubjectreviews$", {"kind": "x"}, id="a review without a status"),
        pytest.param(
            "/selfsubjectreviews$", {"kind": "x", "status": {"userInfo": {}}}, id="a nameless user"
        ),
        pytest.param("/selfsubjectaccessreviews$", {"kind": "x", "status": []}, id="a list"),
        pytest.param(
            "/selfsubjectaccessreviews$", {"kind": "x", "status": {"allowed": "no"}}, id="a word"
        ),
    ],
)
def test_an_answer_that_is_not_valid_delays_the_creation(
    s: Harness, request_of: str, answer: JSON
) -> None:
    s.foreign.answering[request_of] = answer
    s.create(namespace=SHOP_HOME)
    s.create()
    s.wait(20.0)
    assert s.mirror(namespace=SHOP) is None
    assert s.mirror() is not None, "farlet still runs"
    s.foreign.answering.clear()
    s.wait(60.0)
    assert s.mirror(namespace=SHOP) is not None


# --- removal ----------------------------------------------------------------------------------


def emptied(s: Harness) -> None:
    """The last pod has gone, and its namespace has been idle for five minutes."""
    mirrored(s)
    s.delete(namespace=SHOP_HOME)
    s.wait(60.0)
    assert s.mirror(namespace=SHOP) is None
    s.prune()
    s.wait(301.0)


def home_gone(s: Harness) -> None:
    s.home_server.terminate_namespace(SHOP_HOME)
    s.home_server.finish_namespaces()
    s.home_server.finish_namespaces()


def kept(s: Harness) -> list[JSON]:
    events = s.home_server.all("events")
    return [event for event in events if event["reason"] == "ForeignNamespaceKept"]


def deletions(s: Harness) -> int:
    return len(s.foreign.requests(DELETED))


@pytest.mark.parametrize(
    "item",
    [{"kind": "x"}, [], None, {"metadata": {"name": 1}}],
    ids=["without metadata", "that is a list", "that is null", "whose name is a number"],
)
def test_a_list_with_an_item_that_is_not_valid_keeps_the_namespace(s: Harness, item: Any) -> None:
    emptied(s)
    home_gone(s)
    s.foreign.answering[rf"GET .*/{SHOP}/services"] = {
        "kind": "List",
        "metadata": {"resourceVersion": "1"},
        "items": [item],
    }
    s.prune()
    assert deletions(s) == 0
    s.foreign.answering.clear()
    s.prune()
    assert deletions(s) == 1


def test_a_foreign_namespace_is_deleted_when_its_home_namespace_is_gone(s: Harness) -> None:
    emptied(s)
    home_gone(s)
    before = shop(s)
    assert before is not None
    s.prune()
    (deletion,) = s.foreign.requests(DELETED)
    assert deletion.body["preconditions"] == {
        "uid": before["metadata"]["uid"],
        "resourceVersion": before["metadata"]["resourceVersion"],
    }
    assert s.registered() == {}
    assert kept(s) == []


def test_it_is_deleted_long_after_the_last_pod_and_by_a_restarted_farlet(s: Harness) -> None:
    emptied(s)
    s.prune()
    s.wait(3600.0)
    s.prune()
    assert deletions(s) == 0
    assert s.registered() == {SHOP: SHOP_HOME}, "so that it is not forgotten"
    assert len(s.scopes) == 0, "no watch is open meanwhile"
    s.kill()
    home_gone(s)
    s.start()
    s.wait(10.0)
    s.prune()
    s.wait(301.0)
    s.prune()
    assert deletions(s) == 1
    assert s.registered() == {}


def a_pod(s: Harness) -> None:
    s.foreign_server.create("pods", SHOP, {"metadata": {"name": "theirs"}, "spec": {}}, by=USER)


def an_object(resource: str) -> Callable[[Harness], None]:
    def create(s: Harness) -> None:
        s.foreign_server.create(resource, SHOP, {"metadata": {"name": "theirs"}}, by=USER)

    return create


def changed(**metadata: Any) -> Callable[[Harness], None]:
    def change(s: Harness) -> None:
        where = ("namespaces", "", SHOP)
        body = {"metadata": metadata}
        s.foreign_server.patch(where, body, by=USER, status=False, strategic=False)

    return change


def refused(side: str, pattern: str) -> Callable[[Harness], None]:
    def refuse(s: Harness) -> None:
        cluster = s.home if side == "home" else s.foreign
        cluster.refusing[pattern] = cluster.refusal(errors.Forbidden, 403, "no")

    return refuse


def silent(side: str, pattern: str) -> Callable[[Harness], None]:
    def silence(s: Harness) -> None:
        cluster = s.home if side == "home" else s.foreign
        cluster.refusing[pattern] = cluster.silence

    return silence


def another_cluster(s: Harness) -> None:
    other = model.Server(s.clock, ("farlet",), cluster="other")
    s.foreign.lead_to(other)


KEEPS: dict[str, tuple[Callable[[Harness], None], bool]] = {
    "a pod of others": (a_pod, True),
    "a claim of others": (an_object("persistentvolumeclaims"), True),
    "a Service of others": (an_object("services"), True),
    "a ConfigMap of others": (an_object("configmaps"), True),
    "a Secret of others": (an_object("secrets"), True),
    "a label that was removed": (changed(labels={"farlet.io/created-namespace": None}), False),
    "another home namespace": (changed(annotations={"farlet.io/home-namespace": "x"}), False),
    "a home namespace that cannot be read": (refused("home", r"GET .*/namespaces/shop$"), True),
    "a home API server that is silent": (silent("home", r"GET .*/namespaces/shop$"), False),
    "Services that cannot be listed": (refused("foreign", r"GET .*/services\?"), False),
    "Secrets that are not answered": (silent("foreign", r"GET .*/shop-h/secrets\?"), False),
    "another foreign cluster": (another_cluster, False),
}


@pytest.mark.parametrize(("given", "reported"), KEEPS.values(), ids=KEEPS)
def test_a_foreign_namespace_is_kept_by(
    s: Harness, given: Callable[[Harness], None], reported: bool
) -> None:
    emptied(s)
    home_gone(s)
    given(s)
    for _ in range(2):
        s.prune()
        s.wait(1.0)
    assert deletions(s) == 0
    assert len(kept(s)) == reported, "once, although it is checked again"


def test_the_first_request_without_an_answer_ends_the_check_of_all_unused_namespaces(
    s: Harness,
) -> None:
    names = [f"team-{n}" for n in range(5)]
    for name in names:
        s.home_server.create_namespace(name)
        s.create(namespace=name)
    s.wait(5.0)
    for name in names:
        s.delete(namespace=name)
    s.wait(60.0)
    s.prune()
    s.wait(301.0)
    s.foreign.refusing[r"GET /api/v1/namespaces/team-\d-h$"] = s.foreign.silence
    before = len(s.foreign.received)
    s.prune()
    requests = [one.request for one in s.foreign.received[before:]]
    assert len([one for one in requests if "/namespaces/team-" in one]) == 1
    assert len(s.scopes) == 0
    s.foreign.refusing.clear()
    before = len(s.foreign.received)
    s.prune()
    requests = [one.request for one in s.foreign.received[before:]]
    assert len([one for one in requests if "/namespaces/team-" in one]) == 5


def test_unused_namespaces_cost_no_request_while_the_foreign_cluster_is_in_doubt(
    s: Harness,
) -> None:
    emptied(s)
    home_gone(s)
    s.foreign.lead_to(model.Server(s.clock, ("farlet",), cluster="other"))
    with pytest.raises(errors.Unconfirmed):
        s.probe()
    before = len(s.foreign.received)
    s.prune()
    assert len(s.foreign.received) == before


def test_a_requested_check_of_unused_namespaces_follows_one_that_failed(s: Harness) -> None:
    emptied(s)
    s.foreign.refusing[rf"GET /api/v1/namespaces/{SHOP}$"] = s.foreign.silence
    s.scopes.request_prune()
    s.wait(1.0)
    s.foreign.refusing.clear()
    home_gone(s)
    s.scopes.request_prune()
    s.wait(1.0)
    assert deletions(s) == 1


def test_a_namespace_is_deleted_once_the_objects_of_others_are_gone(s: Harness) -> None:
    emptied(s)
    home_gone(s)
    a_pod(s)
    s.prune()
    s.foreign_server.delete(("pods", SHOP, "theirs"), by=USER, grace=0)
    s.prune()
    assert deletions(s) == 1


def test_a_pod_that_comes_while_the_namespace_is_checked_keeps_it(s: Harness) -> None:
    emptied(s)
    s.home_server.terminate_namespace(SHOP_HOME)
    s.home_server.finish_namespaces()
    s.home_server.finish_namespaces()

    def comes() -> None:
        # The home namespace is created again, with a pod, after its absence was answered.
        s.foreign.refusing.clear()
        s.home_server.create_namespace(SHOP_HOME)
        s.create(namespace=SHOP_HOME)

    s.foreign.refusing[r"GET .*/shop-h/secrets\?"] = comes
    s.prune()
    s.wait(10.0)
    assert deletions(s) == 0
    assert s.mirror(namespace=SHOP) is not None


def test_a_namespace_that_changes_while_it_is_checked_is_kept_for_now(s: Harness) -> None:
    emptied(s)
    home_gone(s)
    relabel = changed(labels={"farlet.io/created-namespace": None})
    s.foreign.refusing[DELETED] = lambda: relabel(s)
    s.prune()
    s.foreign.refusing.clear()
    s.prune()
    found = shop(s)
    assert found is not None
    assert "deletionTimestamp" not in found["metadata"]
    assert s.registered() == {}, "an administrator has taken it over"


def test_a_namespace_that_was_deleted_is_created_again_for_the_next_pod(s: Harness) -> None:
    emptied(s)
    home_gone(s)
    s.prune()
    s.foreign_server.finish_namespaces()
    s.foreign_server.finish_namespaces()
    s.home_server.create_namespace(SHOP_HOME)
    mirrored(s)
    assert len(s.foreign.requests(CREATED)) == 2


def test_a_namespace_of_an_administrator_is_never_deleted(s: Harness) -> None:
    s.create()
    s.wait(5.0)
    s.delete()
    s.wait(60.0)
    s.prune()
    s.wait(301.0)
    s.home_server.terminate_namespace(harness.HOME)
    s.home_server.finish_namespaces()
    s.prune()
    assert s.foreign.requests("DELETE .*/namespaces/[^/]*$") == []
    assert s.registered() == {}
