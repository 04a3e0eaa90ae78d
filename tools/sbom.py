"""List what an image of farlet contains, as a CycloneDX document (SBOM). Needs no network.

`python -m sbom TREE [TREE ...]` reads the file system of an image, or its layers from the lowest to
the highest, and prints JSON: the packages in Debian's dpkg database, and the Python distributions
with their hashes from `requirements-image.lock`. It fails if the image and the lock do not contain
the same distributions in the same versions, and if the document does not match its schema.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from email import message_from_string
from importlib import metadata
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL

LOCK = Path(__file__).parents[1] / "requirements-image.lock"
LIBRARIES = "usr/local/lib/python3.13/dist-packages"
DPKG = "var/lib/dpkg/status"
OWN = "farlet"

_PIN = re.compile(r"^([\w.-]+)==([^\s;]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class SbomError(Exception):
    """The image does not contain what the lock says, or is not an image of farlet."""


@dataclasses.dataclass(frozen=True)
class Pin:
    """One distribution in a lock. `hashes`: the SHA-256 of each file that is accepted for it."""

    version: str
    hashes: tuple[str, ...]


def read_lock(text: str) -> dict[str, Pin]:
    """The pins of a requirements file with hashes, by normalized name."""
    pins: dict[str, Pin] = {}
    for entry in re.split(r"\n(?=[\w])", text):
        if (found := _PIN.match(entry)) is not None:
            pins[_normalized(found[1])] = Pin(found[2], tuple(_HASH.findall(entry)))
    return pins


def create(trees: Sequence[Path], lock: Mapping[str, Pin]) -> str:
    """The document. Raises `SbomError`."""
    installed = {name: version for tree in trees for name, version in _distributions(tree)}
    own = installed.pop(OWN, None)
    if own is None:
        raise SbomError(f"{OWN} is not installed in {LIBRARIES} of {', '.join(map(str, trees))}")
    _compare(installed, lock)
    # A layer with a dpkg database replaces that of the layers below it.
    debian = next((found for tree in reversed(trees) if (found := list(_debian(tree)))), None)
    if debian is None:
        raise SbomError(f"no package in {DPKG} of {', '.join(map(str, trees))}")
    image = Component(name=OWN, version=own, type=ComponentType.CONTAINER, bom_ref=OWN)
    components = [*debian, *(_library(name, lock[name]) for name in installed)]
    bom = Bom(components=components)
    bom.metadata.component = image
    bom.register_dependency(image, components)
    text = JsonV1Dot6(bom).output_as_string(indent=1) + "\n"
    check(text)
    return text


def check(text: str) -> None:
    """Raise `SbomError` if the document does not match its schema."""
    # Imported here because the validator compiles 39 grammars, which takes seconds.
    from cyclonedx.validation.json import JsonStrictValidator

    if (problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise SbomError(f"the SBOM does not match the CycloneDX schema: {problem}")


def _compare(installed: Mapping[str, str], lock: Mapping[str, Pin]) -> None:
    locked = {(name, pin.version) for name, pin in lock.items()}
    different = sorted(locked ^ set(installed.items()))
    if different:
        listed = ", ".join(f"{name} {version}" for name, version in different)
        raise SbomError(f"in the image or in {LOCK.name}, but not in both: {listed}")


def _distributions(tree: Path) -> Iterator[tuple[str, str]]:
    for one in metadata.distributions(path=[str(tree / LIBRARIES)]):
        yield _normalized(one.name), one.version


def _library(name: str, pin: Pin) -> Component:
    source = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/simple/{name}/"),
        comment="sha256 of each file of this version that the lock accepts",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in pin.hashes],
    )
    purl = PackageURL("pypi", name=name, version=pin.version)
    return Component(
        name=name,
        version=pin.version,
        purl=purl,
        bom_ref=str(purl),
        external_references=[source],
    )


def _debian(tree: Path) -> Iterator[Component]:
    status = tree / DPKG
    for paragraph in status.read_text().split("\n\n") if status.exists() else ():
        package = message_from_string(paragraph)
        if package["Status"] == "install ok installed":
            name, version = package["Package"], package["Version"]
            arch = {"arch": package["Architecture"]}
            purl = PackageURL("deb", "debian", name, version, qualifiers=arch)
            yield Component(name=name, version=version, purl=purl, bom_ref=str(purl))


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    parser = argparse.ArgumentParser(prog="sbom", description=__doc__)
    parser.add_argument("trees", nargs="+", type=Path, metavar="TREE")
    try:
        print(create(parser.parse_args().trees, read_lock(LOCK.read_text())), end="")
    except (SbomError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
