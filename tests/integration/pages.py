"""The commands of a page of the documentation, run as its readers run them."""

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from clusters import pair

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[str]:
    """The shell blocks of a page or section, in order."""
    return _BLOCK.findall(text)


def run(
    script: str,
    clusters: pair.Clusters,
    *,
    folder: Path,
    contexts: str = "",
    programs: Iterable[Path] = (),
    seconds: float = 600,
) -> str:
    """Run commands in `folder`, until one fails. Returns what they printed.

    They find kubectl, what is in the folders `programs`, and the contexts `home` and `foreign`,
    whose names begin with `contexts`.
    """
    path = [*programs, clusters.home.kubectl_program.parent, os.environ["PATH"]]
    answer = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "PATH": ":".join(map(str, path)),
            "KUBECONFIG": str(_config(folder / "config", clusters, prefix=contexts)),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
    return answer.stdout


def _config(path: Path, clusters: pair.Clusters, *, prefix: str) -> Path:
    """A kubeconfig with one context for each cluster."""
    merged: dict[str, list[object]] = {"clusters": [], "users": [], "contexts": []}
    for cluster in (clusters.home, clusters.foreign):
        content = json.loads(cluster.kubeconfig.read_text())
        name = f"{prefix}{cluster.name}"
        merged["clusters"].append({**content["clusters"][0], "name": name})
        merged["users"].append({**content["users"][0], "name": name})
        merged["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **merged}))
    path.chmod(0o600)
    return path
