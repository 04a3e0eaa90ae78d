"""A release is built only from images that are pinned by digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import base_images

DIGESTS = {"debian:trixie-slim": f"sha256:{'a' * 64}", "haproxy:3.0": f"sha256:{'b' * 64}"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / base_images.PROXY).parent.mkdir(parents=True)
    for name in ("Dockerfile", base_images.LOCK, base_images.PROXY):
        shutil.copy(base_images.ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def pinned(root: Path) -> Path:
    base_images.resolve(root, DIGESTS.__getitem__)
    return root


def test_resolved_digests_are_in_the_lock_and_in_the_manifest(pinned: Path) -> None:
    for _ in range(2):
        assert base_images.check(pinned) == f"debian:trixie-slim@sha256:{'a' * 64}"
        assert (pinned / base_images.PROXY).read_text().count(DIGESTS["haproxy:3.0"]) == 1
        base_images.resolve(pinned, DIGESTS.__getitem__)


@pytest.mark.parametrize(
    ("name", "old", "new", "error"),
    [
        pytest.param(
            base_images.LOCK,
            f"@sha256:{'a' * 64}",
            "",
            "debian:trixie-slim has no digest",
            id="tag",
        ),
        pytest.param(base_images.LOCK, "aaaa", "zzzz", "has no digest", id="no digest"),
        pytest.param("Dockerfile", "trixie", "sid", "base image of the Dockerfile", id="base"),
        pytest.param(base_images.PROXY, "bbbb", "cccc", "same haproxy", id="manifest"),
        pytest.param(base_images.PROXY, '"3.0"', '"3.1"', "same haproxy", id="tag in manifest"),
    ],
)
def test_a_release_is_refused_if_a_pin_is_missing_or_differs(
    pinned: Path, name: str, old: str, new: str, error: str
) -> None:
    path = pinned / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(base_images.PinError, match=error):
        base_images.check(pinned)


def test_an_answer_that_is_not_a_digest_is_not_written(root: Path) -> None:
    before = (root / base_images.LOCK).read_text()
    with pytest.raises(base_images.PinError, match="not a digest"):
        base_images.resolve(root, lambda _tag: "<html>")
    assert (root / base_images.LOCK).read_text() == before
