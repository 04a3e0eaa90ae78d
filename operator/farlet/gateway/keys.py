"""The keys of a link: each end has a private key and trusts the public key of the other end.

They are files in a directory, as in a mounted Secret. Only Ed25519 is supported: its keys are
small, and their format has no parameters to choose. No private key enters a log or an error.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import asyncssh

from farlet import errors

ALGORITHM = "ssh-ed25519"

_T = TypeVar("_T")

PRIVATE = "private-key"
"""Item of the Secret: this end's private key, in OpenSSH's format."""

TRUSTED = "trusted-keys"
"""Item of the Secret: public keys of the other end, one a line, as in `authorized_keys`."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one end."""

    private: asyncssh.SSHKey
    trusted: tuple[asyncssh.SSHKey, ...]

    def trust(self, key: asyncssh.SSHKey) -> bool:
        """Whether `key` belongs to the other end."""
        return key in self.trusted


class PerCluster(NamedTuple, Generic[_T]):
    """What the home cluster gets, and what the foreign cluster gets."""

    home: _T
    foreign: _T


SECRET = "farlet-gateway"  # noqa: S105
"""Name of the foreign Secret in the shipped manifests."""


def generate() -> PerCluster[dict[str, str]]:
    """The items of the two Secrets."""
    home, foreign = (asyncssh.generate_private_key(ALGORITHM) for _ in range(2))
    return PerCluster(home=_items(home, foreign), foreign=_items(foreign, home))


def fit(halves: PerCluster[dict[str, str]]) -> bool:
    """Whether the items of two Secrets are keys of the same link."""
    try:
        own = [asyncssh.import_private_key(half[PRIVATE]).convert_to_public() for half in halves]
        trusted = [
            [asyncssh.import_public_key(line) for line in half[TRUSTED].splitlines() if line]
            for half in halves
        ]
    except (KeyError, ValueError, asyncssh.KeyImportError):
        return False
    return own[0] in trusted[1] and own[1] in trusted[0]


def write(folder: Path) -> PerCluster[Path]:
    """Write new keys to the directories `home` and `foreign` in `folder`.

    Raises `UsageError` if one exists, so that keys in use are not lost, or cannot be created.
    After an error neither folder is left behind.
    """
    places = PerCluster(home=folder / "home", foreign=folder / "foreign")
    with contextlib.ExitStack() as undo:
        for place, items in zip(places, generate(), strict=True):
            try:
                place.mkdir(mode=0o700, parents=True)
                undo.callback(shutil.rmtree, place)
                for name, text in items.items():
                    (place / name).touch(mode=0o600)
                    (place / name).write_text(text, encoding="utf-8")
            except OSError as err:
                raise errors.UsageError(
                    f"cannot create {place}: {err.strerror}; choose a new directory"
                ) from err
        undo.pop_all()
    return places


def read(folder: Path) -> Keys:
    """Raises `StartError`, which names the file."""
    private, trusted = folder / PRIVATE, folder / TRUSTED
    try:
        text = trusted.read_text(encoding="utf-8")
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        keys = Keys(
            asyncssh.read_private_key(private),
            tuple(asyncssh.import_public_key(line) for line in lines if not line.startswith("#")),
        )
    except OSError as err:
        raise errors.StartError(f"cannot read {err.filename}: {err.strerror}. {_ADVICE}") from err
    except (asyncssh.KeyImportError, UnicodeDecodeError) as err:
        raise errors.StartError(
            f"a file in {folder} is not a valid SSH key: {err}. {_ADVICE}"
        ) from err
    algorithms = {key.get_algorithm() for key in (keys.private, *keys.trusted)}
    if algorithms != {ALGORITHM} or not keys.trusted:
        raise errors.StartError(
            f"{private} and {trusted} must each contain at least one key of the type {ALGORITHM}. "
            f"{_ADVICE}"
        )
    return keys


_ADVICE = (
    "--gateway-keys expects a folder with the two items of a Secret that `farlet gateway-keys` "
    "created"
)


def _items(own: asyncssh.SSHKey, other: asyncssh.SSHKey) -> dict[str, str]:
    return {
        PRIVATE: own.export_private_key().decode(),
        TRUSTED: other.export_public_key().decode(),
    }
