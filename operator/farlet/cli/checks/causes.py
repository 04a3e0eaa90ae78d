"""Each cause once: rows with the cause of another one refer to it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from farlet.cli.checks.findings import Finding, Outcome

DEPLOYMENT = "Deployment"
KUBELET_PORT = "kubelet port"
VIRTUAL_NODE = "VirtualNode"
READY = f"{VIRTUAL_NODE} Ready"

_WORTH_CHARS = 20
"""A shorter text is not replaced by the name of another row."""
_ANSWER = re.compile(r"\(401 [^)]*\)")
"""In a text about credentials, what an API server answered: each of its APIs has other words."""
_POD = re.compile(r"[a-z0-9.-]+: ")


def once(found: Sequence[Finding], *, farlet: str) -> list[Finding]:
    """The findings in their order. `farlet`: the row of the Deployment that serves the node.

    What check itself has found is the cause, and reports of farlet about it refer to that.
    """
    down = any(one.what == farlet and one.outcome is Outcome.FAILED for one in found)
    stated: dict[str, str] = {}
    shown = {}
    for one in sorted(found, key=_rank):
        if down and _follows(one):
            shown[one.what] = replace(one, hint=f"see {farlet}")
        elif one.outcome is not Outcome.OK:
            shown[one.what] = _referring(one, stated)
            for cause in _causes(one):
                stated.setdefault(cause, one.what)
    return [shown.get(one.what, one) for one in found]


def _rank(one: Finding) -> int:
    if one.what == READY:  # its message joins what others have
        return 2
    return 1 if one.what.startswith(f"{VIRTUAL_NODE} ") or one.what == KUBELET_PORT else 0


def _follows(one: Finding) -> bool:
    """Whether a farlet that does not run is reason enough for it."""
    if one.outcome is Outcome.OK:
        return False
    return one.what == KUBELET_PORT or (
        one.what.startswith(f"{VIRTUAL_NODE} ") and one.seen in {"NoLeader", "NotReported"}
    )


def _referring(one: Finding, stated: dict[str, str]) -> Finding:
    parts = []
    for part in one.hint.split("; "):
        known = next((cause for cause in stated if _ends_with(_neutral(part), cause)), None)
        parts.append(part if known is None else f"see {stated[known]}")
    return replace(one, hint="; ".join(dict.fromkeys(parts)))


def _ends_with(text: str, cause: str) -> bool:
    """The cause itself, or after what it affects: `farlet-a: CAUSE`."""
    return text == cause or text.endswith(f": {cause}")


def _causes(one: Finding) -> Iterable[str]:
    for part in map(_neutral, (*one.seen.split("; "), *one.hint.split("; "))):
        for text in (part, _POD.sub("", part, count=1) if _POD.match(part) else part):
            if len(text) >= _WORTH_CHARS:
                yield text


def _neutral(text: str) -> str:
    return _ANSWER.sub("(401)", text)
