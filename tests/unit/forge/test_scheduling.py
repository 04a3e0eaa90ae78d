"""The scheduling fields of a mirror."""

from typing import Any

import pytest

import pods
from farlet.access.changes import ChangeKind, ChangeLog
from farlet.context import NamespaceMap
from farlet.forge import scheduling

CTX = pods.context(node_labels=frozenset({"type", "kubernetes.io/hostname"}))
REQUIRED = scheduling.REQUIRED
PREFERRED = scheduling.PREFERRED


def _e(key: str, operator: str = "In", *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


OURS = _e("type", "In", "virtual-kubelet")
GPU = _e("gpu", "Exists")
BY_NAME = {"matchFields": [_e("metadata.name", "In", "far")]}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param({"disk": "ssd"}, {"disk": "ssd"}, id="user's terms are copied"),
        pytest.param(
            {"type": "x", "disk": "ssd"}, {"disk": "ssd"}, id="the virtual node's label is dropped"
        ),
        pytest.param({"kubernetes.io/hostname": "far"}, None, id="nothing is left"),
    ],
)
def test_node_selector(selector: dict[str, str], expected: dict[str, str] | None) -> None:
    assert scheduling.node_selector(selector, CTX, ChangeLog()) == expected


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        pytest.param([{"key": "farlet.io/virtual-node"}], None, id="ours alone"),
        pytest.param([{"operator": "Exists"}], [{"operator": "Exists"}], id="of everything"),
        pytest.param(
            [{"key": "farlet.io/virtual-node"}, {"key": "gpu"}], [{"key": "gpu"}], id="others stay"
        ),
        pytest.param(
            [{"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 10}],
            [{"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 10}],
            id="how long a lost node is tolerated",
        ),
    ],
)
def test_tolerations(original: list[Any], expected: list[Any] | None) -> None:
    assert scheduling.tolerations(original, CTX, ChangeLog()) == expected


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param(
            [{"matchExpressions": [GPU]}], [{"matchExpressions": [GPU]}], id="others stay"
        ),
        pytest.param(
            [{"matchExpressions": [OURS, GPU]}],
            [{"matchExpressions": [GPU]}],
            id="ours is removed from a term",
        ),
        pytest.param([{"matchExpressions": [OURS]}], None, id="ours alone requires nothing"),
        pytest.param([BY_NAME], None, id="a node name requires nothing"),
        pytest.param(
            [{**BY_NAME, "matchExpressions": [GPU]}],
            [{"matchExpressions": [GPU]}],
            id="a node name is removed from a term",
        ),
        pytest.param(
            [{"matchExpressions": [OURS]}, {"matchExpressions": [GPU]}],
            None,
            id="terms are alternatives: a satisfied one requires nothing",
        ),
        pytest.param(
            [{"matchExpressions": [_e("type", "DoesNotExist")]}, {"matchExpressions": [OURS, GPU]}],
            [{"matchExpressions": [GPU]}],
            id="a term that excludes the virtual node did not match it",
        ),
        pytest.param(
            [
                {"matchExpressions": [_e("type", "NotIn", "virtual-kubelet")]},
                {"matchExpressions": [_e("type", "In", "other")]},
                {"matchExpressions": [_e("kubernetes.io/hostname", "NotIn", "near", "far")]},
                {"matchExpressions": [_e("kubernetes.io/hostname", "In", "near")]},
                {"matchExpressions": [OURS, GPU]},
            ],
            [{"matchExpressions": [GPU]}],
            id="a term that excludes the virtual node by its values did not match it",
        ),
        pytest.param(
            [{"matchExpressions": [_e("kubernetes.io/hostname", "NotIn", "near")]}],
            None,
            id="a term that excludes another node matched the virtual one",
        ),
        pytest.param(
            [{"matchExpressions": [_e("type", "DoesNotExist"), GPU]}], None, id="bound by hand"
        ),
    ],
)
def test_required_node_affinity(terms: list[Any], expected: list[Any] | None) -> None:
    original = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}
    result = scheduling.affinity(original, {}, CTX, ChangeLog())
    if expected is None:
        assert result is None
    else:
        assert result == {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": expected}}}


def test_preferences_for_the_virtual_node_alone_are_dropped() -> None:
    def entry(*expressions: Any) -> dict[str, Any]:
        return {"weight": 1, "preference": {"matchExpressions": list(expressions)}}

    original = {"nodeAffinity": {PREFERRED: [entry(OURS), entry(OURS, GPU), entry(GPU)]}}
    assert scheduling.affinity(original, {}, CTX, ChangeLog()) == {
        "nodeAffinity": {PREFERRED: [entry(GPU), entry(GPU)]}
    }


LABELS = {"hash": "1", "tenant": "acme"}


def _term(*expressions: Any, **fields: Any) -> dict[str, Any]:
    selector: dict[str, Any] = {"matchLabels": {"app": "web"}}
    if expressions:
        selector["matchExpressions"] = list(expressions)
    return {"topologyKey": "zone", "labelSelector": selector, **fields}


@pytest.mark.parametrize("wrap", ["required", "preferred"])
@pytest.mark.parametrize("kind", ["podAffinity", "podAntiAffinity"])
@pytest.mark.parametrize(
    ("term", "expected"),
    [
        pytest.param(
            _term(_e("hash", "In", "1"), matchLabelKeys=["hash"]),
            _term(matchLabelKeys=["hash"]),
            id="merged by matchLabelKeys",
        ),
        pytest.param(
            _term(_e("hash", "In", "0"), matchLabelKeys=["hash"]),
            _term(matchLabelKeys=["hash"]),
            id="merged before the label changed",
        ),
        pytest.param(
            _term(
                _e("tenant", "NotIn", "acme"),
                _e("tenant", "NotIn", "acme"),
                mismatchLabelKeys=["tenant"],
            ),
            _term(_e("tenant", "NotIn", "acme"), mismatchLabelKeys=["tenant"]),
            id="of mismatchLabelKeys only the last",
        ),
        pytest.param(
            _term(_e("tenant", "NotIn", "guest"), mismatchLabelKeys=["tenant"]),
            _term(_e("tenant", "NotIn", "guest"), mismatchLabelKeys=["tenant"]),
            id="the user's own stays",
        ),
        pytest.param(_term(_e("hash", "In", "1")), _term(_e("hash", "In", "1")), id="no keys"),
        pytest.param({"topologyKey": "zone"}, {"topologyKey": "zone"}, id="no selector"),
        pytest.param(
            _term(namespaces=["shop", "bank"]),
            _term(namespaces=["shop-home", "bank-home"]),
            id="namespaces by their foreign names",
        ),
    ],
)
def test_pod_affinity_terms(
    term: dict[str, Any], expected: dict[str, Any], kind: str, wrap: str
) -> None:
    def wrapped(inner: dict[str, Any]) -> dict[str, Any]:
        if wrap == "required":
            return {kind: {REQUIRED: [inner]}}
        return {kind: {PREFERRED: [{"weight": 3, "podAffinityTerm": inner}]}}

    original = wrapped(term)
    before = repr(original)
    assert scheduling.affinity(original, LABELS, CTX, ChangeLog()) == wrapped(expected)
    assert repr(original) == before


def test_spread_constraints_lose_the_keys_that_the_home_server_merged_in() -> None:
    changes = ChangeLog()
    merged = _term(_e("hash", "In", "1"), _e("tier", "Exists"), matchLabelKeys=["hash"])
    plain = _term(_e("tier", "Exists"), matchLabelKeys=["hash"])
    assert scheduling.spread([merged, plain], changes) == [plain, plain]
    assert [change.path for change in changes] == [
        "spec.topologySpreadConstraints[0].labelSelector"
    ]


def test_a_namespace_that_is_not_offloaded_keeps_its_name_and_is_reported() -> None:
    ctx = pods.context(
        namespaces=NamespaceMap(home="home", own="farlet", template=None, pairs=(("shop", "s"),))
    )
    changes = ChangeLog()
    original = {"podAffinity": {REQUIRED: [_term(namespaces=["shop", "bank"])]}}
    assert scheduling.affinity(original, LABELS, ctx, changes) == {
        "podAffinity": {REQUIRED: [_term(namespaces=["s", "bank"])]}
    }
    assert [c.path for c in changes if c.kind is ChangeKind.UNCHANGED] == [
        "spec.affinity.podAffinity.required[0].namespaces[bank]"
    ]


NAME = "kubernetes.io/metadata.name"


@pytest.mark.parametrize("kind", ["podAffinity", "podAntiAffinity"])
@pytest.mark.parametrize(
    ("selector", "expected", "reported"),
    [
        pytest.param({}, {}, [""], id="all namespaces are reported"),
        pytest.param(
            {"matchLabels": {NAME: "shop"}},
            {"matchLabels": {NAME: "shop-home"}},
            [],
            id="a name is rewritten",
        ),
        pytest.param(
            {"matchExpressions": [_e(NAME, "In", "shop", "db"), _e(NAME, "Exists")]},
            {"matchExpressions": [_e(NAME, "In", "shop-home", "db-home"), _e(NAME, "Exists")]},
            [],
            id="names are rewritten",
        ),
        pytest.param(
            {"matchExpressions": [_e(NAME, "NotIn", "shop")]},
            {"matchExpressions": [_e(NAME, "NotIn", "shop-home")]},
            [],
            id="an excluded name is rewritten",
        ),
        pytest.param(
            {"matchLabels": {"team": "a"}, "matchExpressions": [_e("env", "Exists")]},
            {"matchLabels": {"team": "a"}, "matchExpressions": [_e("env", "Exists")]},
            ["[team]", "[env]"],
            id="other labels are reported",
        ),
        pytest.param(
            {"matchLabels": {"team": "a", NAME: "shop"}},
            {"matchLabels": {"team": "a", NAME: "shop-home"}},
            ["[team]"],
            id="both",
        ),
        pytest.param(
            {"matchLabels": {NAME: "farlet"}},
            {"matchLabels": {NAME: "farlet-home"}},
            [],
            id="a namespace that has the name of farlet's",
        ),
    ],
)
def test_a_namespace_selector(
    kind: str, selector: dict[str, Any], expected: dict[str, Any], reported: list[str]
) -> None:
    changes = ChangeLog()
    term = {"topologyKey": "zone", "namespaceSelector": selector}
    original = {kind: {REQUIRED: [term], PREFERRED: [{"weight": 1, "podAffinityTerm": term}]}}
    got = scheduling.affinity(original, {}, CTX, changes)
    shown = {**term, "namespaceSelector": expected}
    assert got == {kind: {REQUIRED: [shown], PREFERRED: [{"weight": 1, "podAffinityTerm": shown}]}}
    paths = [change.path for change in changes if not change.routine]
    assert paths == [
        f"spec.affinity.{kind}.{group}[0].namespaceSelector{key}"
        for group in ("required", "preferred")
        for key in reported
    ]


def test_a_namespace_that_is_not_offloaded_is_reported_in_a_selector() -> None:
    ctx = pods.context(namespaces=NamespaceMap(home="h", own="farlet", template=None))
    changes = ChangeLog()
    selector = {"matchLabels": {NAME: "shop"}}
    original = {"podAffinity": {REQUIRED: [{"namespaceSelector": selector}]}}
    got = scheduling.affinity(original, {}, ctx, changes)
    assert got == original
    assert [change.kind for change in changes if not change.routine] == [ChangeKind.UNCHANGED]
