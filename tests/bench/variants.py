"""What one invocation measures: what the pods ask for, and which versions of farlet take turns."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

MODES = ("home", "remote")
SHARED = "shared"
"""Name of the ConfigMap and of the Secret to which all pods refer (`Variant.objects`)."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """What the pods ask for, and whether foreign nodes write a kubelet's Events."""

    mode: str = "home"
    objects: bool = False
    events: bool = False

    def words(self) -> str:
        """The variant, for the head of a table."""
        parts = [f"mode {self.mode}"]
        if self.objects:
            parts.append("one shared ConfigMap and Secret")
        if self.events:
            parts.append("foreign nodes write Pulling, Pulled, Created, Started")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Side:
    """One farlet that takes turns with the others.

    `settings` are further flags by name without dashes; None removes one. `program` replaces
    `farlet`, and `environment` adds variables.
    """

    title: str = "farlet"
    settings: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    program: Sequence[str | Path] | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def shows_events(self) -> bool:
        """Whether it shows Events of mirrors on their home pods."""
        return self.settings.get("mirror-events") != "none"


DEFAULT = Variant()
FARLET = Side()
WITHOUT_EVENTS = Side("without Events", {"mirror-events": "none"})
