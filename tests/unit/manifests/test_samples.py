"""farlet accepts the samples, and the sample policy selects mirrors by a label that farlet sets."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import pods
from farlet import access
from farlet.cli import main
from farlet.forge import pod as forge
from farlet.manager.virtual_node import VirtualNode

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
SAMPLE = SAMPLES / "no-api-server.yaml"
PODS = tuple(yaml.safe_load_all((SAMPLES / "access-modes.yaml").read_text()))


def test_the_policy_selects_mirrors_of_mode_disabled_only() -> None:
    selected = yaml.safe_load(SAMPLE.read_text())["spec"]["podSelector"]["matchLabels"]
    for mode, strategy in access.load_strategies().items():
        forged = forge.forge_mirror(
            pods.pod(),
            strategy=strategy,
            ctx=pods.context(),
            anchor=None,
            token_times={},
            restarts={},
        )
        labels = forged.pod["metadata"]["labels"]
        assert (selected.items() <= labels.items()) is (mode == "disabled")


def test_there_is_one_sample_pod_for_each_access_mode() -> None:
    modes = {pod["metadata"]["annotations"]["liqo.io/api-server-support"] for pod in PODS}
    assert modes == set(access.load_strategies())


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["metadata"]["name"])
def test_farlet_creates_a_mirror_of_a_sample_pod(pod: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod))
    address = ["--home-api-server-host=203.0.113.7", "--home-api-server-port=6443"]
    result = CliRunner().invoke(main.cli, ["render", "-f", str(path), *address])
    assert result.exit_code == 0, result.output
    kinds = [one["kind"] for one in yaml.safe_load_all(result.stdout)]
    assert "Pod" in kinds


def test_the_sample_virtual_node_is_valid() -> None:
    sample = yaml.safe_load((SAMPLES / "virtual-node.yaml").read_text())
    sample["metadata"] |= {"uid": "u", "generation": 1}
    assert VirtualNode.parse(sample).name == "far"
