"""Every relative link of a page leads to a file, and to a heading in it.

`make docs` verifies the same with Sphinx; these tests need no package and no network.
"""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "manifests" / "README.md", *DOCS.rglob("*.md")])
INDEX = [DOCS / "index.md", DOCS / "decisions" / "index.md"]
RECORDS = DOCS / "soak"

_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_MENTION = re.compile(r"(?<![\w./-])docs/[\w/-]+\.md(?:#[\w-]+)?")


def links(page: Path) -> list[str]:
    """Targets of the links of a page, without those in code."""
    text = _CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return _LINK.findall(text)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and MyST build them."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def problem(start: Path, target: str) -> str | None:
    """What is wrong with a link from the folder or page `start`, if anything is."""
    path, _, anchor = target.partition("#")
    goal = Path(os.path.normpath(start.parent / path)) if path else start
    if not goal.is_file():
        return f"{target}: no such file"
    if anchor and anchor not in anchors(goal):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_of_a_page_lead_to_a_file_and_a_heading(page: Path) -> None:
    relative = [target for target in links(page) if "://" not in target]
    assert [wrong for target in relative if (wrong := problem(page, target))] == []


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        pytest.param("installation.md", None, id="a page"),
        pytest.param("installation.md#verification", None, id="a heading"),
        pytest.param("#develop", None, id="a heading of the same page"),
        pytest.param("instalation.md", "instalation.md: no such file", id="misspelled page"),
        pytest.param("decisions", "decisions: no such file", id="a folder"),
        pytest.param("pods.md#sefety", "pods.md#sefety: no such heading", id="misspelled heading"),
    ],
)
def test_a_wrong_link_is_found(target: str, wrong: str | None) -> None:
    assert problem(INDEX[0], target) == wrong


def test_every_page_is_linked_from_an_index() -> None:
    linked = {
        Path(os.path.normpath(index.parent / target.partition("#")[0]))
        for index in INDEX
        for target in links(index)
        if "://" not in target
    }
    records = set(RECORDS.glob("2*.md"))
    assert set(PAGES) - linked - records == {INDEX[0]}


def test_pages_that_code_and_manifests_mention_exist() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    sources = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    mentions = {
        mention
        for path in sources
        if path.suffix in {".py", ".yaml", ".cfg", ".env", ".toml"} and path.is_file()
        for mention in _MENTION.findall(path.read_text(encoding="utf-8"))
    }
    assert len(mentions) > 5
    wrong = {mention: problem(ROOT / "README.md", mention) for mention in mentions}
    assert [answer for answer in wrong.values() if answer] == []
