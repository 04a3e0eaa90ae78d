"""Settings of Sphinx for `make docs`: all pages as HTML, and a failure for each wrong link.

The source folder is the repository, so that a relative link means the same here and on a Git host.
Pages contain no directives of Sphinx: the navigation is built from the links of the index pages,
and a page that no index page links is a warning, which `make docs` turns into an error.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parent.parent
INDEX_PAGES = {"docs/index", "docs/decisions/index"}
RECORDS = "docs/soak/index"
"""The page of a folder into which commands write pages: all of them belong to it."""

project = "farlet"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
root_doc = "docs/index"
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/**.md", "manifests/README.md"]
exclude_patterns = sorted(
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in {"docs", "manifests"}
)
nitpicky = True
myst_heading_anchors = 6
html_theme = "furo"
html_title = f"farlet {version}"
html_show_copyright = False
html_copy_source = False

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\(([\w./-]+)\.md(?:#[\w-]*)?\)")


class Application(Protocol):
    """What this file uses of `sphinx.application.Sphinx`."""

    def connect(self, event: str, callback: object) -> object: ...


def navigation(name: str, text: str) -> str:
    """Hidden toctrees for an index page: one for each section, with its links to pages."""
    if name == RECORDS:
        return "\n\n```{toctree}\n:hidden:\n:glob:\n:reversed:\n\n2*\n```\n"
    parts = _SECTION.split(text)
    seen: set[str] = set()
    trees = []
    for caption, section in zip(["", *parts[1::2]], parts[0::2], strict=True):
        pages = [page for page in dict.fromkeys(_PAGE.findall(section)) if page not in seen]
        seen.update(pages)
        if pages:
            title = f":caption: {caption}\n" if caption else ""
            entries = "\n".join(pages)
            trees.append(f"\n\n```{{toctree}}\n:hidden:\n{title}\n{entries}\n```\n")
    return "".join(trees)


def _add_navigation(_: object, name: str, content: list[str]) -> None:
    if name in INDEX_PAGES or name == RECORDS:
        content[0] += navigation(name, content[0])


def setup(app: Application) -> None:
    """Connect the navigation; called by Sphinx."""
    app.connect("source-read", _add_navigation)
