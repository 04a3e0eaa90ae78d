"""What is written so that foreign Services and EndpointSlices show those of the home namespace."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from farlet.constants import JSON
from farlet.context import Context
from farlet.forge import services as forge
from farlet.k8s_types import ObjectMeta
from farlet.planning import services
from farlet.planning.services import Create, Delete, Replace
from unit.planning.objects import CONTEXT


def service(name: str = "web", namespace: str = "shop", version: str = "5", **spec: Any) -> JSON:
    metadata = {"name": name, "namespace": namespace, "uid": f"u-{name}"}
    metadata["resourceVersion"] = version
    return {"metadata": metadata, "spec": spec}


def forged(home: JSON, ctx: Context | None = None) -> JSON:
    """The foreign object of a home Service or, with a context, EndpointSlice."""
    if ctx is None:
        identity = forge.service_identity(home)
        assert identity is not None
        return forge.service(home, identity)
    identity = forge.slice_identity(home, ctx)
    assert identity is not None
    return forge.endpoint_slice(home, identity, ctx)


PORT = {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "appProtocol": "http"}
_AFFINITY: JSON = {
    "sessionAffinity": "ClientIP",
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 9}},
}
SPECS: dict[str, tuple[dict[str, Any], JSON]] = {
    "an address of its own": (
        {"type": "ClusterIP", "clusterIP": "10.96.0.7", "selector": {"a": "b"}, "ports": [PORT]},
        {"ports": [PORT]},
    ),
    "headless": ({"clusterIP": "None", "ports": [PORT]}, {"clusterIP": "None", "ports": [PORT]}),
    "headless without ports": ({"clusterIP": "None"}, {"clusterIP": "None"}),
    "an external name": (
        {"type": "ExternalName", "externalName": "db.example.com"},
        {"type": "ExternalName", "externalName": "db.example.com"},
    ),
    "node ports": (
        {"type": "NodePort", "clusterIP": "10.96.0.8", "ports": [{**PORT, "nodePort": 30080}]},
        {"ports": [PORT]},
    ),
    "a load balancer": (
        {"type": "LoadBalancer", "loadBalancerClass": "x", "externalTrafficPolicy": "Local"},
        {},
    ),
    "affinity": (_AFFINITY, _AFFINITY),
    "families of home": ({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), SPECS.values(), ids=SPECS)
def test_a_foreign_service_has_the_ports_of_home_and_no_selector(
    spec: dict[str, Any], expected: JSON
) -> None:
    shown = forged(service(**spec))
    assert shown["spec"] == expected
    assert shown["metadata"] == {
        "name": "web",
        "labels": {"farlet.io/reflected": "true"},
        "annotations": {"farlet.io/home-state": "u-web/5"},
    }


def test_the_service_of_the_api_server_is_not_reflected() -> None:
    assert forge.service_identity(service("kubernetes", "default")) is None
    assert forge.service_identity(service("kubernetes", "shop")) is not None


def endpoints(name: str = "web-abc", of: str | None = "web", **fields: Any) -> JSON:
    labels = {"kubernetes.io/service-name": of} if of else {}
    metadata = {"name": name, "namespace": "shop", "uid": "u", "labels": labels}
    metadata["resourceVersion"] = "7"
    return {"metadata": metadata, "addressType": "IPv4", **fields}


READY = {"ready": True, "serving": True, "terminating": False}


def test_a_foreign_slice_has_the_endpoints_of_home_without_its_nodes() -> None:
    given = {
        "addresses": ["10.1.0.3"], "conditions": READY, "hostname": "web-0", "nodeName": "machine",
        "zone": "a", "targetRef": {"kind": "Pod", "name": "web-0"}, "hints": {"forZones": []},
    }  # fmt: skip
    shown = forged(endpoints(endpoints=[given], ports=[PORT]), CONTEXT)
    assert shown["endpoints"] == [
        {"addresses": ["10.1.0.3"], "conditions": READY, "hostname": "web-0"}
    ]
    assert shown["addressType"] == "IPv4"
    assert shown["metadata"]["labels"] == {
        "farlet.io/reflected": "true",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "farlet.io",
    }
    assert shown["metadata"]["name"].startswith("web-abc-"), "never that of another controller"


def test_addresses_are_translated_and_endpoints_without_one_are_left_out() -> None:
    ctx = dataclasses.replace(
        CONTEXT, to_foreign_ip=lambda ip: ip.replace("10.1.", "10.201.") if "10.1." in ip else ""
    )
    given = [{"addresses": ["10.1.0.3"]}, {"addresses": ["10.2.0.4"]}]
    shown = forged(endpoints(endpoints=given), ctx)
    assert shown["endpoints"] == [{"addresses": ["10.201.0.3"]}]


def test_a_slice_of_a_headless_service_is_marked_as_one() -> None:
    home = endpoints()
    home["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    shown = forged(home, CONTEXT)
    assert shown["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_a_slice_without_a_service_is_not_reflected() -> None:
    assert forge.slice_identity(endpoints(of=None), CONTEXT) is None


def existing(name: str = "web", state: str = "u-web/5") -> ObjectMeta:
    return {
        "name": name,
        "uid": "f",
        "resourceVersion": "1",
        "annotations": {"farlet.io/home-state": state},
    }


BODY = forged(service())
DECISIONS: dict[str, tuple[list[JSON], dict[str, ObjectMeta], list[services.Action]]] = {
    "nothing": ([], {}, []),
    "a new one": ([service()], {}, [Create(BODY)]),
    "one that is as at home": ([service()], {"web": existing()}, []),
    "one that changed": (
        [service()],
        {"web": existing(state="u-web/4")},
        [Replace(BODY, existing(state="u-web/4"))],
    ),
    "one that was created again": (
        [service()],
        {"web": existing(state="u-old/5")},
        [Replace(BODY, existing(state="u-old/5"))],
    ),
    "one that is gone": ([], {"web": existing()}, [Delete(existing())]),
    "that of the API server": ([service("kubernetes", "default")], {}, []),
}


@pytest.mark.parametrize(("home", "foreign", "expected"), DECISIONS.values(), ids=DECISIONS)
def test_services_are_written_where_they_differ(
    home: list[JSON], foreign: dict[str, ObjectMeta], expected: list[services.Action]
) -> None:
    assert list(services.of_services(home, foreign)) == expected


LEFT_OUT: dict[str, tuple[list[JSON], dict[str, ObjectMeta], str, int]] = {
    "a new one that was not accepted": ([service()], {}, "u-web/5", 0),
    "a change that was not accepted": (
        [service()], {"web": existing(state="u-web/4")}, "u-web/5", 0
    ),
    "a deletion that was not accepted": ([], {"web": existing()}, services.GONE, 0),
    "another state of it": ([service(version="6")], {}, "u-web/5", 1),
    "a deletion after a change that was not accepted": ([], {"web": existing()}, "u-web/6", 1),
    "another one": ([service(), service("db")], {}, "u-web/5", 1),
}  # fmt: skip


@pytest.mark.parametrize(("home", "foreign", "state", "number"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_was_not_accepted_waits_while_it_is_the_same(
    home: list[JSON], foreign: dict[str, ObjectMeta], state: str, number: int
) -> None:
    actions = list(services.of_services(home, foreign, left_out={"web": state}))
    assert len(actions) == number


LATER: dict[str, tuple[str, bool]] = {
    "a later version": ("u-web/12", True),
    "a later version of one that was created again": ("u-new/12", True),
    "a later version with more digits": ("u-web/100", True),
    "the version of the collection": ("u-web/11", False),
    "an earlier version": ("u-web/9", False),
    "a version with a letter": ("u-web/12a", False),
    "other digits": ("u-web/\u0661\u0662", False),
    "a number that is too long": ("u-web/" + "9" * 5000, False),
    "no version": ("u-web", False),
}


@pytest.mark.parametrize(("state", "expected"), LATER.values(), ids=LATER)
def test_an_object_shows_a_later_home_state(state: str, expected: bool) -> None:
    found = services.later({"web": existing(state=state)}, 11)
    assert found == ({"web": state} if expected else {})


def test_an_object_without_a_state_shows_no_later_one() -> None:
    assert services.later({"web": {"name": "web", "uid": "f"}}, 11) == {}


KEPT: dict[str, tuple[list[JSON], dict[str, ObjectMeta]]] = {
    "changed": ([service()], {"web": existing(state="u-web/12")}),
    "unknown at home": ([], {"web": existing(state="u-web/12")}),
}


@pytest.mark.parametrize(("home", "foreign"), KEPT.values(), ids=KEPT)
def test_what_another_node_wrote_is_neither_replaced_nor_deleted(
    home: list[JSON], foreign: dict[str, ObjectMeta]
) -> None:
    assert list(services.of_services(home, foreign, kept={"web"})) == []
    assert len(list(services.of_services(home, foreign))) == 1


def test_no_slice_adds_endpoints_to_a_service_of_another_owner() -> None:
    home = [endpoints(), endpoints("db-xyz", of="db")]
    actions = list(services.of_slices(home, {}, reflected={"web"}, ctx=CONTEXT))
    assert [action.body["metadata"]["labels"]["kubernetes.io/service-name"]
            for action in actions if isinstance(action, Create)] == ["web"]  # fmt: skip
    (shown,) = [action.body for action in actions if isinstance(action, Create)]
    left: dict[str, ObjectMeta] = {shown["metadata"]["name"]: existing(shown["metadata"]["name"])}
    assert list(services.of_slices(home, left, reflected=set(), ctx=CONTEXT)) == [
        Delete(existing(shown["metadata"]["name"]))
    ]


def test_only_what_differs_is_forged_and_each_when_its_turn_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forges: list[str] = []
    whole = forge.endpoint_slice

    def counted(home: JSON, identity: forge.Identity, ctx: Context) -> JSON:
        forges.append(home["metadata"]["name"])
        return whole(home, identity, ctx)

    monkeypatch.setattr(forge, "endpoint_slice", counted)
    home = [endpoints(f"web-{n}") for n in range(1000)]
    shown = [forged(one, CONTEXT)["metadata"] for one in home]
    foreign = {
        one["name"]: existing(one["name"], one["annotations"]["farlet.io/home-state"])
        for one in shown
    }
    forges.clear()

    def actions(foreign: dict[str, ObjectMeta]) -> Iterator[services.Action]:
        return services.of_slices(home, foreign, reflected={"web"}, ctx=CONTEXT)

    assert list(actions(foreign)) == []
    assert forges == []
    home[7]["metadata"]["resourceVersion"] = "8"
    assert [type(one) for one in actions(foreign)] == [Replace]
    assert forges == ["web-7"]
    forges.clear()
    written = actions({})
    for number in range(1, 4):
        assert isinstance(next(written), Create)
        assert len(forges) == number, "the writes between them let other tasks run"
