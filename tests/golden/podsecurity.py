"""Pods that the Pod Security level "baseline" allows and forbids: upstream's own fixtures.

`podsecurity.jsonl` has one pod per line, taken from `test/testdata/baseline` of the Go module
`k8s.io/pod-security-admission` (Copyright The Kubernetes Authors, Apache License 2.0), whose
integration tests run them. Those of 1.37 have every check that exists today; 1.18 was the last
version with seccomp as annotations, and only those fixtures of it are here. To write the file again
(requires Go): `cd tests && PYTHONPATH=. python -m golden.podsecurity`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MODULE = "k8s.io/pod-security-admission@v0.37.2"
SELECTED = ("v1.18/*/seccomp*.yaml", "v1.37/*/*.yaml")
FILE = Path(__file__).with_suffix(".jsonl")


@dataclass(frozen=True, slots=True)
class Fixture:
    """One pod: `verdict` is `pass` or `fail`."""

    version: str
    verdict: str
    name: str
    pod: dict[str, Any]

    @property
    def check(self) -> str:
        """The check that it is a fixture of, in upstream's spelling."""
        return self.name.rstrip("0123456789")


def fixtures(verdict: str) -> list[Fixture]:
    found = [Fixture(**json.loads(line)) for line in FILE.read_text().splitlines()]
    return [fixture for fixture in found if fixture.verdict == verdict]


def _upstream() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        command = ["go", "mod", "download", "-json", MODULE]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    root = Path(json.loads(done.stdout)["Dir"]) / "test" / "testdata" / "baseline"
    for pattern in SELECTED:
        for path in sorted(root.glob(pattern)):
            version, verdict, _ = path.relative_to(root).parts
            pod = yaml.safe_load(path.read_text())
            yield {"version": version, "verdict": verdict, "name": path.stem, "pod": pod}


if __name__ == "__main__":
    FILE.write_text("".join(f"{json.dumps(row, sort_keys=True)}\n" for row in _upstream()))
