"""Why a kubeconfig cannot be used, where the library that reads it only names a key or a type.

No content of a file appears in the text except names of contexts, clusters and users: everything
else can be a credential.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubernetes_asyncio.config import ConfigException

from farlet import redaction
from farlet.client import connection_errors, kubeconfig_files
from farlet.client.kubeconfig_files import File
from farlet.constants import JSON

NO_CONTEXT = " has no context "


def cause(files: Sequence[File], kubeconfig: str, context: str | None, err: Exception) -> str:
    """What is wrong, in one sentence without a full stop.

    `files` is what was read of `kubeconfig`, a path or a list of paths; `context` None: the current
    one; `err` is what loading it raised.
    """
    return _reference(files, kubeconfig, context) or f"{kubeconfig}: {words(err)}"


def _reference(files: Sequence[File], where: str, context: str | None) -> str | None:
    """A name that refers to nothing."""
    contexts = _contents(files, "contexts", "context")
    known = f"it has: {redaction.some([*contexts]) or 'none'}"
    chosen = context or kubeconfig_files.current_context(files)
    if chosen is None:
        return f"{where} has no current-context, and no context was selected; {known}"
    if not isinstance(chosen, str):
        return f"the current-context of {where} is not a string; {known}"
    if chosen not in contexts:
        return f"{where}{NO_CONTEXT}{redaction.value(chosen)}; {known}"
    for kind in ("cluster", "user"):
        name = contexts[chosen].get(kind)
        if isinstance(name, str) and name and name not in _contents(files, f"{kind}s", kind):
            named = f"the context {chosen} in {where} names the {kind} {name}"
            return f"{named}, which does not exist there"
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
