"""The differences between a home pod and its mirror, for `farlet render --explain` and Events."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from farlet import redaction

_PATH_CHARS = 250
"""A path contains names of at most 63 characters, and mount paths of any length."""


class ChangeKind(StrEnum):
    """What happened to a field of the pod."""

    ADDED = "added"
    DROPPED = "dropped"
    FORCED = "forced"
    REWRITTEN = "rewritten"
    UNCHANGED = "unchanged"


class Change(NamedTuple):
    """One field in which mirror and home pod differ."""

    path: str
    kind: ChangeKind
    why: str
    routine: bool = False
    """Most pods have it, or the access mode exists for it: shown by `--explain`, no Event."""

    def __str__(self) -> str:
        return f"{redaction.cut(self.path, _PATH_CHARS)} {self.kind}: {self.why}"


class ChangeLog:
    """Collects changes in the order in which a pod is converted to its mirror.

    Functions of `access` and `forge` that shape a part of the pod take the log as an argument::

        changes.dropped("spec.nodeName", "it names the virtual node", routine=True)
    """

    def __init__(self) -> None:
        self._changes: list[Change] = []

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes)

    def added(self, path: str, why: str, *, routine: bool = False) -> None:
        """The mirror has the field, the home pod has not."""
        self._changes.append(Change(path, ChangeKind.ADDED, why, routine))

    def dropped(self, path: str, why: str, *, routine: bool = False) -> None:
        """The home pod has the field, the mirror has not."""
        self._changes.append(Change(path, ChangeKind.DROPPED, why, routine))

    def forced(self, path: str, why: str, *, routine: bool = False) -> None:
        """The mirror has a fixed value, whatever the home pod has."""
        self._changes.append(Change(path, ChangeKind.FORCED, why, routine))

    def rewritten(self, path: str, why: str, *, routine: bool = False) -> None:
        """The mirror has a value derived from the home pod's."""
        self._changes.append(Change(path, ChangeKind.REWRITTEN, why, routine))

    def unchanged(self, path: str, why: str, *, routine: bool = False) -> None:
        """The mirror has the home pod's value, whose effect may differ in the foreign cluster."""
        self._changes.append(Change(path, ChangeKind.UNCHANGED, why, routine))
