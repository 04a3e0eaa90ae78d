"""A Node that exists: its metadata, taints and cordon are put right, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from farlet.forge import node as forge
from unit.forge.nodes import FOUND, LOOK, OURS, TAINT, existing


@pytest.mark.parametrize(
    ("node", "look", "expected"),
    [
        pytest.param(existing(), LOOK, None, id="as it should be"),
        pytest.param(
            existing(labels={"theirs": "x"}),
            LOOK,
            {
                "metadata": {
                    "uid": "u",
                    "labels": OURS | {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
                }
            },
            id="labels are added, those of others stay",
        ),
        pytest.param(
            existing(annotations={"note": "old", "theirs": "x"}),
            LOOK,
            {"metadata": {"uid": "u", "annotations": {"note": "mine"}}},
            id="annotations are put right",
        ),
        pytest.param(
            existing(),
            dataclasses.replace(LOOK, provider_id="farlet://far"),
            {"metadata": {"uid": "u"}, "spec": {"providerID": "farlet://far"}},
            id="a provider id is set later",
        ),
    ],
)
def test_a_node_that_exists_is_adopted(node: Any, look: forge.NodeConfig, expected: Any) -> None:
    body = forge.adoption_patch(node, look, FOUND.kind)
    assert body == expected


@pytest.mark.parametrize(
    ("present", "missing", "after"),
    [
        pytest.param([{"key": TAINT.key, "effect": "NoSchedule"}], [], None, id="it is there"),
        pytest.param(
            [{"key": "theirs", "effect": "NoExecute"}],
            [TAINT],
            ["theirs", TAINT.key],
            id="beside those of others",
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
    assert forge.missing_taints(node, LOOK) == missing
    if after is not None:
        body = forge.taints_patch(node, missing)
        assert body["metadata"] == {"uid": "u", "resourceVersion": "7"}
        assert [taint["key"] for taint in body["spec"]["taints"]] == after


@pytest.mark.parametrize(
    ("node", "cordons", "uncordons"),
    [
        pytest.param(existing(), True, False, id="schedulable"),
        pytest.param(existing(spec={"unschedulable": True}), False, False, id="by its admin"),
        pytest.param(
            existing(spec={"unschedulable": True}, annotations={"farlet.io/cordoned": "drain"}),
            False,
            True,
            id="by us",
        ),
        pytest.param(
            existing(annotations={"farlet.io/cordoned": "drain"}),
            False,
            True,
            id="by us, and put back by its admin",
        ),
    ],
)
def test_only_our_own_cordon_is_taken_back(node: Any, cordons: bool, uncordons: bool) -> None:
    cordon, uncordon = forge.cordon_patch(node, "drain"), forge.uncordon_patch(node)
    assert (cordon is not None, uncordon is not None) == (cordons, uncordons)
    if cordon is not None:
        assert cordon["spec"] == {"unschedulable": True}
        assert cordon["metadata"]["resourceVersion"] == "7"
    if uncordon is not None:
        assert uncordon["spec"] == {"unschedulable": None}
        assert uncordon["metadata"]["annotations"] == {"farlet.io/cordoned": None}
