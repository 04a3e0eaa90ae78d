"""Kubeconfigs as kubectl reads them: one file or several, of which the first to set a name wins.

Each file is parsed once, by `yaml_text`; the library that loads credentials gets the result. A file
of thousands of entries takes seconds: call `read` in a thread.

No error text contains anything of the content, which may be a credential.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kubernetes_asyncio.config.kube_config import ConfigNode

from farlet.client import connection_errors, yaml_text
from farlet.constants import JSON
from farlet.settings import values

MAX_BYTES = 1 << 20
"""Limit of each file."""

_SECTIONS = ("clusters", "contexts", "users")


class Unreadable(ValueError):
    """A file is not a kubeconfig; the text names it and says why."""


class File(NamedTuple):
    """One kubeconfig."""

    path: Path
    content: JSON


def read(kubeconfig: str) -> list[File]:
    """The files of a path or of a list of paths, as in `$KUBECONFIG`. Raises `Unreadable`."""
    try:
        paths = values.existing_kubeconfigs(kubeconfig)
    except ValueError as err:
        raise Unreadable(str(err)) from None
    files = []
    for path in paths:
        try:
            content = yaml_text.read_file(path, limit=MAX_BYTES)
        except FileNotFoundError:
            raise Unreadable(f"{path} does not exist") from None
        except OSError as err:
            raise Unreadable(f"{path} cannot be read: {connection_errors.cause(err)}") from None
        except yaml_text.Invalid as err:
            raise Unreadable(f"{path} {err}") from None
        if content is None:
            raise Unreadable(f"{path} is empty")
        if not isinstance(content, dict):
            raise Unreadable(
                f"{path} is not a kubeconfig: expected a mapping with clusters, contexts, users"
            )
        files.append(File(path, content))
    return files


def current_context(files: Sequence[File]) -> object:
    """What the first file that sets it contains; `None`: none does."""
    return next((found for file in files if (found := file.content.get("current-context"))), None)


def entries(files: Sequence[File], section: str) -> Iterator[tuple[File, str, JSON]]:
    """(file, name, entry) of a section of all files, the first entry of each name only."""
    seen: set[str] = set()
    for file in files:
        found = file.content.get(section)
        for entry in found if isinstance(found, list) else ():
            name = entry.get("name") if isinstance(entry, dict) else None
            if isinstance(name, str) and name not in seen:
                seen.add(name)
                yield file, name, entry


def merged(files: Sequence[File]) -> ConfigNode:
    """All files as one, for the library. Each entry keeps the path that its own paths begin at."""
    config: JSON = {"current-context": current_context(files)}
    for section in _SECTIONS:
        config[section] = [
            ConfigNode(f"{section} of {file.path}", entry, str(file.path))
            for file, _, entry in entries(files, section)
        ]
    return ConfigNode("the kubeconfig", config, str(files[0].path))
