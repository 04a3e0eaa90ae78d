"""Another checkout of farlet, measured by the present harness (`--against DIR`).

It runs in the present virtual environment: only `DIR/operator` and the permissions of
`DIR/manifests/foreign` are of the other version. Flags that have another name there are renamed.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.variants import Side
from clusters import errors, workspace

RENAMED = {"foreign-system-namespace": "foreign-namespace"}
"""Flags that the harness uses, and their names in old versions."""


@dataclasses.dataclass(frozen=True)
class Tree:
    """A checkout: how its farlet is started, and what it is allowed to do in foreign namespaces."""

    side: Side
    system_rules: list[dict[str, Any]]
    pod_rules: list[dict[str, Any]]


def read(folder: Path, *, system_namespace: str) -> Tree:
    """The checkout in `folder`. Raises `HarnessError` if its farlet does not start."""
    operator = folder.resolve() / "operator"
    environment = {"PYTHONPATH": str(operator)}
    program: list[str | Path] = [sys.executable, "-P", "-m", "farlet"]

    def knows(flag: str) -> bool:
        answer = subprocess.run(
            [*program, "run", f"--{flag}=x", "--help"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0 and "No such option" not in answer.stderr:
            raise errors.HarnessError(
                f"farlet of {folder} does not start: {answer.stderr.strip()[-1000:]}"
            )
        return answer.returncode == 0

    if not (operator / "farlet" / "__main__.py").exists():
        raise errors.HarnessError(
            f"{folder} is not a checkout of farlet: {operator}/farlet/__main__.py is missing. "
            f"Create one: git worktree add {folder} COMMIT"
        )
    settings = {"foreign-system-namespace": system_namespace}
    return Tree(
        Side(folder.resolve().name, renamed(settings, knows=knows), program, environment),
        _rules(folder, "farlet-namespace.yaml"),
        _rules(folder, "offloaded-namespace.yaml"),
    )


def renamed(settings: Mapping[str, str], *, knows: Callable[[str], bool]) -> dict[str, str | None]:
    """The settings; flags that the other version does not know have their former names."""
    found: dict[str, str | None] = {}
    for flag, value in settings.items():
        former = RENAMED.get(flag)
        if former is None or knows(flag):
            found[flag] = value
        else:
            found |= {flag: None, former: value}
    return found


def _rules(folder: Path, file: str) -> list[dict[str, Any]]:
    path = folder / workspace.MANIFESTS.relative_to(Path(__file__).parents[2]) / file
    documents = yaml.safe_load_all(path.read_text())
    return [rule for one in documents if one["kind"] == "Role" for rule in one["rules"]]
