"""The files of a release fit together, and what does not fit is named."""

from __future__ import annotations

import dataclasses
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import release
import sbom
from farlet.manager import permissions
from reference import chart, manager_manifests

VERSION = manager_manifests.VERSION


@dataclasses.dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Wheel and sdist of this checkout; needs no network."""
    return Built(*release.distributions(tmp_path_factory.mktemp("dist")))


def test_every_place_has_the_same_version() -> None:
    assert list(release.different_versions()) == []


def test_another_version_in_one_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farlet.__version__", "9.9.9")
    assert list(release.different_versions()) == [
        f"operator/farlet/__init__.py: 9.9.9, but pyproject.toml has {VERSION}"
    ]


@pytest.mark.thorough
def test_wheel_and_sdist_are_complete(built: Built) -> None:
    assert [*release.wheel_problems(built.wheel), *release.sdist_problems(built.sdist)] == []


@pytest.mark.thorough
def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (again, _) = release.distributions(tmp_path / "dist", tmp_path / f"farlet-{VERSION}")
    assert again.read_bytes() == built.wheel.read_bytes()


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        pytest.param("farlet/py.typed", "lacks farlet/py.typed", id="types"),
        pytest.param("kubectl-farlet", "lacks the commands kubectl-farlet", id="plugin"),
    ],
)
def test_what_a_wheel_lacks_is_named(
    built: Built, tmp_path: Path, left_out: str, says: str
) -> None:
    path = tmp_path / built.wheel.name
    with zipfile.ZipFile(built.wheel) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if name == left_out:
                continue
            lines = source.read(name).splitlines(keepends=True)
            kept = [line for line in lines if not line.startswith(left_out.encode())]
            target.writestr(name, b"".join(kept))
    assert [says in problem for problem in release.wheel_problems(path)] == [True]


def test_a_requirement_that_the_image_does_not_meet_is_named(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements-image.lock"
    text = sbom.LOCK.read_text().replace("\nkopf==", "\nkopf==0.")
    lock.write_text(text)
    monkeypatch.setattr("sbom.LOCK", lock)
    (problem,) = release.wheel_problems(built.wheel)
    assert problem.startswith("the wheel requires kopf>=")


def test_the_packed_chart_is_the_one_of_the_repository(tmp_path: Path) -> None:
    first = release.packed_chart(tmp_path / "one").read_bytes()
    path = release.packed_chart(tmp_path / "two")
    assert path.read_bytes() == first
    with tarfile.open(path) as archive:
        names = set(archive.getnames())
        assert names == {name.replace(chart.DIRECTORY, "farlet", 1) for name in chart.files()}
        file = archive.extractfile("farlet/Chart.yaml")
        assert file is not None
        head = yaml.safe_load(file.read())
    assert (head["version"], head["appVersion"]) == (VERSION, VERSION)


def test_the_installer_has_the_given_image_and_begins_with_namespace_and_definition(
    tmp_path: Path,
) -> None:
    path = release.installer("registry.example/farlet:7", tmp_path)
    objects = list(yaml.safe_load_all(path.read_text()))
    kinds = [one["kind"] for one in objects]
    assert kinds[:2] == ["Namespace", "CustomResourceDefinition"]
    (deployment,) = (one for one in objects if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/farlet:7"


@pytest.mark.parametrize("path", ["manifests/home", "manifests/foreign", "manifests/default"])
def test_no_kustomization_contains_a_namespace_or_a_definition(path: str) -> None:
    """`kubectl delete -k` deletes all objects of a kustomization, and all that they contain."""
    folders = [manager_manifests.ROOT / path]
    if path == "manifests/default":
        folders.append(manager_manifests.ROOT / "manifests" / "manager")
    for folder in folders:
        for file in folder.rglob("kustomization.yaml"):
            for name in yaml.safe_load(file.read_text()).get("resources", ()):
                target = file.parent / name
                if target.is_dir():
                    continue
                found = {one["kind"] for one in yaml.safe_load_all(target.read_text())}
                assert not found & {"Namespace", "CustomResourceDefinition"}, target


def test_a_danger_that_is_not_a_sentence_fails() -> None:
    row = dataclasses.replace(permissions.TABLE[0], danger="none without a further permission")
    with pytest.raises(ValueError, match="an attacker can none without"):
        manager_manifests.rule(row)
