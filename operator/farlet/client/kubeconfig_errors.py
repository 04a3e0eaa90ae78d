"""Why a kubeconfig cannot be used, where the library that reads it only names a key or a type.

Reads the files once more after a failure. No content of a file appears in the text except names of
contexts, clusters and users: everything else can be a credential.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kubernetes_asyncio.config import ConfigException

from farlet import redaction
from farlet.client import connection_errors, yaml_text
from farlet.constants import JSON

MAX_BYTES = 1 << 20
"""Of each file. The library that reads it has no limit."""


def check(kubeconfig: str) -> None:
    """Raises `yaml_text.Invalid` for a file that is not YAML as farlet reads it.

    Pipes can be read only once and are left to the library.
    """
    for path in _paths(kubeconfig):
        if path.is_file():
            yaml_text.read_file(path, limit=MAX_BYTES)


def cause(kubeconfig: str, context: str | None, err: Exception) -> str:
    """What is wrong, in one sentence without a full stop.

    `kubeconfig` is a path or a list of paths, as in `$KUBECONFIG`; `context` None: the current one;
    `err` is what loading it raised.
    """
    paths = _paths(kubeconfig)
    files: list[JSON] = []
    for path in paths:
        try:
            content = yaml_text.read_file(path, limit=MAX_BYTES)
        except FileNotFoundError:
            if len(paths) == 1:
                return f"{path} does not exist"
            continue  # a list may name files that do not exist
        except OSError as problem:
            return f"{path} cannot be read: {connection_errors.cause(problem)}"
        except yaml_text.Invalid as problem:
            return f"{path} {problem}"
        if content is None:
            return f"{path} is empty"
        if not isinstance(content, dict):
            return f"{path} is not a kubeconfig: expected a mapping with clusters, contexts, users"
        files.append(content)
    if not files:
        return f"none of the files {kubeconfig} exists"
    return _reference(files, kubeconfig, context) or f"{kubeconfig}: {words(err)}"


def _paths(kubeconfig: str) -> list[Path]:
    # As the library does it: `Path.expanduser` raises an error for a user who does not exist.
    expand = os.path.expanduser
    return [Path(expand(path)) for path in kubeconfig.split(os.pathsep) if path]


def _reference(files: list[JSON], where: str, context: str | None) -> str | None:
    """A name that refers to nothing."""
    contexts = dict(_entries(files, "contexts", "context"))
    known = f"it has: {redaction.some([*contexts]) or 'none'}"
    chosen = context or next((c for file in files if (c := file.get("current-context"))), None)
    if chosen is None:
        return f"{where} has no current-context, and no context was selected; {known}"
    if not isinstance(chosen, str):
        return f"the current-context of {where} is not a text; {known}"
    if chosen not in contexts:
        return f"{where} has no context {redaction.value(chosen)}; {known}"
    for kind in ("cluster", "user"):
        name = contexts[chosen].get(kind)
        if isinstance(name, str) and name and name not in dict(_entries(files, f"{kind}s", kind)):
            return f"the context {chosen} in {where} names the {kind} {name}, which it lacks"
    return None


def _entries(files: list[JSON], plural: str, kind: str) -> Iterator[tuple[str, JSON]]:
    for file in files:
        entries = file.get(plural)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                content = entry.get(kind)
                yield redaction.value(entry["name"]), content if isinstance(content, dict) else {}


def words(err: Exception) -> str:
    """An error of loading, in words that name its file."""
    if isinstance(err, OSError) and err.filename:
        return f"{err.filename} cannot be read: {connection_errors.cause(err)}"
    if isinstance(err, ConfigException):
        return redaction.message(str(err)).rstrip(".")
    if isinstance(err, yaml_text.Invalid):
        return f"it {err}"
    if isinstance(err, OSError | ValueError) and not isinstance(err, UnicodeError):
        return connection_errors.cause(err)
    # The text of a KeyError is the key, for example.
    return "one of its fields is missing or has an unexpected form"
