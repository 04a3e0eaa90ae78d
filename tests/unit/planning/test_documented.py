"""docs/pods.md uses the same names and times as the code."""

from pathlib import Path

import pytest

from farlet import constants
from farlet.constants import PodCondition, Reason
from farlet.planning import plan, snapshot
from farlet.reconcile import token_requests, work_queue

PAGE = Path(__file__).parents[3] / "docs" / "pods.md"


@pytest.mark.parametrize(
    "name",
    [
        constants.OBSERVED,
        PodCondition.MIRRORED.value,
        PodCondition.DISRUPTION_TARGET.value,
        Reason.DAEMONSET_NOT_ALLOWED.value,
        Reason.HOME_API_ENDPOINT_CHANGED.value,
        Reason.MIRROR_LOST.value,
        Reason.MIRROR_BACK_OFF.value,
        Reason.NAME_CONFLICT.value,
        Reason.NAMESPACE_NOT_OFFLOADED.value,
        f"-l {constants.VIRTUAL_NODE_ID} ",
    ],
)
def test_the_page_about_pods_names(name: str) -> None:
    assert name in PAGE.read_text()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("created less than {} s ago", plan.FIRST_STATUS_SECONDS),
        ("between their creations: {} s", plan.RECREATE_FIRST_SECONDS),
        ("up to {} minutes", plan.RECREATE_LAST_SECONDS / 60),
        ("a mirror that existed for {} minutes", snapshot.LASTING_SECONDS / 60),
        ("still there {} s after the end of its grace period", plan.OVERDUE_SECONDS),
        ("delivered less than {} s ago", token_requests.REUSED_SECONDS),
        ("after {} s at the earliest", plan.REWRITE_SECONDS),
        ("bound less than {} s ago", plan.LAG_SECONDS),
        ("Retries after {} s, ", plan.LAG_FIRST_SECONDS),
        ("double up to {} s", plan.LAG_LAST_SECONDS),
        ("After {} statuses of it were written", plan.STATUS_BURST),
        ("one status per {} s", snapshot.STATUS_SECONDS),
        ("farlet retries after {} s", work_queue.BACKOFF_FIRST_SECONDS),
        ("intervals of at most {} s", work_queue.BACKOFF_LAST_SECONDS),
    ],
)
def test_the_page_about_pods_has_the_time(text: str, seconds: float) -> None:
    assert text.format(f"{seconds:g}") in " ".join(PAGE.read_text().split())
