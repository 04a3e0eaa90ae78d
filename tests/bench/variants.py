"""What one invocation measures: what the pods ask for, and which versions of farlet take turns."""

import argparse
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


def parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """The arguments that all measurements have: number and kind of pods."""
    made = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "n", metavar="N=COUNT", nargs="?", type=_count, default=1000, help="pods, default 1000"
    )
    made.add_argument("--mode", choices=MODES, default="home", help="access mode of the pods")
    made.add_argument(
        "--objects", action="store_true", help="all pods refer to one ConfigMap and one Secret"
    )
    return made


def _count(text: str) -> int:
    """A number of pods, such as N=1000."""
    number = text.removeprefix("N=")
    if not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of pods; expected for example N=1000"
        )
    return int(number)
