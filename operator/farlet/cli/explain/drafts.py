"""The report of `farlet explain` while it is written, and its words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from farlet import errors, reasons
from farlet.cli import commands
from farlet.cli.commands import Connection
from farlet.cli.explain.facts import Facts
from farlet.cli.reading import Absent, Unread, age, clean
from farlet.constants import Reason
from farlet.forge import copies, timestamps
from farlet.manager import virtual_node
from farlet.planning import api_refusals
from farlet.telemetry.state import State


@dataclass(slots=True)
class Draft:
    """Parts of the report while it is written."""

    facts: Facts
    now: float
    home_connection: Connection
    foreign_connection: Connection
    home: dict[str, str] = field(default_factory=dict)
    mirror: dict[str, str] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)
    """What was not read, by cause."""

    def read(self, what: str, value: object) -> bool:
        """Whether it was read. If not, the report says so."""
        if isinstance(value, Unread):
            self.unread.setdefault(value.why, []).append(what)
        return value is not None and not isinstance(value, Absent | Unread)

    # --- advice -------------------------------------------------------------------------------

    def add(self, what: str, text: str = "") -> None:
        """Advice, unless an earlier one contains it."""
        told = clean(self.named(text)) if text else what
        if not any(told in one for one in self.advice):
            self.advice.append(f"{what}: {told}" if text else told)

    def advise(self, reason: Reason) -> None:
        """`guide`, with the names that are known."""
        facts = self.facts
        foreign, text = facts.foreign_namespace, self.named(guide(reason))
        if foreign is not None and reason in _UNPREPARED and facts.ctx is not None:
            own, home = facts.ctx.namespaces.own, facts.key.namespace
            fix = self._completed(api_refusals.preparation(foreign, system=own, home=home))
            text = f"{reason} ({reasons.GUIDES[reason].who}): {fix}"
        elif foreign is not None:
            text = text.replace("NAMESPACE", foreign)
        self.advice.append(text)

    # --- what is known ------------------------------------------------------------------------

    @property
    def leading(self) -> State | None:
        """What the farlet that serves the node reports, if it was read."""
        return self.facts.state if isinstance(self.facts.state, State) else None

    @property
    def kubectl(self) -> str:
        """The beginning of a command in the home cluster."""
        return self.home_connection.kubectl

    @property
    def status_command(self) -> str:
        """`farlet status` of the home cluster."""
        return f"farlet status{self.home_connection.flags}"

    # --- words --------------------------------------------------------------------------------

    def named(self, text: str | None, node: str = "") -> str:
        """A text of farlet with what farlet does not know: the node, the name of the Secret with
        its foreign credentials, and the contexts of the reader."""
        facts = self.facts
        if not node and not isinstance(facts.pod, Absent | Unread):
            node = facts.pod["spec"].get("nodeName", "")
        text = self._completed(text or "")
        if not node or not text:
            return text
        text = text.replace(f"--node {errors.NODE}", f"--node {node}")
        default = virtual_node.foreign_secret({"metadata": {"name": node}})
        return errors.with_secret(text, "foreign", facts.foreign_secrets.get(node, default))

    def _completed(self, text: str) -> str:
        return commands.completed(text, self.home_connection, self.foreign_connection)

    def at_home(self, text: str | None) -> str:
        """A message of the foreign cluster, with the names that the owner of the pod knows."""
        facts = self.facts
        if not text or facts.ctx is None or isinstance(facts.pod, Absent | Unread):
            return text or ""
        return copies.HomeNames(facts.pod, facts.ctx)(text)

    def since(self, stamp: str | None) -> str:
        """The time since then, as kubectl shows it."""
        moment = timestamps.epoch(stamp)
        return age(None if moment is None else self.now - moment)


_UNPREPARED = frozenset({Reason.FOREIGN_FORBIDDEN, Reason.NAMESPACE_NOT_FOUND})
"""Reasons of a foreign namespace without farlet's Role."""
_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)?([^)]+)\)")
_SHORT = 60
"""Characters of an advice that may be repeated."""


def guide(reason: Reason) -> str:
    """What to do about a reason, and who can do it."""
    row = reasons.GUIDES[reason]
    return f"{reason} ({row.who}): {_LINK.sub(_linked, row.fix).replace('`', '')}"


def _linked(found: re.Match[str]) -> str:
    return f"{found[1]} (docs/{found[2]})"


def once(text: str, advice: Sequence[str]) -> str:
    """A text without what is advised: reasons of pods and Events contain the same commands."""
    for one in advice:
        fix = one.partition("): ")[2]
        if len(fix) > _SHORT and fix in text and fix != text:
            return text.replace(fix, "See What to do")
    return text


def joined(*parts: object) -> str:
    """Reason and message, as far as there are such."""
    return ": ".join(clean(part) for part in parts if part) or "unknown"
