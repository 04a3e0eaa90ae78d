"""Why a kubeconfig cannot be used, where the library that reads it only names a key or a type.

No content of a file appears in the text except names of contexts, clusters and users: everything
else can be a credential.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from kubernetes_asyncio.config import ConfigException

from farlet import redaction
from farlet.client import connection_errors, kubeconfig_files
from farlet.client.kubeconfig_files import File
from farlet.constants import JSON


class Setting(StrEnum):
    """What to correct: the part of a flag after `--home-` or `--foreign-`."""

    KUBECONFIG = "kubeconfig"
    CONTEXT = "context"


class Cause(NamedTuple):
    """What is wrong, in one sentence without a full stop, and which setting to correct."""

    text: str
    setting: Setting = Setting.KUBECONFIG


def cause(files: Sequence[File], kubeconfig: str, context: str | None, err: Exception) -> Cause:
    """Why `kubeconfig`, a path or a list of paths, cannot be used.

    `files` is what was read of it; `context` None: the current one; `err` is what loading it
    raised.
    """
    return _reference(files, kubeconfig, context) or Cause(f"{kubeconfig}: {words(err)}")


def _reference(files: Sequence[File], where: str, context: str | None) -> Cause | None:
    """A name that refers to nothing."""
    contexts = _contents(files, "contexts", "context")
    known = f"it has: {redaction.some([*contexts]) or 'none'}"
    correct = Setting.CONTEXT if contexts else Setting.KUBECONFIG
    chosen = context or kubeconfig_files.current_context(files)
    if chosen is None:
        text = f"{where} has no current-context, and no context was selected; {known}"
        return Cause(text, correct)
    if not isinstance(chosen, str):
        return Cause(f"the current-context of {where} is not a string; {known}", correct)
    if chosen not in contexts:
        return Cause(f"{where} has no context {redaction.value(chosen)}; {known}", correct)
    for kind in ("cluster", "user"):
        name = contexts[chosen].get(kind)
        if isinstance(name, str) and name and name not in _contents(files, f"{kind}s", kind):
            named = f"the context {chosen} in {where} names the {kind} {name}"
            return Cause(f"{named}, which does not exist there")
    return None


def _contents(files: Sequence[File], section: str, kind: str) -> dict[str, JSON]:
    """By the name of an entry as it is shown."""
    return {
        redaction.value(name): content if isinstance(content := entry.get(kind), dict) else {}
        for _, name, entry in kubeconfig_files.entries(files, section)
    }


def words(err: Exception) -> str:
    """An error of loading, in words that name its file."""
    if isinstance(err, OSError) and err.filename:
        return f"{err.filename} cannot be read: {connection_errors.cause(err)}"
    if isinstance(err, ConfigException):
        return redaction.message(str(err)).rstrip(".")
    if isinstance(err, OSError | ValueError) and not isinstance(err, UnicodeError):
        return connection_errors.cause(err)
    # The text of a KeyError is the key, for example.
    return "one of its fields is missing or has an unexpected form"
