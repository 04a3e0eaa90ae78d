"""What happens to a foreign namespace that farlet created and that no pod needs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from farlet.k8s_types import ObjectMeta
from farlet.planning import namespaces
from farlet.planning.namespaces import Decision, Facts, Home, Next

OURS: ObjectMeta = {
    "name": "shop-h",
    "uid": "u",
    "resourceVersion": "7",
    "labels": {"farlet.io/created-namespace": "true"},
    "annotations": {"farlet.io/home-cluster-id": "id", "farlet.io/home-namespace": "shop"},
}
FACTS = Facts(foreign="shop-h", home_namespace="shop", home_id="id", metadata=OURS)
EMPTY = {"pods": (), "configmaps": ("kube-root-ca.crt", "farlet-home-namespace"), "secrets": ()}
GONE = dataclasses.replace(FACTS, home=Home.GONE, content=EMPTY)


def ours(**changes: Any) -> ObjectMeta:
    return {**OURS, **changes}  # type: ignore[typeddict-item]


def annotated(home_id: str, home: str) -> ObjectMeta:
    annotations = {"farlet.io/home-cluster-id": home_id, "farlet.io/home-namespace": home}
    return ours(annotations=annotations)


DECISIONS: dict[str, tuple[Facts, Next]] = {
    "the home namespace is gone and nothing of others is left": (GONE, Next.DELETE),
    "the home namespace was not read": (FACTS, Next.READ_HOME),
    "the home namespace exists": (dataclasses.replace(GONE, home=Home.EXISTS), Next.KEEP),
    "the content was not read": (dataclasses.replace(GONE, content=None), Next.READ_CONTENT),
    "a pod needs it": (dataclasses.replace(GONE, needed=True), Next.KEEP),
    "it does not exist": (dataclasses.replace(GONE, metadata=None), Next.FORGET),
    "it is being deleted": (
        dataclasses.replace(GONE, metadata=ours(deletionTimestamp="2026-01-01T00:00:00Z")),
        Next.FORGET,
    ),
    "an administrator created it": (
        dataclasses.replace(GONE, metadata=ours(labels={})),
        Next.FORGET,
    ),
    "its label has another value": (
        dataclasses.replace(GONE, metadata=ours(labels={"farlet.io/created-namespace": "no"})),
        Next.FORGET,
    ),
    "it is for another home cluster": (
        dataclasses.replace(GONE, metadata=annotated("other", "shop")),
        Next.FORGET,
    ),
    "it is for another home namespace": (
        dataclasses.replace(GONE, metadata=annotated("id", "bank")),
        Next.FORGET,
    ),
}


@pytest.mark.parametrize(("facts", "expected"), DECISIONS.values(), ids=DECISIONS)
def test_a_namespace_that_no_pod_needs(facts: Facts, expected: Next) -> None:
    assert namespaces.decide(facts) == Decision(expected)


OTHERS = [
    ("pods", "web"),
    ("persistentvolumeclaims", "data"),
    ("services", "web"),
    ("configmaps", "settings"),
    ("secrets", "login"),
    ("secrets", "kube-root-ca.crt"),
]


@pytest.mark.parametrize(("resource", "name"), OTHERS, ids=["/".join(one) for one in OTHERS])
def test_an_object_of_others_keeps_the_namespace_and_is_named(resource: str, name: str) -> None:
    content = {**EMPTY, resource: (*EMPTY.get(resource, ()), name)}
    decision = namespaces.decide(dataclasses.replace(GONE, content=content))
    assert decision.next is Next.KEEP
    assert f"{resource}/{name}." in decision.report
    assert "kubectl label namespace shop-h farlet.io/created-namespace-" in decision.report


def test_a_report_names_five_objects_at_most() -> None:
    content = {**EMPTY, "pods": tuple(f"p{n}" for n in range(9))}
    report = namespaces.decide(dataclasses.replace(GONE, content=content)).report
    assert "pods/p4 and 4 more" in report
    assert "pods/p5" not in report


def test_a_home_namespace_that_farlet_may_not_read_keeps_the_namespace_and_is_reported() -> None:
    decision = namespaces.decide(dataclasses.replace(FACTS, home=Home.FORBIDDEN))
    assert decision.next is Next.KEEP
    assert "kubectl apply -f manifests/home/created-namespaces.yaml" in decision.report
