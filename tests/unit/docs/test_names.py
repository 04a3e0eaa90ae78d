"""Names in the pages exist: labels, annotations, conditions, and variables of settings."""

import re
import subprocess
from pathlib import Path

import pytest

from farlet import settings

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("manifests/*.md"), *(ROOT / "docs").rglob("*.md")])
NAME = re.compile(r"\b((?:[a-z]+\.)?(?:farlet|liqo)\.io/[\w.-]*\w)")
PLACEHOLDER = re.compile(r"[A-Z]+$")
VARIABLE = re.compile(r"\bFARLET_[A-Z_]+\b")
OTHER_VARIABLES = {
    "FARLET_COMPLETE",  # Click's, with an underscore before it
    "FARLET_HOME_KUBECONFIG",
    "FARLET_FOREIGN_KUBECONFIG",
    "FARLET_CAMPAIGN_SEED",
}


def _known_names() -> str:
    folders = ("operator", "manifests", "crds", "tools")
    command = ["git", "grep", "-hoIE", r"(farlet|liqo)\.io/[A-Za-z0-9_.-]+", "--", *folders]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


KNOWN = set(_known_names().split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_labels_annotations_and_conditions_of_a_page_exist(page: Path) -> None:
    found = {PLACEHOLDER.sub("", name) for name in NAME.findall(page.read_text(encoding="utf-8"))}
    assert {name for name in found if not any(known.startswith(name) for known in KNOWN)} == set()


def test_variables_of_settings_exist() -> None:
    known = {f"FARLET_{name.upper()}" for name in settings.Settings.model_fields}
    found = {
        variable
        for page in PAGES
        for variable in VARIABLE.findall(page.read_text(encoding="utf-8"))
    }
    assert found - known - OTHER_VARIABLES == set()
