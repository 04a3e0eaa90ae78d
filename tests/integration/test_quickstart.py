"""The commands of the quickstart on kind, from two clusters to a pod that uses the home API.

The test clusters take the place of kind's: programs in `PATH` replace `kind`, `docker` and `pip`,
and the images of the page are those of the tests.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from clusters import farletimage, images, pair
from clusters.farlet import ROOT
from integration import emptied
from integration.emptied import SPACE

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.takes(90),
]

PAGE = ROOT / "docs" / "quickstart-kind.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest_asyncio.fixture(loop_scope="module")
async def empty(clusters: pair.Clusters) -> AsyncIterator[pair.Clusters]:
    """Both clusters without a farlet, and with its image on their real nodes."""
    async with emptied.emptied(clusters):
        yield clusters


async def test_the_quickstart_ends_with_a_pod_that_uses_the_home_api(
    empty: pair.Clusters, tmp_path: Path
) -> None:
    host, port = empty.foreign_api_in_home
    programs = {"kind": "true", "pip": "true", "docker": f"test $1 != inspect || echo {host}"}
    for name, command in programs.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o755)
    script = _commands(
        {
            "farlet:0.2.0": farletimage.NAME,
            ":6443": f":{port}",
            "image: nginx": f"image: {images.CLIENTS}\n    command: [sleep, infinity]",
            "image: registry.k8s.io/kubectl:v1.36.1": f"image: {images.CLIENTS}\n"
            "    command: [kubectl]",
        }
    )
    folders = [tmp_path, Path(sys.executable).parent, empty.home.kubectl_program.parent]
    answer = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": ":".join([*map(str, folders), os.environ["PATH"]]),
            "KUBECONFIG": str(_contexts(tmp_path / "config", empty)),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
    assert re.search(r"^far +Ready", answer.stdout, re.MULTILINE)
    assert re.search(r"^hello +1/1 +Running .* far ", answer.stdout, re.MULTILINE)
    assert f"system:serviceaccount:{SPACE}:default" in answer.stdout


def _commands(replaced: dict[str, str]) -> str:
    """All blocks of the page; each text to replace must be in it."""
    script = "\n".join(BLOCK.findall(PAGE.read_text()))
    for text, instead in replaced.items():
        assert text in script
        script = script.replace(text, instead)
    return script


def _contexts(path: Path, clusters: pair.Clusters) -> Path:
    """A kubeconfig with the contexts that kind would create."""
    merged: dict[str, list[object]] = {"clusters": [], "users": [], "contexts": []}
    for cluster in (clusters.home, clusters.foreign):
        content = json.loads(cluster.kubeconfig.read_text())
        name = f"kind-{cluster.name}"
        merged["clusters"].append({**content["clusters"][0], "name": name})
        merged["users"].append({**content["users"][0], "name": name})
        merged["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **merged}))
    path.chmod(0o600)
    return path
