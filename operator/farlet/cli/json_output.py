"""The output of commands with `--output=json`."""

from __future__ import annotations

import orjson


def to_json(found: object) -> str:
    """A dataclass, a list or a mapping as a JSON document, indented as kubectl prints JSON."""
    return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
