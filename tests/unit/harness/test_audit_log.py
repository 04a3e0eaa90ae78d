"""Entries of an audit log after a mark, which can be taken while a line is being written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusters import auditlog
from unit.harness.test_refusals import entry

LINES = [(json.dumps(entry(verb, "pods")) + "\n").encode() for verb in ("create", "get", "delete")]


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(0, id="a whole line"),
        pytest.param(1, id="one character of the next line"),
        pytest.param(len(LINES[1]) - 1, id="the next line without its end"),
    ],
)
def test_entries_after_a_mark_begin_with_the_next_whole_line(tmp_path: Path, written: int) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(LINES[0] + LINES[1][:written])
    log = auditlog.Log(path)
    mark = log.mark()
    path.write_bytes(b"".join(LINES))
    expected = ["delete"] if written else ["get", "delete"]
    assert [one.verb for one in log.entries(since=mark)] == expected


def test_a_last_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(LINES[0] + LINES[1][:-1])
    assert [one.verb for one in auditlog.Log(path).entries()] == ["create"]
