"""Who believes whom: each end of a link has a private key of its own and the other's public key.

A folder holds them as a mounted Secret does. Ed25519 only: small, and the same on every machine.
Nothing here prints a private key into a log or an error.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from farlet import errors

ALGORITHM = "ssh-ed25519"

PRIVATE = "private-key"
"""Item of the Secret: this end's private key, in OpenSSH's format."""

TRUSTED = "trusted-keys"
"""Item of the Secret: public keys of the other end, one a line, as in `authorized_keys`."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What one end has."""

    private: asyncssh.SSHKey
    trusted: tuple[asyncssh.SSHKey, ...]

    def trust(self, key: asyncssh.SSHKey) -> bool:
        """Whether `key` is one of the other end's."""
        return key in self.trusted


SECRET = "farlet-gateway"  # noqa: S105
"""Name of the Secrets in the shipped manifests, on both sides."""


def generate() -> tuple[dict[str, str], dict[str, str]]:
    """Two sets of items, for home and for abroad; each private key is in one of them only."""
    home, foreign = (asyncssh.generate_private_key(ALGORITHM) for _ in range(2))
    return _items(home, foreign), _items(foreign, home)


def write(folder: Path) -> tuple[Path, Path]:
    """Make keys in two new folders below `folder`, for home and for abroad.

    Raises `UsageError` where they exist or cannot be made: keys in use are not to be lost. Whatever
    comes in between, half of a pair is not left behind.
    """
    places = folder / "home", folder / "foreign"
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
                    f"{place} cannot be made: {err.strerror}; name a new folder"
                ) from err
        undo.pop_all()
    return places


def read(folder: Path) -> Keys:
    """The keys in `folder`. Raises `StartError` naming the file."""
    private, trusted = folder / PRIVATE, folder / TRUSTED
    try:
        text = trusted.read_text(encoding="utf-8")
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        keys = Keys(
            asyncssh.read_private_key(private),
            tuple(asyncssh.import_public_key(line) for line in lines if not line.startswith("#")),
        )
    except OSError as err:
        raise errors.StartError(f"{err.filename} cannot be read: {err.strerror}. {_CURE}") from err
    except (asyncssh.KeyImportError, UnicodeDecodeError) as err:
        raise errors.StartError(f"a file in {folder} is no SSH key: {err}. {_CURE}") from err
    algorithms = {key.get_algorithm() for key in (keys.private, *keys.trusted)}
    if algorithms != {ALGORITHM} or not keys.trusted:
        raise errors.StartError(
            f"{private} and {trusted} must hold keys of the kind {ALGORITHM}, one at least each. "
            f"{_CURE}"
        )
    return keys


_CURE = (
    "--gateway-keys is to be a folder with the two items of a Secret that "
    "`farlet gateway-keys` made"
)


def _items(own: asyncssh.SSHKey, other: asyncssh.SSHKey) -> dict[str, str]:
    return {
        PRIVATE: own.export_private_key().decode(),
        TRUSTED: other.export_public_key().decode(),
    }
