"""Run the test of each rule of the shipped Roles without that rule, and write the results."""

import argparse
import datetime
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clusters import binaries, errors
from permissions import named, sharing
from permissions.sharing import Result

_DOCS = Path(__file__).parents[2] / "docs" / "soak"
_PAGE = """\
# Tests without single permissions, {today}

Purpose: show that farlet and its manager require each rule of the shipped Roles.

`make permissions` with Kubernetes {version} on {cores} cores: an admission policy took one rule at
a time out of all Roles as they were created, and only the test that the rule names was run
(`tests/permissions/named.py`). A rule passes if its test passes with all rules and fails without
that one, and if the API server (`403`) or farlet names that rule as the cause.
**{passed} of {total} rules passed.** A rule is the cluster or the manager, the scope, verbs and
resource of [a row](../reference/rbac.md), or of a part of one.

| rule | test | without the rule |
|---|---|---|
"""


def main() -> int:
    """Exit code: 0 if each chosen rule passed, 1 if not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="permissions", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="only rules and tests with this pattern")
    parser.add_argument("--workers", type=int, default=3, help="pairs of clusters, default 3")
    parser.add_argument("--out", type=Path, default=Path("dist/permissions"), help="for the logs")
    options = parser.parse_args()
    chosen = {
        rule: test
        for rule, test in named.TESTS.items()
        if re.search(options.only or "", f"{rule} {test}")
    }
    if not chosen:
        parser.error("neither a rule nor a test has such a name; see tests/permissions/named.py")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
    try:
        results = sharing.run(sharing.shares(chosen, options.workers), out=options.out.resolve())
    except errors.HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all clusters are stopped", file=sys.stderr)
        return 130
    wrong = [result for result in results if result.problem is not None]
    for result in wrong:
        print(result.line())
    print(f"{len(results) - len(wrong)} of {len(results)} rules passed; logs: {options.out}")
    if chosen == named.TESTS:
        _write(sorted(results, key=lambda result: list(chosen).index(result.rule)))
    return 1 if wrong else 0


def _write(results: Sequence[Result]) -> None:
    """The page with the results of a run of all rules."""
    today = datetime.datetime.now(datetime.UTC).date()
    page = _PAGE.format(
        today=today,
        version=binaries.KUBERNETES,
        cores=os.cpu_count(),
        passed=sum(result.problem is None for result in results),
        total=len(results),
    )
    page += "".join(_rows(results))
    (_DOCS / f"{today}-permissions.md").write_text(page)


def _rows(results: Iterable[Result]) -> Iterator[str]:
    for result in results:
        what = result.cause if result.problem is None else f"**{result.problem}** {result.cause}"
        path, _, test = result.test.partition("::")
        cells = (result.rule, f"`{Path(path).name}`: `{test}`", what)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    sys.exit(main())
