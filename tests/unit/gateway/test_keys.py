"""Keys of a gateway: their files, and the errors for unusable ones."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from farlet import errors
from farlet.gateway import keys


def test_each_private_key_is_in_one_folder_and_its_public_key_in_the_other(tmp_path: Path) -> None:
    home, foreign = keys.write(tmp_path / "keys")
    for own, other in ((home, foreign), (foreign, home)):
        (trusted,) = keys.read(other).trusted
        assert trusted == keys.read(own).private.convert_to_public()
    texts = [(side / keys.PRIVATE).read_text() for side in (home, foreign)]
    assert texts[0] != texts[1]
    assert all("PRIVATE KEY" not in (side / keys.TRUSTED).read_text() for side in (home, foreign))


@pytest.mark.parametrize("mask", [0o022, 0o000], ids=oct)
def test_only_the_owner_can_read_the_files(
    tmp_path: Path, request: pytest.FixtureRequest, mask: int
) -> None:
    request.addfinalizer(functools.partial(os.umask, os.umask(mask)))
    for side in keys.write(tmp_path / "keys"):
        assert side.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in side.iterdir()} == {0o600}


def test_existing_keys_are_not_overwritten(tmp_path: Path) -> None:
    home, _ = keys.write(tmp_path)
    before = (home / keys.PRIVATE).read_text()
    with pytest.raises(errors.UsageError, match=r"cannot create .*home: File exists; choose a new"):
        keys.write(tmp_path)
    assert (home / keys.PRIVATE).read_text() == before


def test_after_an_error_no_folder_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "keys" / "foreign").mkdir(parents=True)
    with pytest.raises(errors.UsageError, match=r"cannot create .*foreign: File exists"):
        keys.write(tmp_path / "keys")
    assert [one.name for one in (tmp_path / "keys").iterdir()] == ["foreign"]


def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keys.write(tmp_path / "keys")
    assert not list((tmp_path / "keys").iterdir())


def test_an_old_and_a_new_key_are_both_trusted(tmp_path: Path) -> None:
    home, foreign = keys.write(tmp_path / "old")
    _, next_foreign = keys.write(tmp_path / "new")
    both = "# the old one\n" + (home / keys.TRUSTED).read_text() + "\n"
    both += keys.read(next_foreign).private.export_public_key().decode()
    (home / keys.TRUSTED).write_text(both)
    found = keys.read(home)
    for side in (foreign, next_foreign):
        assert found.trust(keys.read(side).private.convert_to_public())


def lacks(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def holds(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text)

    return write


def rsa(name: str) -> Callable[[Path], None]:
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    exported = key.export_private_key if name == keys.PRIVATE else key.export_public_key
    return holds(name, exported().decode())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(
            lacks(keys.PRIVATE), "cannot read .*private-key: No such", id="no private key"
        ),
        pytest.param(
            lacks(keys.TRUSTED), "cannot read .*trusted-keys: No such", id="no trusted keys"
        ),
        pytest.param(
            holds(keys.PRIVATE, "hello"), "not a valid SSH key", id="an invalid private key"
        ),
        pytest.param(
            holds(keys.TRUSTED, "hello"), "not a valid SSH key", id="an invalid trusted key"
        ),
        pytest.param(holds(keys.TRUSTED, "\n# none\n"), "at least one key", id="no trusted key"),
        pytest.param(rsa(keys.PRIVATE), "type ssh-ed25519", id="another type of key"),
        pytest.param(rsa(keys.TRUSTED), "type ssh-ed25519", id="another type to trust"),
    ],
)
def test_a_folder_with_unusable_keys_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    home, _ = keys.write(tmp_path)
    secret = (home / keys.PRIVATE).read_text().splitlines()[1]
    spoil(home)
    with pytest.raises(errors.StartError, match=message) as caught:
        keys.read(home)
    assert "farlet gateway-keys" in str(caught.value)
    assert secret not in str(caught.value)
