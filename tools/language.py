"""Find words that readers of this project would stumble over, in all text of the repository.

`python -m language` prints each place and exits with 1 if there is one. The words come from
`FORBIDDEN`; each has the words to use in its place. A place that needs such a word goes into
`EXCEPTIONS`, with the reason.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FORBIDDEN = {
    r"\babroad\b": "in the foreign cluster",
    r"\bgo(?:es|ing)? on\b|\bwent on\b": "continue, start automatically, recover",
    r"\bby itself\b|\bby themselves\b": "automatically",
    r"\bheard of\b": "did not answer, not reachable",
    r"\b(?:is|are|was|were|been|be) told\b": "report, show, log",
    r"\bis no (?!longer|more|such)[a-z]+": "is not a valid X, expected X",
    r"\brooms?\b": "module, package",
    r"\bwhoever\b|\bsomebody\b|\bnobody\b": "caller, client, administrator; no client",
    r"\bhe\b|\bhim\b|\bhis\b": "they",
}
EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(path, text within the line): reason."""
MOST_EXCEPTIONS = 10
_SKIPPED = re.compile(r"\.lock$|\.sum$|lock\.json$|LICENSE|\.sha256$|/pom\.xml$|language\.py$")


def findings() -> Iterator[str]:
    """`path:line: text` of each place."""
    patterns = [(re.compile(words, re.IGNORECASE), instead) for words, instead in FORBIDDEN.items()]
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        path = Path(name)
        if _SKIPPED.search(name) or not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # not text
        for number, line in enumerate(lines, 1):
            for pattern, instead in patterns:
                found = pattern.search(line)
                if found is not None and not _is_excepted(name, line):
                    yield f"{name}:{number}: {found[0]!r}; use: {instead}"


def _is_excepted(name: str, line: str) -> bool:
    return any(name == path and text in line for path, text in EXCEPTIONS)


def main() -> None:
    """Print findings; exit with 1 if there are any."""
    if len(EXCEPTIONS) > MOST_EXCEPTIONS:
        sys.exit(f"EXCEPTIONS has more than {MOST_EXCEPTIONS} entries: mend some places instead")
    found = list(findings())
    if found:
        print("\n".join(found))
        sys.exit(f"{len(found)} places with words that language.py forbids")


if __name__ == "__main__":
    main()
