"""Parsers for labels, annotations, taints and quantities of a Node, with the contract of `values`.

The rules are those of `ValidateNode` (`pkg/apis/core/validation/validation.go`), so that farlet
refuses at its start what the home API server would refuse with a 422.
"""

from __future__ import annotations

import re

from farlet.constants import VIRTUAL_NODE_LABEL, VIRTUAL_NODE_LABEL_VALUE
from farlet.forge import quantities
from farlet.forge.node import Taint
from farlet.settings import values

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_DIVISIBLE = frozenset({"cpu", "memory", "ephemeral-storage"})
"""All other resources are whole numbers (`ValidateResourceQuantityValue`)."""


def key(value: object) -> str:
    """Key of a label, annotation or taint: `name` or `prefix/name`."""
    given = values.text(value)
    prefix, slash, name = given.rpartition("/")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{given!r} is not a valid key: expected up to 63 letters, digits, '-', '_' and '.', "
            "beginning and ending with a letter or digit, after an optional DNS name and '/'"
        )
    if slash:
        values.dns_name(prefix)
    return given


def label(value: object) -> tuple[str, str]:
    """`key=value`; the value may be empty."""
    name, content = _pair(value)
    if content and not _NAME.fullmatch(content):
        raise ValueError(
            f"{content!r} is not a valid label value: expected up to 63 letters, digits, '-', '_' "
            "and '.', beginning and ending with a letter or digit, or an empty value"
        )
    if name == VIRTUAL_NODE_LABEL and content != VIRTUAL_NODE_LABEL_VALUE:
        raise ValueError(
            f"the label {VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE} marks virtual nodes; it "
            "cannot have another value"
        )
    return name, content


def annotation(value: object) -> tuple[str, str]:
    """`key=value` with any text as value."""
    return _pair(value)


def lines(value: object) -> tuple[object, ...]:
    """Values that may contain commas: a list, or lines of one string."""
    if isinstance(value, str):
        found = tuple(line.strip() for line in value.splitlines() if line.strip())
        return found or (values.text(value),)
    if isinstance(value, list | tuple):
        return tuple(value)
    return values.several(value)


def taints(value: object) -> tuple[Taint, ...]:
    """`key[=value]:effect`, several; or `none`."""
    given = values.several(value)
    return () if given == ("none",) else tuple(map(taint, given))


def taint(value: object) -> Taint:
    """`key:effect` or `key=value:effect`, as kubectl takes them."""
    if isinstance(value, Taint):
        return value
    given = values.text(value)
    what, colon, effect = given.rpartition(":")
    if not colon or effect not in _EFFECTS:
        raise ValueError(
            f"{given!r} is not a valid taint: expected KEY:EFFECT or KEY=VALUE:EFFECT with one of "
            f"{', '.join(_EFFECTS)}"
        )
    name, _, content = what.partition("=")
    if content and not _NAME.fullmatch(content):
        raise ValueError(f"{content!r} is not a valid taint value")
    return Taint(key(name), content, effect)


def quantity(value: object) -> tuple[str, str]:
    """`resource=quantity`, in canonical form."""
    name, content = _pair(value)
    parsed = quantities.parse(content)
    if parsed.nanos < 0:
        raise ValueError(f"{name}={content} is negative; expected 0 or more")
    if name not in _DIVISIBLE and not parsed.whole:
        raise ValueError(f"{name}={content} is not valid; {name} requires a whole number")
    return name, str(parsed)


def _pair(value: object) -> tuple[str, str]:
    name, equals, content = values.text(value).partition("=")
    if not equals:
        raise ValueError(f"{value!r} is not valid; expected KEY=VALUE")
    return key(name), content
