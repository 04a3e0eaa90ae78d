"""What labels, annotations, taints and amounts of resources may look like on a Node.

Like `values.py`: what came from a flag, the environment or the file becomes the value that
farlet keeps, or a `ValueError` whose text says what is allowed. The rules are those of
`ValidateNode` (`pkg/apis/core/validation/validation.go`), so that a start does not fail on a 422.
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
"""Everything else comes in whole pieces (`ValidateResourceQuantityValue`)."""


def key(value: object) -> str:
    """Key of a label, annotation or taint: `name` or `prefix/name`."""
    given = values.text(value)
    prefix, slash, name = given.rpartition("/")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{given!r} is no key: up to 63 of letters, digits, '-', '_' and '.', beginning and "
            "ending with a letter or digit, with a DNS name and '/' in front or not"
        )
    if slash:
        values.dns_name(prefix)
    return given


def label(value: object) -> tuple[str, str]:
    """`key=value`; the value may be empty."""
    name, content = _pair(value)
    if content and not _NAME.fullmatch(content):
        raise ValueError(
            f"{content!r} is no value of a label: up to 63 of letters, digits, '-', '_' and '.', "
            "beginning and ending with a letter or digit, or nothing"
        )
    if name == VIRTUAL_NODE_LABEL and content != VIRTUAL_NODE_LABEL_VALUE:
        raise ValueError(
            f"the label {VIRTUAL_NODE_LABEL}={VIRTUAL_NODE_LABEL_VALUE} tells farlet's Node from a "
            "real machine; it cannot have another value"
        )
    return name, content


def annotation(value: object) -> tuple[str, str]:
    """`key=value`, the value being any text."""
    return _pair(value)


def lines(value: object) -> tuple[object, ...]:
    """Several values of which each may hold commas: a list, or lines of one string."""
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
            f"{given!r} is no taint: give KEY:EFFECT or KEY=VALUE:EFFECT, where EFFECT is one of "
            f"{', '.join(_EFFECTS)}"
        )
    name, _, content = what.partition("=")
    if content and not _NAME.fullmatch(content):
        raise ValueError(f"{content!r} is no value of a taint")
    return Taint(key(name), content, effect)


def amount(value: object) -> tuple[str, str]:
    """`resource=amount`, in canonical form."""
    name, content = _pair(value)
    quantity = quantities.parse(content)
    if quantity.nanos < 0:
        raise ValueError(f"{name}={content} is less than nothing")
    if name not in _DIVISIBLE and not quantity.whole:
        raise ValueError(f"{name}={content} is a fraction; {name} comes in whole pieces")
    return name, str(quantity)


def _pair(value: object) -> tuple[str, str]:
    name, equals, content = values.text(value).partition("=")
    if not equals:
        raise ValueError(f"{value!r} is no pair; give KEY=VALUE")
    return key(name), content
