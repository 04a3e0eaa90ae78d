"""Every kind of fault has cases of several products, and all named cases exist."""

import re
from pathlib import Path

import pytest

from golden import kinds

ROOT = Path(__file__).parents[2]
EXAMPLES = [example for kind in kinds.KINDS.values() for example in kind.examples]
NAMED = sorted(
    {example.case for example in EXAMPLES}
    | {case for cases in kinds.REPORTED.values() for case in cases}
)


@pytest.mark.parametrize("letter", kinds.KINDS)
def test_a_kind_has_cases_of_three_products(letter: str) -> None:
    kind = kinds.KINDS[letter]
    assert len({example.case for example in kind.examples}) == len(kind.examples)
    assert len({example.product for example in kind.examples}) >= 3
    assert any(example.author is kinds.Author.SENTENCE for example in kind.examples)


@pytest.mark.parametrize("case", NAMED)
def test_a_named_case_exists(case: str) -> None:
    folder, _, _ = case.partition("/")
    if folder in {"pods", "statuses"}:
        assert (Path(__file__).parent / case / "home.yaml").is_file()
        return
    path, _, test = case.partition("::")
    name, _, parameters = test.removesuffix("]").partition("[")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE)
    assert f'"{parameters}"' in text or not parameters


def test_a_reported_case_is_named_by_its_number() -> None:
    assert list(kinds.REPORTED) == sorted(kinds.REPORTED)
    assert all(kinds.REPORTED.values())
