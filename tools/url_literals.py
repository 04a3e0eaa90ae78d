"""Find paths of the Kubernetes API outside `farlet.client`, which alone may contain them.

`python -m url_literals` prints `file:line` for each string that begins `/api` or `/apis`
and exits with 1 if there is one. Use a `Resource` of `farlet/client/resources.py` instead.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "operator" / "farlet"
EXEMPT = frozenset({"client", "kubelet/routes.py", "rbac.py"})
"""The client itself; the routes that the kubelet API serves; the permission for Kopf's discovery,
which is a rule on a URL."""

_API_PATH = re.compile(r"/apis?(/|$)")


def found_in(source: str) -> Iterator[int]:
    """The lines of a module on which a string begins like the path of an API."""
    if "/api" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.Constant) and isinstance(text, str) and _API_PATH.match(text):
            yield node.lineno


def violations(package: Path = PACKAGE) -> list[str]:
    """`file:line` of each."""
    result = []
    for file in sorted(package.rglob("*.py")):
        inside = file.relative_to(package)
        if inside.as_posix() in EXEMPT or inside.parts[0] in EXEMPT:
            continue
        result += [f"{file}:{line}" for line in found_in(file.read_text(encoding="utf-8"))]
    return result


def main() -> int:
    """Print them. Returns the exit code."""
    lines = violations()
    for line in lines:
        sys.stdout.write(f"{line}: path of an API outside farlet/client; use a Resource\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
