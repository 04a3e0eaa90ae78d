"""The reference pages are what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from farlet import reasons
from farlet.constants import Reason
from reference import pages

FILES = pages.files()


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_text(reason: Reason) -> None:
    guide = reasons.GUIDES[reason]
    assert guide.meaning.endswith(".")
    assert guide.fix.endswith(".")


@pytest.mark.parametrize("name", FILES)
def test_made_files_in_the_repository_are_current(name: str) -> None:
    root = Path(__file__).parents[3]
    found = (root / name).read_text(encoding="utf-8")
    assert found == FILES[name], "run make generate"


@pytest.mark.thorough
def test_check_finds_a_stale_page_and_writing_fixes_it(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(pages.main, [str(tmp_path)]).exit_code == 0
    assert runner.invoke(pages.main, [str(tmp_path), "--check"]).exit_code == 0
    page = tmp_path / pages.DIRECTORY / "reasons.md"
    page.write_text(page.read_text(encoding="utf-8").replace("MirrorLost", "MirrorGone"))
    checked = runner.invoke(pages.main, [str(tmp_path), "--check"])
    assert checked.exit_code == 1
    assert "-| `MirrorGone`" in checked.stdout
    assert "+| `MirrorLost`" in checked.stdout
    assert checked.stderr == f"stale, run `make generate`: {page}\n"
    assert "MirrorGone" in page.read_text(encoding="utf-8")
