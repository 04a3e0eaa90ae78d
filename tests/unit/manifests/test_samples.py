"""The sample policy selects mirrors by a label that farlet sets."""

from pathlib import Path

import yaml

import pods
from farlet import access
from farlet.forge import pod as forge

SAMPLE = Path(__file__).parents[3] / "manifests" / "samples" / "no-api-server.yaml"


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
