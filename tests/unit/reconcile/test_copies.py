"""Copies of ConfigMaps and Secrets: a whole farlet between two model clusters."""

from typing import Any

import pytest

from farlet import errors
from farlet.constants import USED_BY
from farlet.forge import copies
from farlet.forge.copies import Source
from farlet.forge.references import Kind
from farlet.planning.mirror_events import Shown
from unit.planning import model, objects
from unit.planning.fake_cluster import Fault
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness, running
from unit.reconcile.test_mirror_events import event

APP = Source(Kind.CONFIG_MAP, HOME, "app")
LOGIN = Source(Kind.SECRET, HOME, "login")
KINDS = {Kind.CONFIG_MAP: "configmaps", Kind.SECRET: "secrets"}
READS = r"GET .*/(configmaps|secrets)"
WRITES = r"(POST|PUT|PATCH|DELETE) .*/(configmaps|secrets)"


def put(s: Harness, source: Source, **fields: Any) -> None:
    """A user creates a home object."""
    body = {"metadata": {"name": source.name, "labels": fields.pop("labels", {})}, **fields}
    s.home_server.create(KINDS[source.kind], HOME, body, by=USER)


def change(s: Harness, source: Source, **fields: Any) -> None:
    where = (KINDS[source.kind], HOME, source.name)
    s.home_server.patch(where, fields, by=USER, status=False, strategic=False)


def remove(s: Harness, source: Source) -> None:
    s.home_server.delete((KINDS[source.kind], HOME, source.name), by=USER)


def pod(s: Harness, name: str = "web", *referred: Source) -> None:
    """A user creates a pod that refers to these objects."""
    made = objects.home()
    made["metadata"]["name"] = name
    env_from = [
        {"configMapRef" if one.kind is Kind.CONFIG_MAP else "secretRef": {"name": one.name}}
        for one in referred
    ]
    spec: Any = made["spec"]
    spec["containers"] = [{**spec["containers"][0], "envFrom": env_from}]
    s.home_server.create("pods", HOME, model.clone(made), by=USER)


def copy(s: Harness, source: Source) -> Any:
    """The copy, if there is one."""
    where = (KINDS[source.kind], FOREIGN, copies.copy_name(source, s.ctx))
    try:
        return s.foreign_server.get(where)
    except model.Status:
        return None


def where(s: Harness, source: Source) -> tuple[str, str, str]:
    return KINDS[source.kind], FOREIGN, copies.copy_name(source, s.ctx)


def test_a_pod_starts_after_the_copies_of_what_it_refers_to() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"}, immutable=True)
        put(s, LOGIN, data={"password": "eA=="}, type="Opaque")
        pod(s, "web", APP, LOGIN)
        s.wait()
        assert copy(s, APP)["data"] == {"mode": "1"}
        assert copy(s, APP)["immutable"] is True
        assert copy(s, LOGIN)["type"] == "Opaque"
        posts = [one.request for one in s.foreign.requests(r"POST .*default-h/")]
        kinds = [one.rpartition("/")[2] for one in posts]
        assert (kinds[0], sorted(kinds[1:3]), kinds[3]) == (
            "configmaps",  # that of the home namespace
            ["configmaps", "secrets"],
            "pods",
        )


def test_a_pod_without_references_costs_no_request_more() -> None:
    with running() as s:
        put(s, LOGIN, data={"password": "eA=="})
        pod(s)
        s.wait()
        assert s.mirror() is not None
        assert not s.home.requests(READS)
        assert not s.foreign.requests(r"used-by")


def test_a_further_pod_costs_no_request_for_what_is_copied_already() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "one", APP)
        s.wait()
        before = len(s.home.requests(READS)), len(s.foreign.requests(WRITES))
        pod(s, "two", APP)
        s.wait()
        assert s.mirror("two") is not None
        assert (len(s.home.requests(READS)), len(s.foreign.requests(WRITES))) == before


def test_an_object_that_does_not_exist_is_not_waited_for_and_is_copied_later() -> None:
    with running() as s:
        pod(s, "web", APP)
        s.wait()
        assert s.mirror() is not None
        assert copy(s, APP) is None
        put(s, APP, data={"mode": "1"})
        s.wait()
        assert copy(s, APP)["data"] == {"mode": "1"}


def test_a_change_arrives_with_one_read_and_one_write() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1", "old": "x"})
        pod(s, "web", APP)
        s.wait()
        before = len(s.home.received), len(s.foreign.received)
        change(s, APP, data={"mode": "2", "old": None})
        s.wait()
        assert copy(s, APP)["data"] == {"mode": "2"}
        assert [one.request.split()[0] for one in s.home.received[before[0] :]] == ["GET"]
        assert [one.request.split()[0] for one in s.foreign.received[before[1] :]] == ["PUT"]


