"""The commands of the quickstart on kind, from two clusters to a pod that uses the home API.

The test clusters take the place of kind's: programs in `PATH` replace `kind`, `docker` and `pip`,
and the images of the page are those of the tests.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from clusters import farletimage, images, pair
from clusters.farlet import ROOT
from integration import emptied, pages
from integration.emptied import SPACE

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.takes(90),
]

PAGE = ROOT / "docs" / "quickstart-kind.md"


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
    printed = await asyncio.to_thread(
        pages.run,
        script,
        empty,
        folder=tmp_path,
        contexts="kind-",
        programs=(tmp_path, Path(sys.executable).parent),
        seconds=240,
    )
    assert re.search(r"^far +Ready", printed, re.MULTILINE)
    assert re.search(r"^hello +1/1 +Running .* far ", printed, re.MULTILINE)
    assert f"system:serviceaccount:{SPACE}:default" in printed


def _commands(replaced: dict[str, str]) -> str:
    """All blocks of the page; each text to replace must be in it."""
    script = "\n".join(pages.blocks(PAGE.read_text()))
    for text, instead in replaced.items():
        assert text in script
        script = script.replace(text, instead)
    return script
