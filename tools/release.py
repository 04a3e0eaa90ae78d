"""Build the files of a release without an image, and verify that they fit together.

    python -m release installer IMAGE    # dist/install.yaml
    python -m release dry-run            # all files, and all checks; publishes nothing

Needs no network: the wheel is built by the installed build backend.
"""

from __future__ import annotations

import argparse
import configparser
import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import farlet
import sbom
from reference import chart, manager_manifests
from reference.manager_manifests import ROOT, VERSION

DIST = ROOT / "dist"
PLACEHOLDER = f"farlet:{VERSION}"
COMMANDS = {"farlet", "kubectl-farlet"}

_IMAGES = ("home/nodes/far", "foreign/gateway", "default")
"""Kustomizations below `manifests` that name the image of farlet."""
_HEADING = re.compile(r"^## (\d+\.\d+\.\d+)", re.MULTILINE)
_TAG = re.compile(r"REGISTRY/farlet:(\d+\.\d+\.\d+)")


class ReleaseError(Exception):
    """Files of the release do not fit together; one line for each problem."""


def installer(image: str, folder: Path = DIST) -> Path:
    """One file with Namespace, CustomResourceDefinition and manager."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "install.yaml"
    path.write_text(manager_manifests.everything(image), encoding="utf-8")
    return path


def packed_chart(folder: Path = DIST) -> Path:
    """The Helm chart as an archive, the same for the same content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"farlet-{VERSION}.tgz"
    with (
        path.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, text in chart.files().items():
            content = text.encode()
            member = tarfile.TarInfo(str(Path("farlet") / Path(name).relative_to(chart.DIRECTORY)))
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return path


def distributions(folder: Path = DIST, source: Path = ROOT) -> list[Path]:
    """Wheel and sdist, by the build backend of this environment."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    answer = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise ReleaseError(f"`{' '.join(command)}` failed:\n{answer.stdout}{answer.stderr}")
    return [*folder.glob(f"farlet-{VERSION}-*.whl"), folder / f"farlet-{VERSION}.tar.gz"]


def different_versions() -> Iterator[str]:
    """Every place with another version than pyproject.toml."""
    found = {"operator/farlet/__init__.py": farlet.__version__}
    newest = _HEADING.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    found["the first heading of CHANGELOG.md"] = newest[1] if newest else "none"
    for name in _IMAGES:
        path = f"manifests/{name}/kustomization.yaml"
        content = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        found[path] = next(one["newTag"] for one in content["images"] if one["name"] == "farlet")
    for page in [ROOT / "Dockerfile", *(ROOT / "docs").glob("*.md")]:
        for tag in _TAG.findall(page.read_text(encoding="utf-8")):
            found[str(page.relative_to(ROOT))] = tag
    for where, version in found.items():
        if version != VERSION:
            yield f"{where}: {version}, but pyproject.toml has {VERSION}"


def wheel_problems(wheel: Path) -> Iterator[str]:
    """What the wheel lacks, and what the image would lack of its requirements."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"farlet-{VERSION}.dist-info"
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        entries = configparser.ConfigParser()
        entries.read_string(archive.read(f"{info}/entry_points.txt").decode())
    if "farlet/py.typed" not in names:
        yield f"{wheel.name} lacks farlet/py.typed"
    if missing := COMMANDS - set(entries["console_scripts"]):
        yield f"{wheel.name} lacks the commands {', '.join(sorted(missing))}"
    if foreign := [name for name in names if not name.startswith(("farlet/", info))]:
        yield f"{wheel.name} contains {', '.join(sorted(foreign))}"
    pins = sbom.read_lock(sbom.LOCK.read_text(encoding="utf-8"))
    for text in metadata.get_all("Requires-Dist") or ():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        pin = pins.get(need.name.lower())
        if pin is None or not need.specifier.contains(pin.version):
            version = pin.version if pin else "nothing"
            yield f"the wheel requires {need}, but {sbom.LOCK.name} has {version}"


def sdist_problems(sdist: Path) -> Iterator[str]:
    """What the sdist lacks to build the same wheel."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "operator/farlet/py.typed"}
    yield from (f"{sdist.name} lacks {name}" for name in sorted(needed - names))


def dry_run(folder: Path = DIST) -> list[Path]:
    """Build everything into `folder`. Raises `ReleaseError` with all problems."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel, sdist = distributions(folder)
    made = [wheel, sdist, installer(PLACEHOLDER, folder), packed_chart(folder)]
    problems = [*different_versions(), *wheel_problems(wheel), *sdist_problems(sdist)]
    if problems:
        raise ReleaseError("\n".join(problems))
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(f"{_digest(path)}  {path.name}\n" for path in made))
    return [*made, sums]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("installer").add_argument("image")
    commands.add_parser("dry-run")
    given = parser.parse_args()
    try:
        made = [installer(given.image)] if given.command == "installer" else dry_run()
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    for path in made:
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
