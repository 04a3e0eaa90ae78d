"""Why a kubeconfig cannot be used, where the library that reads it only names a key or a type.

Reads the files once more after a failure. No content of a file appears in the text except names of
contexts, clusters and users: everything else can be a credential.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import yaml
from kubernetes_asyncio.config import ConfigException

from farlet import redaction
from farlet.client import connection_errors
from farlet.constants import JSON


def cause(kubeconfig: str, context: str | None, err: Exception) -> str:
    """What is wrong, in one sentence without a full stop.

    `kubeconfig` is a path or a list of paths, as in `$KUBECONFIG`; `context` None: the current one;
    `err` is what loading it raised.
    """
    paths = [Path(path).expanduser() for path in kubeconfig.split(os.pathsep) if path]
    files: list[JSON] = []
    for path in paths:
        try:
            content = yaml.safe_load(path.read_bytes())
        except FileNotFoundError:
            if len(paths) == 1:
                return f"{path} does not exist"
            continue  # a list may name files that do not exist
        except OSError as problem:
            return f"{path} cannot be read: {connection_errors.cause(problem)}"
        except (yaml.YAMLError, ValueError) as problem:
            mark = getattr(problem, "problem_mark", None)
            return f"{path} is not valid YAML{f' (line {mark.line + 1})' if mark else ''}"
        if content is None:
            return f"{path} is empty"
        if not isinstance(content, dict):
            return f"{path} is not a kubeconfig: expected a mapping with clusters, contexts, users"
        files.append(content)
    if not files:
        return f"none of the files {kubeconfig} exists"
    return _reference(files, kubeconfig, context) or f"{kubeconfig}: {words(err)}"


def _reference(files: list[JSON], where: str, context: str | None) -> str | None:
    """A name that refers to nothing."""
    contexts = dict(_entries(files, "contexts", "context"))
    known = f"it has: {redaction.some([*contexts]) or 'none'}"
    chosen = context or next((c for file in files if (c := file.get("current-context"))), None)
    if chosen is None:
        return f"{where} has no current-context, and no context was selected; {known}"
    if chosen not in contexts:
        return f"{where} has no context {redaction.value(str(chosen))}; {known}"
    for kind in ("cluster", "user"):
        name = contexts[chosen].get(kind)
        if name and name not in dict(_entries(files, f"{kind}s", kind)):
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
    return connection_errors.cause(err)
