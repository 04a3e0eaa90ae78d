"""The image of farlet, built like the Dockerfile, without a daemon and without a registry.

Packages, environment, user and command are read from the Dockerfile's last stage; the steps in
between are done here in the same order: Debian, the locked libraries, the wheel of this checkout,
all compiled. Debian and libraries are cached by the hash of their inputs; the rest takes seconds.
"""

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusters import cache, errors, images, packages, processes, rootfs
from clusters import progress as progresses
from clusters.cluster import Cluster
from clusters.instance import Instance

NAME = "farlet.test/farlet:1"
_ARCHIVE = "farlet.image.tar"
ROOT = Path(__file__).parents[2]
_DOCKERFILE = ROOT / "Dockerfile"
_LIBRARIES = ROOT / "requirements-image.lock"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The properties of the image in the Dockerfile."""

    packages: tuple[str, ...]
    config: Mapping[str, Any]
    interpreter: str  # the first line of the command `farlet`


def load(owner: Instance, cluster: Cluster, *, progress: progresses.Progress) -> None:
    """Give a cluster's real node the image of this checkout; once per run, as it is built once."""
    folder = owner.folder / "image-of-farlet"
    done = folder / f"loaded-{cluster.name}"
    if done.exists():
        return
    archive = folder / _ARCHIVE
    if not archive.exists():
        folder.mkdir()
        build(folder, progress=progress)
    cluster.load_image(NAME, archive)
    done.touch()


def build(
    folder: Path,
    *,
    name: str = NAME,
    source: Path = ROOT,
    progress: progresses.Progress,
) -> Path:
    """The archive of the image, in `folder`; with the libraries of this checkout."""
    made = recipe()
    base = _base(made, progress=progress)
    with progress.step(f"image of farlet: {name}"):
        top = folder / "top"
        target = top / rootfs.LIBRARIES.lstrip("/")
        pip: list[str | Path] = [sys.executable, "-m", "pip"]
        processes.run(
            [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source],
            what="build the wheel of farlet",
        )
        (wheel,) = folder.glob("*.whl")
        command = ["install", "--quiet", "--no-compile", "--no-deps", "--no-index"]
        processes.run([*pip, *command, "--target", target, wheel], what="unpack the wheel")
        _command(target / "bin" / "farlet", top / "usr" / "local" / "bin")
        shutil.rmtree(target / "bin")
        _compile(base / "root", target)
        layers = [base / "layer.tar", rootfs.pack(top, folder / "top.tar")]
        return images.archive(folder / _ARCHIVE, name, layers, made.config)


def recipe() -> Recipe:
    """The last stage of the Dockerfile."""
    text = _DOCKERFILE.read_text().replace("\\\n", " ")
    base = re.search(r"^ARG BASE=debian:(\w+)-slim$", text, re.MULTILINE)
    if base is None or base[1] != rootfs.SUITE:
        raise errors.HarnessError(f"{_DOCKERFILE} is not based on Debian {rootfs.SUITE}")
    stage = text.rpartition("\nFROM ")[2]
    words = dict(re.findall(r"^(ENV|USER|ENTRYPOINT|CMD|WORKDIR) +(.*)$", stage, re.MULTILINE))
    installed = re.search(r"--no-install-recommends ([\w -]+) &&", stage)
    interpreter = re.search(r"sed '1s\|\^#!\.\*\|(#!/[\w /-]+)\|' /libraries/bin/farlet", text)
    if interpreter is None:
        raise errors.HarnessError(f"{_DOCKERFILE} installs no command farlet")
    if installed is None:
        raise errors.HarnessError(f"{_DOCKERFILE} installs no packages in its last stage")
    return Recipe(
        packages=tuple(installed[1].split()),
        interpreter=interpreter[1],
        config={
            "Env": [images.PATH, *words["ENV"].split()],
            "User": words["USER"],
            "Entrypoint": json.loads(words["ENTRYPOINT"]),
            "Cmd": json.loads(words["CMD"]),
            "WorkingDir": words["WORKDIR"],
        },
    )


def _base(made: Recipe, *, progress: progresses.Progress) -> Path:
    """The folder with Debian and the libraries: `root`, and `layer.tar` of it."""
    digest = cache.key(texts=[str(rootfs.RECIPE), rootfs.SUITE, *made.packages], files=[_LIBRARIES])
    target = cache.folder() / "images" / f"farlet-{digest}"
    if target.exists():
        return target
    packages.ensure(packages.ROOT, progress=progress)
    with cache.lock("images", progress=progress), cache.building(target) as scratch:
        if target.exists():
            return target
        done = scratch / "done"
        done.mkdir()
        with progress.step("image of farlet: Debian with Python"):
            rootfs.debian(done / "root", made.packages)
        with progress.step("image of farlet: libraries"):
            rootfs.python(done / "root", _LIBRARIES)
            shutil.rmtree(done / "root" / rootfs.LIBRARIES.lstrip("/") / "bin")
            rootfs.pack(done / "root", done / "layer.tar")
        done.replace(target)
    return target


def _command(script: Path, folder: Path) -> None:
    """Install the command with the interpreter of the image."""
    first, _, rest = script.read_text().partition("\n")
    if not first.startswith("#!"):
        raise errors.HarnessError(f"{script} is not a script")
    folder.mkdir(parents=True)
    (folder / script.name).write_text(f"{recipe().interpreter}\n{rest}")
    (folder / script.name).chmod(0o755)


def _compile(root: Path, folder: Path) -> None:
    """Compile the Python files in `folder` with the interpreter of the image below `root`."""
    command = f"""
      mount --bind "$2" "$1/mnt"
      chroot "$1" python3 -m compileall -q -s /mnt -p {rootfs.LIBRARIES} /mnt
    """
    processes.run(
        # the mount goes with the namespace
        ["unshare", "--mount", "sh", "-euc", command, "sh", root, folder],
        what="compile farlet for its image",
    )