def test_the_copy_of_a_deleted_object_is_deleted_and_an_immutable_one_is_replaced() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"}, immutable=True)
        pod(s, "web", APP)
        s.wait()
        remove(s, APP)
        s.wait()
        assert copy(s, APP) is None
        assert s.mirror() is not None
        put(s, APP, data={"mode": "2"}, immutable=True)
        s.wait()
        remove(s, APP)
        put(s, APP, data={"mode": "3"}, immutable=True)
        s.wait()
        assert copy(s, APP)["data"] == {"mode": "3"}


def test_the_last_pod_takes_the_copy_with_it() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "one", APP)
        pod(s, "two", APP)
        s.wait()
        for name in ("one", "two"):
            assert copy(s, APP) is not None
            s.delete(name, grace=0)
            s.wait(5)
            assert s.pod(name) is None
        assert copy(s, APP) is None


def test_what_an_earlier_process_left_is_deleted() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        put(s, LOGIN, data={"password": "eA=="})
        pod(s, "one", APP)
        pod(s, "two", APP, LOGIN)
        s.wait()
        s.kill()
        s.home_server.delete(("pods", HOME, "two"), by=USER, grace=0)
        s.start()
        s.wait(5)
        assert copy(s, LOGIN) is None
        assert copy(s, APP) is not None, "a pod still uses it"


@pytest.mark.parametrize("message", ["no relationship found between node and this object"])
def test_a_403_never_means_that_an_object_is_deleted(message: str) -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        s.home.refusing[READS] = s.home.refusal(errors.Forbidden, 403, message, reason="Forbidden")
        pod(s, "web", APP)
        s.wait(5)
        assert s.mirror() is None
        assert s.reason() is None
        s.home.refusing.clear()
        s.wait(20)
        assert s.mirror() is not None
        s.home.refusing[READS] = s.home.refusal(errors.Forbidden, 403, message, reason="Forbidden")
        s.home.break_watches()
        s.wait(20)
        assert copy(s, APP)["data"] == {"mode": "1"}


def test_a_missing_permission_at_home_is_reported_on_the_pod() -> None:
    message = (
        'secrets "login" is forbidden: User "system:serviceaccount:farlet:farlet" cannot list '
        'resource "secrets" in API group "" in the namespace "default"'
    )
    with running() as s:
        s.home.refusing[READS] = s.home.refusal(errors.Forbidden, 403, message, reason="Forbidden")
        pod(s, "web", LOGIN)
        s.wait(5)
        assert s.reason() == "HomeNamespaceForbidden"
        seen = s.pod()
        assert seen is not None
        assert "farlet cannot read the Secret default/login" in seen["status"]["message"]
        assert "kubectl create rolebinding" in seen["status"]["message"]


def test_a_missing_permission_in_the_foreign_namespace_concerns_only_pods_with_references() -> None:
    message = (
        'configmaps is forbidden: User "farlet" cannot list resource "configmaps" in API group "" '
        'in the namespace "default-h"'
    )
    with running() as s:
        s.foreign.refusing[r"GET .*used-by"] = s.foreign.refusal(
            errors.Forbidden, 403, message, reason="Forbidden"
        )
        put(s, APP, data={"mode": "1"})
        pod(s, "uses", APP)
        pod(s, "plain")
        s.wait(5)
        assert s.mirror("plain") is not None
        assert s.mirror("uses") is None
        assert s.reason("uses") == "ForeignForbidden"


def test_an_object_that_is_kept_at_home_never_leaves() -> None:
    with running() as s:
        put(s, LOGIN, data={"password": "eA=="}, labels={"farlet.io/keep-at-home": "true"})
        pod(s, "web", LOGIN)
        s.wait()
        assert s.reason() == "KeptAtHome"
        assert not s.home.requests(r"GET .*/secrets/login")
        change(s, LOGIN, metadata={"labels": {"farlet.io/keep-at-home": None}})
        s.wait()
        assert s.mirror() is not None
        change(s, LOGIN, metadata={"labels": {"farlet.io/keep-at-home": "true"}})
        s.wait()
        assert copy(s, LOGIN) is None


def test_a_service_account_token_is_never_copied() -> None:
    with running() as s:
        put(s, LOGIN, data={"token": "eA=="}, type="kubernetes.io/service-account-token")
        pod(s, "web", LOGIN)
        s.wait()
        assert s.reason() == "UnsupportedPod"
        assert copy(s, LOGIN) is None
        assert not s.foreign.requests(r"POST .*/secrets")
        change(s, LOGIN, data={"token": "eQ=="})
        s.wait()
        assert copy(s, LOGIN) is None


