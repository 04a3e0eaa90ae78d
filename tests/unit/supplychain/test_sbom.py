"""The SBOM lists what is in the file system of an image, and only if that is what the lock says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sbom

LOCK = sbom.read_lock(sbom.LOCK.read_text())
STATUS = """Package: python3
Status: install ok installed
Architecture: amd64
Version: 3.13.5-1

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def image(tree: Path, installed: dict[str, str]) -> Path:
    """A tree with these distributions and the dpkg database `STATUS`."""
    for name, version in installed.items():
        folder = tree / sbom.LIBRARIES / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    (tree / sbom.DPKG).parent.mkdir(parents=True)
    (tree / sbom.DPKG).write_text(STATUS)
    return tree


def locked() -> dict[str, str]:
    return {name: pin.version for name, pin in LOCK.items()} | {"farlet": "0.1.0"}


@pytest.mark.thorough
def test_each_package_is_listed_with_version_and_the_hashes_of_the_lock(tmp_path: Path) -> None:
    document: Any = json.loads(sbom.create([image(tmp_path, locked())], LOCK))
    listed = {one["purl"]: one for one in document["components"]}
    assert listed.pop("pkg:deb/debian/python3@3.13.5-1?arch=amd64")["version"] == "3.13.5-1"
    found = {
        one["name"]: (
            one["version"],
            {
                digest["content"]
                for reference in one["externalReferences"]
                for digest in reference["hashes"]
            },
        )
        for one in listed.values()
    }
    assert found == {name: (pin.version, set(pin.hashes)) for name, pin in LOCK.items()}
    assert all(pin.hashes for pin in LOCK.values())
    assert document["metadata"]["component"]["version"] == "0.1.0"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        pytest.param({"aiohttp": "0.1"}, "aiohttp 0.1, aiohttp ", id="another version"),
        pytest.param({"stranger": "1"}, "not in both: stranger 1", id="not in the lock"),
        pytest.param({"kopf": None}, "not in both: kopf ", id="not installed"),
        pytest.param({"farlet": None}, "farlet is not installed", id="not an image of farlet"),
    ],
)
def test_an_image_that_differs_from_the_lock_has_no_sbom(
    tmp_path: Path, changed: dict[str, str | None], error: str
) -> None:
    installed = {k: v for k, v in (locked() | changed).items() if v is not None}
    with pytest.raises(sbom.SbomError, match=error):
        sbom.create([image(tmp_path, installed)], LOCK)


def test_a_document_that_does_not_match_the_schema_is_an_error() -> None:
    with pytest.raises(sbom.SbomError, match="schema"):
        sbom.check('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{}]}')
