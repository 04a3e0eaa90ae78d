"""Adoption of an existing Node corrects its metadata, taints and cordon, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from farlet.forge import node as forge
from unit.forge.nodes import CONFIG, OBSERVED, OURS, TAINT, existing


@pytest.mark.parametrize(
    ("node", "config", "expected"),
    [
        pytest.param(existing(), CONFIG, None, id="nothing to change"),
        pytest.param(
            existing(labels={"theirs": "x"}),
            CONFIG,
            {
                "metadata": {
                    "uid": "u",
                    "labels": OURS | {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
                }
            },
            id="labels are added, other labels stay",
        ),
        pytest.param(
            existing(annotations={"note": "old", "theirs": "x"}),
            CONFIG,
            {"metadata": {"uid": "u", "annotations": {"note": "mine"}}},
            id="annotations are corrected",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(CONFIG, provider_id="farlet://far"),
            {"metadata": {"uid": "u"}, "spec": {"providerID": "farlet://far"}},
            id="a provider id is added later",
        ),
    ],
)
def test_a_node_that_exists_is_adopted(node: Any, config: forge.NodeConfig, expected: Any) -> None:
    body = forge.adoption_patch(node, config, OBSERVED.platform)
    assert body == expected


@pytest.mark.parametrize(
    ("present", "missing", "after"),
    [
        pytest.param([{"key": TAINT.key, "effect": "NoSchedule"}], [], None, id="present"),
        pytest.param(
            [{"key": "theirs", "effect": "NoExecute"}],
            [TAINT],
            ["theirs", TAINT.key],
            id="added to other taints",
        ),
        pytest.param(
            [{"key": TAINT.key, "value": "x", "effect": "NoSchedule"}],
            [TAINT],
            [TAINT.key],
            id="another value is replaced",
        ),
        pytest.param(
            [{"key": TAINT.key, "effect": "NoExecute"}],
            [TAINT],
            [TAINT.key, TAINT.key],
            id="another effect is another taint",
        ),
    ],
)
def test_taints_that_the_node_lacks_are_added(
    present: list[Any], missing: list[forge.Taint], after: list[str] | None
) -> None:
    node = existing(spec={"taints": present})
    assert forge.missing_taints(node, CONFIG) == missing
    if after is not None:
        body = forge.taints_patch(node, missing)
        assert body["metadata"] == {"uid": "u", "resourceVersion": "7"}
        assert [taint["key"] for taint in body["spec"]["taints"]] == after


@pytest.mark.parametrize(
    ("node", "cordons", "uncordons"),
    [
        pytest.param(existing(), True, False, id="schedulable"),
        pytest.param(
            existing(spec={"unschedulable": True}), False, False, id="cordoned by an administrator"
        ),
        pytest.param(
            existing(spec={"unschedulable": True}, annotations={"farlet.io/cordoned": "drain"}),
            False,
            True,
            id="cordoned by farlet",
        ),
        pytest.param(
            existing(annotations={"farlet.io/cordoned": "drain"}),
            False,
            True,
            id="cordoned by farlet, then uncordoned by an administrator",
        ),
    ],
)
def test_only_farlets_own_cordon_is_removed(node: Any, cordons: bool, uncordons: bool) -> None:
    cordon, uncordon = forge.cordon_patch(node, "drain"), forge.uncordon_patch(node)
    assert (cordon is not None, uncordon is not None) == (cordons, uncordons)
    if cordon is not None:
        assert cordon["spec"] == {"unschedulable": True}
        assert cordon["metadata"]["resourceVersion"] == "7"
    if uncordon is not None:
        assert uncordon["spec"] == {"unschedulable": None}
        assert uncordon["metadata"]["annotations"] == {"farlet.io/cordoned": None}
