"""docs/pods.md speaks of the same names as the code."""

from pathlib import Path

import pytest

from farlet import constants
from farlet.constants import PodCondition, Reason

PAGE = Path(__file__).parents[3] / "docs" / "pods.md"


@pytest.mark.parametrize(
    "name",
    [
        constants.OBSERVED,
        PodCondition.MIRRORED.value,
        Reason.MIRROR_LOST.value,
        Reason.NAME_CONFLICT.value,
        f"-l {constants.VIRTUAL_NODE_ID} ",
    ],
)
def test_the_page_about_pods_names(name: str) -> None:
    assert name in PAGE.read_text()
