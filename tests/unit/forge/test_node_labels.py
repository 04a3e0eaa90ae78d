"""Labels of the Node: from the foreign nodes, from the settings, and the restricted ones."""

from __future__ import annotations

import dataclasses

import pytest

from farlet.forge import capacity, node_restriction
from farlet.forge import node as forge
from unit.forge.nodes import CONFIG, OBSERVED, OURS


@pytest.mark.parametrize(
    ("platform", "labels"),
    [
        pytest.param(capacity.Platform(), {}, id="not known: labels stay"),
        pytest.param(
            capacity.Platform("linux", ""),
            {"kubernetes.io/os": "linux", "kubernetes.io/arch": None},
            id="nodes differ: labels are removed",
        ),
    ],
)
def test_platform_labels_exist_where_all_nodes_agree(
    platform: capacity.Platform, labels: dict[str, str | None]
) -> None:
    assert forge.labels(CONFIG, platform) == OURS | labels


def test_a_label_of_the_settings_wins_over_an_observed_one() -> None:
    config = dataclasses.replace(CONFIG, labels={"kubernetes.io/arch": "arm64"})
    assert forge.labels(config, OBSERVED.platform)["kubernetes.io/arch"] == "arm64"


@pytest.mark.parametrize(
    ("label", "restricted"),
    [
        pytest.param("zone", False, id="no prefix"),
        pytest.param("example.com/zone", False, id="another domain"),
        pytest.param("kubernetes.io/arch", False, id="one of a kubelet"),
        pytest.param("topology.kubernetes.io/zone", False, id="the zone"),
        pytest.param("node.kubernetes.io/anything", False, id="a domain of kubelets"),
        pytest.param("sub.kubelet.kubernetes.io/anything", False, id="below one"),
        pytest.param("node-role.kubernetes.io/worker", True, id="a role"),
        pytest.param("kubernetes.io/other", True, id="one of Kubernetes"),
        pytest.param("x.k8s.io/other", True, id="below k8s.io"),
        pytest.param("notkubernetes.io/other", False, id="only a similar name"),
        pytest.param("node-restriction.kubernetes.io/a", True, id="restricted by its domain"),
        pytest.param("x.node-restriction.kubernetes.io/a", True, id="below that"),
    ],
)
def test_labels_that_a_node_may_not_give_itself(label: str, restricted: bool) -> None:
    assert node_restriction.restricted_labels([label]) == ([label] if restricted else [])
