"""YAML from outside: how values are read, what is refused, and what reading costs."""

from __future__ import annotations

import time

import pytest

from farlet.client import yaml_text

LIMIT = 128 << 10

VALUES: dict[str, tuple[bytes, object]] = {
    "a text is a text": (b"abc", "abc"),
    "nothing is null": (b"", None),
    "true is a boolean": (b"true", True),
    "null is null": (b"null", None),
    "a decimal integer is one": (b"-12", -12),
    "an integer with a tag is one": (b"!!int '12'", 12),
    "a number in quotes is a text": (b"'12'", "12"),
    "a number with a leading zero is a text": (b"012", "012"),
    "a number with colons is a text": (b"1:30", "1:30"),
    "a number with a point is a text": (b"1.5", "1.5"),
    "a date is a text": (b"2026-01-02", "2026-01-02"),
    "a date that does not exist is a text": (b"2026-99-99", "2026-99-99"),
    "a key of a merge is a text": (b"<<: {a: b}", {"<<": {"a": "b"}}),
    "brackets may be nested": (b"[[[1]]]", [[[1]]]),
    "a long number in quotes is a text": (b"'" + b"1" * 5000 + b"'", "1" * 5000),
}


@pytest.mark.parametrize(("content", "value"), VALUES.values(), ids=VALUES)
def test_an_unquoted_or_quoted_value_is_read_such_that(content: bytes, value: object) -> None:
    assert yaml_text.read(content, limit=LIMIT) == value


REFUSED: dict[str, tuple[bytes, str]] = {
    "more bytes than allowed": (b"#" * (LIMIT + 1), "is larger than 128 KiB"),
    "an open bracket": (b"a:\n- [hush", "is not valid YAML (line 2)"),
    "bytes that are not UTF-8": (b"hush: \xff", "is not valid YAML"),
    "an invalid boolean": (b"!!bool hush", "is not valid YAML"),
    "an invalid integer": (b"!!int hush", "is not valid YAML (line 1)"),
    "an integer without digits": (b"!!int ''", "is not valid YAML (line 1)"),
    "a long integer with a tag": (b"!!int " + b"1" * 9000, "is not valid YAML"),
    "another tag": (
        b"a: b\nc: !!float hush",
        "contains a YAML tag (line 2) that farlet does not read",
    ),
    "a tag of an application": (
        b"!hush a",
        "contains a YAML tag (line 1) that farlet does not read",
    ),
    "an alias": (b"- &hush a\n- *hush", "contains aliases (line 2), which farlet does not read"),
    "a mapping as a key": (b"{{hush: b}: c}", "is not valid YAML (line 1)"),
    "too many brackets": (
        b"[" * LIMIT,
        "is not valid YAML: more than 100 open brackets (line 1)",
    ),
    "too many levels": (b"- " * (LIMIT // 2), "is not valid YAML"),
    "a number with colons that is too long": (
        b"a: 1" + b":1" * 65_000,
        "contains a number of more than 1000 characters (line 1)",
    ),
    "the same with a tag": (b"!!int 1" + b":1" * 65_000, "is not valid YAML (line 1)"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_yaml_is_refused_quickly_with(content: bytes, words: str) -> None:
    before = time.process_time()
    with pytest.raises(yaml_text.Invalid) as raised:
        yaml_text.read(content, limit=LIMIT)
    assert time.process_time() - before < 1
    assert str(raised.value) == words
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_many_numbers_with_colons_are_read_quickly() -> None:
    number = "1" + ":1" * 499
    content = "\n".join([f"- {number}"] * 130).encode()
    before = time.process_time()
    assert yaml_text.read(content, limit=LIMIT) == [number] * 130
    assert time.process_time() - before < 1
