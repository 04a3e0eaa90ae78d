"""Settings of the Node, and those of them that shape mirror pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from farlet import context, errors, settings
from farlet.forge.node import Taint
from farlet.forge.node_health import ForeignUnreachable
from farlet.settings import loading


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(loading.env_name(field), raising=False)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "foreign.kubeconfig"
    path.write_text("{}")
    return str(path)


def load(kubeconfig: str, **flags: object) -> settings.Settings:
    needed: dict[str, object] = {"nodename": "far", "foreign_kubeconfig": kubeconfig}
    return loading.load(settings.Settings, needed | flags)


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        pytest.param("node_labels", "a=b, c.io/d=", (("a", "b"), ("c.io/d", "")), id="labels"),
        pytest.param(
            "node_labels", ("a=b", "c=d"), (("a", "b"), ("c", "d")), id="labels, each by a flag"
        ),
        pytest.param(
            "node_annotations", ('a={"b": 1, "c": 2}',), (("a", '{"b": 1, "c": 2}'),), id="commas"
        ),
        pytest.param(
            "node_annotations", "a=b\nc=d,e\n", (("a", "b"), ("c", "d,e")), id="one per line"
        ),
        pytest.param("node_annotations", {"a": "b=c"}, (("a", "b=c"),), id="a mapping in the file"),
        pytest.param(
            "node_taints",
            "a:NoSchedule,b=c:NoExecute",
            (Taint("a", "", "NoSchedule"), Taint("b", "c", "NoExecute")),
            id="taints as kubectl takes them",
        ),
        pytest.param("node_taints", "none", (), id="no taints"),
        pytest.param(
            "capacity",
            "cpu=8,memory=1.5Gi,pods=110,nvidia.com/gpu=1",
            (("cpu", "8"), ("memory", "1536Mi"), ("pods", "110"), ("nvidia.com/gpu", "1")),
            id="amounts in canonical form",
        ),
        pytest.param(
            "capacity",
            {"cpu": 8, "memory": "1Gi", "pods": 110},
            (("cpu", "8"), ("memory", "1Gi"), ("pods", "110")),
            id="amounts in the file",
        ),
        pytest.param(
            "foreign_unreachable", "notready", ForeignUnreachable.NOTREADY, id="foreign-unreachable"
        ),
        pytest.param("foreign_unreachable_after", "1m30s", 90.0, id="a duration"),
        pytest.param("provider_id", "farlet://far", "farlet://far", id="a provider id"),
    ],
)
def test_a_good_value_is_kept(kubeconfig: str, field: str, given: object, kept: object) -> None:
    assert getattr(load(kubeconfig, **{field: given}), field) == kept


@pytest.mark.parametrize(
    ("field", "given", "complaint"),
    [
        pytest.param("node_labels", "a", "expected KEY=VALUE", id="a label without a value"),
        pytest.param("node_labels", "a b=c", "is not a valid key", id="a key with a blank"),
        pytest.param(
            "node_labels", "A_b/c=d", "is not a DNS name", id="a prefix that is not a name"
        ),
        pytest.param(
            "node_labels", "a=b c", "is not a valid label value", id="a value with a blank"
        ),
        pytest.param("node_labels", "type=other", "type=virtual-kubelet", id="our own label"),
        pytest.param("node_labels", "a=b,a=c", "sets a more than once", id="a label twice"),
        pytest.param(
            "foreign_node_labels", "a=b", "is not a valid key", id="a value where a key goes"
        ),
        pytest.param("node_taints", "a", "KEY:EFFECT", id="a taint without an effect"),
        pytest.param("node_taints", "a:Never", "PreferNoSchedule", id="an unknown effect"),
        pytest.param("node_taints", ":NoSchedule", "is empty", id="a taint without a key"),
        pytest.param(
            "capacity", "cpu=8", "does not contain memory, pods", id="too little for the scheduler"
        ),
        pytest.param("capacity", "cpu=8 cores", "is not a quantity", id="no amount"),
        pytest.param("capacity", "cpu=-1", "is negative", id="a negative amount"),
        pytest.param("capacity", "pods=1.5", "requires a whole number", id="half a pod"),
        pytest.param("capacity", "nvidia.com/gpu=500m", "requires a whole number", id="half a GPU"),
        pytest.param("foreign_unreachable", "die", "hold, notready", id="an unknown policy"),
        pytest.param(
            "foreign_unreachable_after", "soon", "is not a valid duration", id="no duration"
        ),
        pytest.param("node_ip", "fe80::1%eth0", "zone ID", id="an address with a zone"),
    ],
)
def test_a_bad_value_is_reported_with_its_flag(
    kubeconfig: str, field: str, given: object, complaint: str
) -> None:
    with pytest.raises(errors.UsageError, match=complaint) as caught:
        load(kubeconfig, **{field: given})
    assert loading.flag_name(field) in str(caught.value)


def test_constraints_on_labels_of_the_node_are_dropped_unless_foreign_nodes_have_them(
    kubeconfig: str,
) -> None:
    found = load(
        kubeconfig,
        node_labels="zone=far,gpu=a100,kubernetes.io/arch=arm64",
        foreign_node_labels="gpu",
        node_taints="a=b:NoExecute,c:NoSchedule",
    )
    ctx = found.context(node="far", home_id="id", home_api=context.NotConfigured(), home_ca="")
    assert ctx.node_labels == {
        "type",
        "kubernetes.io/hostname",
        "node.kubernetes.io/exclude-from-external-load-balancers",
        "zone",
    }
    assert ctx.taints == {"a", "c"}


def test_without_settings_the_context_is_as_it_is_by_default(kubeconfig: str) -> None:
    found = load(kubeconfig).context(
        node="far", home_id="id", home_api=context.NotConfigured(), home_ca=""
    )
    plain = context.Context(node="far", home_id="id", namespaces=found.namespaces)
    assert (found.node_labels, found.taints) == (plain.node_labels, plain.taints)
