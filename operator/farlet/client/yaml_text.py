"""YAML that others wrote: bounded in size, read in linear time, and refused in words of our own.

No error text contains anything of the content, which may be a credential.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from farlet.settings.yaml_files import FAILURES

NUMBER_CHARS = 1000
"""Limit of an unquoted number. PyYAML reads numbers with colons, such as `1:30`, in quadratic
time."""

FLOW_LEVELS = 100
"""Limit of open brackets. What PyYAML reads ahead at each bracket grows with the number of open
ones."""

_PREFIX = "tag:yaml.org,2002:"
_TAGS = {None, "!", *(_PREFIX + name for name in ("str", "bool", "null", "int", "seq", "map"))}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_LIKE_A_NUMBER = re.compile(r"[-+0-9][0-9:_.]*\Z")


class Invalid(ValueError):
    """The YAML is refused; the text says why and continues "the file", as in "is not valid"."""


def read(content: bytes, *, limit: int) -> Any:
    """The document in at most `limit` bytes. Raises `Invalid`.

    Scalars are booleans, null, decimal integers or, in all other cases, text.
    """
    if len(content) > limit:
        raise Invalid(f"is larger than {limit >> 10} KiB")
    try:
        return yaml.load(content, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except Invalid:
        raise
    except FAILURES as err:
        mark = getattr(err, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
    raise Invalid(f"is not valid YAML{line}")


def read_file(path: str | Path, *, limit: int) -> Any:
    """The document in a file. Raises `Invalid` and `OSError`."""
    with Path(path).open("rb") as file:
        content = file.read(limit + 1)
    return read(content, limit=limit)


class _Loader(yaml.SafeLoader):
    """Without aliases, with which a file of a kilobyte could expand to gigabytes."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= FLOW_LEVELS:
            where = f"(line {self.line + 1})"
            raise Invalid(f"is not valid YAML: more than {FLOW_LEVELS} open brackets {where}")
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        where = f"(line {event.start_mark.line + 1})"
        if isinstance(event, yaml.AliasEvent):
            raise Invalid(f"contains aliases {where}, which farlet does not read")
        if getattr(event, "tag", None) not in _TAGS:
            raise Invalid(f"contains a YAML tag {where} that farlet does not read")
        if (
            isinstance(event, yaml.ScalarEvent)
            and event.implicit[0]
            and len(event.value) > NUMBER_CHARS
            and _LIKE_A_NUMBER.match(event.value)
        ):
            raise Invalid(f"contains a number of more than {NUMBER_CHARS} characters {where}")
        return super().compose_node(parent, index)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        value = self.construct_scalar(node)
        if not _INT.match(str(value)):
            raise yaml.constructor.ConstructorError(
                None, None, "expected a decimal integer", node.start_mark
            )
        return int(str(value))


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] in {f"{_PREFIX}bool", f"{_PREFIX}null"}]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_PREFIX}int", _INT, list("-+0123456789"))
_Loader.add_constructor(f"{_PREFIX}int", _Loader.construct_int)