def test_the_copy_of_another_virtual_node_is_marked_and_kept_for_it() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "web", APP)
        s.wait()
        other = f"{USED_BY}other"
        marked = {"metadata": {"labels": {other: "true", copies.mark(s.ctx): None}}}
        s.foreign_server.patch(where(s, APP), marked, by=USER, status=False, strategic=False)
        s.wait()
        assert set(copy(s, APP)["metadata"]["labels"]) == {other, copies.mark(s.ctx)}
        s.delete(grace=0)
        s.wait(5)
        assert set(copy(s, APP)["metadata"]["labels"]) == {other}


def test_an_unrelated_object_of_the_same_name_stays_and_is_reported() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        theirs = {"metadata": {"name": copies.copy_name(APP, s.ctx)}, "data": {"mode": "theirs"}}
        s.foreign_server.create("configmaps", FOREIGN, theirs, by=USER)
        pod(s, "web", APP)
        s.wait(5)
        assert s.reason() == "NameConflict"
        assert copy(s, APP)["data"] == {"mode": "theirs"}
        s.foreign_server.delete(where(s, APP), by=USER)
        s.wait(20)
        assert s.mirror() is not None
        assert copy(s, APP)["data"] == {"mode": "1"}


def test_a_copy_that_was_deleted_or_made_immutable_in_the_foreign_cluster_is_restored() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "web", APP)
        s.wait()
        s.foreign_server.delete(where(s, APP), by=USER)
        s.wait()
        assert copy(s, APP)["data"] == {"mode": "1"}
        fixed = {"immutable": True}
        s.foreign_server.patch(where(s, APP), fixed, by=USER, status=False, strategic=False)
        change(s, APP, data={"mode": "2"})
        s.wait(5)
        assert copy(s, APP)["data"] == {"mode": "2"}


def test_a_copy_whose_answer_was_lost_is_found() -> None:
    with running() as s:
        put(s, APP, data={"mode": "1"})
        pod(s, "plain")
        s.wait()
        s.foreign.faults.append(Fault.DONE)
        pod(s, "web", APP)
        s.wait(5)
        assert s.mirror() is not None
        assert copy(s, APP)["data"] == {"mode": "1"}


def test_content_is_neither_kept_nor_logged() -> None:
    with running() as s:
        put(s, LOGIN, data={"password": "c2VjcmV0"})
        pod(s, "web", LOGIN)
        s.wait()
        kept = b"".join(s.store.copies[Kind.SECRET].documents())
        assert b"c2VjcmV0" not in kept
        assert "c2VjcmV0" not in repr(s.logs)


def test_events_of_the_mirror_name_the_home_object() -> None:
    with running(shown=Shown.ALL) as s:
        pod(s, "web", APP)
        s.wait(2)
        mirror = s.mirror()
        assert mirror is not None
        name = copies.copy_name(APP, s.ctx)
        event(s, mirror, reason="FailedMount", message=f'configmap "{name}" not found')
        s.wait(3)
        (shown,) = (e for e in s.home_server.all("events") if e["reason"] == "FailedMount")
        assert shown["message"] == 'in the foreign cluster: configmap "app" not found'


@pytest.mark.parametrize(
    "quoted", ["aHVudGVyMi1odW50ZXIy", "hunter2-hunter2", "has r2-hunter in it"]
)
def test_a_refusal_that_quotes_a_secret_is_not_shown(quoted: str) -> None:
    with running() as s:
        put(s, LOGIN, data={"password": "aHVudGVyMi1odW50ZXIy"})
        message = f"admission webhook denied the request: {quoted}"
        s.foreign.refusing[r"POST .*/secrets"] = s.foreign.refusal(errors.Forbidden, 403, message)
        pod(s, "web", LOGIN)
        s.wait(5)
        seen = s.pod()
        assert seen is not None
        assert s.reason() == "ForeignRejected"
        assert "the message is not shown" in seen["status"]["message"]
        assert "denied" not in repr(s.logs) + repr(seen)


def test_a_refusal_that_quotes_nothing_is_shown() -> None:
    with running() as s:
        put(s, LOGIN, data={"password": "aHVudGVyMi1odW50ZXIy"})
        message = "exceeded quota: secrets, used: 10, limited: 10"
        s.foreign.refusing[r"POST .*/secrets"] = s.foreign.refusal(errors.Forbidden, 403, message)
        pod(s, "web", LOGIN)
        s.wait(5)
        assert s.reason() == "ForeignQuotaExceeded"
