"""Record every request of 500 random stories, and compare two recordings.

A change that must not change behaviour is checked against the version before it::

    PYTHONPATH=tests:operator python -m unit.planning.oracle record before.txt    # there
    PYTHONPATH=tests:operator python -m unit.planning.oracle record after.txt     # here
    python -m unit.planning.oracle compare before.txt after.txt --renames renames.txt

The stories are those of `stories.py` under a fixed seed: crashes, lost answers, cut watches. A
recording has one line per request, of both clusters: seconds, cluster, verb, path, body. Events
are requests, too. A table of renames has lines `REGULAR EXPRESSION<tab>REPLACEMENT`, applied to
the earlier recording; `#` begins a comment.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from hypothesis import HealthCheck, Phase, given, seed, settings

from unit.planning import stories
from unit.planning.running import world
from unit.planning.world import Step

STORIES = 500
SEED = 20261128
_OF_THIS_RUN = re.compile(r'\.[0-9a-f]{16}(?=")|"(?:first|last)Timestamp":"[^"]*",?')
"""The random end of an Event's name, and when it was."""
SHOWN = 20
"""Differences that `compare` prints."""


def generated() -> list[Sequence[Step]]:
    """The stories, the same at every call."""
    found: list[Sequence[Step]] = []

    @seed(SEED)
    @settings(
        max_examples=STORIES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(stories.STORIES)
    def keep(story: Sequence[Step]) -> None:
        found.append(story)

    keep()
    return found


def requests(story: Sequence[Step]) -> Iterator[str]:
    """One line per request that farlet sends in a story."""
    random.seed(SEED)
    with world() as made:
        yield from made.run(story)
        for at, cluster, request, body in made.sent:
            document = orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()
            document = _OF_THIS_RUN.sub("", document)
            yield f"{at:.3f} {cluster} {request} {document}"


def record(path: Path) -> None:
    """Write a recording."""
    with path.open("w") as out:
        for number, story in enumerate(generated()):
            out.write(f"# story {number}: {story}\n")
            out.writelines(f"{line}\n" for line in requests(story))


def differences(before: str, after: str, renames: str) -> Iterator[str]:
    """What differs, story by story; no difference: nothing."""
    for line in renames.splitlines():
        if line and not line.startswith("#"):
            pattern, _, replacement = line.partition("\t")
            before = re.sub(pattern, replacement, before)
    old, new = _by_story(before), _by_story(after)
    if len(old) != len(new):
        yield f"{len(old)} stories before, {len(new)} after"
    for number, (one, other) in enumerate(zip(old, new, strict=False)):
        if one == other:
            continue
        for index in range(max(len(one), len(other))):
            pair = [lines[index] if index < len(lines) else "(ended)" for lines in (one, other)]
            if pair[0] != pair[1]:
                yield f"story {number}, line {index}\n  before {pair[0]}\n  after  {pair[1]}"
                break


def _by_story(text: str) -> list[list[str]]:
    return [part.splitlines()[1:] for part in text.split("# story ")[1:]]


def main() -> int:
    """The exit code: 1 where recordings differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("file", type=Path)
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--renames", type=Path)
    options = parser.parse_args()
    if options.verb == "record":
        record(options.file)
        return 0
    renames = options.renames.read_text() if options.renames else ""
    found = list(differences(options.before.read_text(), options.after.read_text(), renames))
    for difference in found[:SHOWN]:
        print(difference)
    print(f"{len(found)} stories differ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
