"""The released version: its tree, from the history of this repository, and its image."""

import io
import subprocess
import tarfile
from pathlib import Path

from clusters import farlet as farlets
from clusters import farletimage, progress, rest
from clusters.cluster import Cluster

VERSION, COMMIT = "0.1.0", "bdca204c"  # the commit of the tag v0.1.0
IMAGE = f"farlet.test/farlet:{VERSION}"


def checkout(folder: Path) -> Path:
    """The tree of the released version."""
    archive = subprocess.run(
        ["git", "-C", farlets.ROOT, "archive", COMMIT], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        found.extractall(folder, filter="data")
    return folder


def load_image(*clusters: Cluster, source: Path, folder: Path) -> None:
    """Give the real nodes of clusters the image; `folder` is for files in between."""
    folder.mkdir()
    archive = farletimage.build(folder, name=IMAGE, source=source, progress=progress.Progress())
    for cluster in clusters:
        cluster.load_image(IMAGE, archive)


def runs(version: str) -> rest.Condition:
    """Whether a Node was written by farlet of this version."""
    return lambda node: (
        node is not None
        and node["status"]["nodeInfo"]["containerRuntimeVersion"] == f"farlet://{version}"
    )
