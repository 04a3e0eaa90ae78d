"""`make unit`, `test`, `test-rest`, `soak` and `skew` run every test, each by one target only."""

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()


def folders(variable: str) -> set[str]:
    """The folders that a variable of the Makefile lists."""
    (found,) = re.findall(rf"^{variable} := (.*)$", MAKEFILE, re.MULTILINE)
    return set(found.split())


def selections(target: str) -> list[str]:
    """The markers by which each run of a target selects, in order."""
    (recipe,) = re.findall(rf"^{target}:.* ## .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    found = re.findall(r"-m '?([a-z ]+?)'? \$\(ARGS\)", recipe)
    assert len(found) == recipe.count("$(BIN)/pytest")
    return found


def modules(folder: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("test_*.py"))


def test_each_module_of_tests_is_in_a_folder_that_is_run() -> None:
    listed = folders("QUICK") | folders("REAL") | folders("SKEW")
    assert modules("tests") == sorted(name for folder in listed for name in modules(folder))


@pytest.mark.parametrize(("core", "soak"), [*itertools.product([True, False], repeat=2)])
def test_each_test_on_clusters_is_run_by_exactly_one_target(core: bool, soak: bool) -> None:
    markers = {"core": core, "soak": soak}
    targets = ("test", "test-rest", "soak")
    runs = [selections(one)[-1] for one in targets]
    assert [_selects(one, markers) for one in runs].count(True) == 1


@pytest.mark.parametrize(("thorough", "soak"), [*itertools.product([True, False], repeat=2)])
def test_each_unit_test_is_run_by_make_test_or_by_make_soak(thorough: bool, soak: bool) -> None:
    markers = {"thorough": thorough, "soak": soak, "core": False}
    runs = [selections("test")[0], selections("soak")[0]]
    assert [_selects(one, markers) for one in runs].count(True) == 1


@pytest.mark.parametrize(("thorough", "soak"), [*itertools.product([True, False], repeat=2)])
def test_make_unit_leaves_out_what_is_thorough(thorough: bool, soak: bool) -> None:
    markers = {"thorough": thorough, "soak": soak}
    (run,) = selections("unit")
    assert _selects(run, markers) == (not thorough and not soak)


def test_no_test_on_clusters_is_thorough() -> None:
    on_clusters = [name for one in folders("REAL") | folders("SKEW") for name in modules(one)]
    assert [name for name in on_clusters if "mark.thorough" in (ROOT / name).read_text()] == []


def _selects(markers: str, of: dict[str, bool]) -> bool:
    return bool(eval(markers, {}, of))


def test_contributing_lists_what_make_test_leaves_out() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    left_out = {
        name
        for folder in folders("REAL") | folders("SKEW")
        for name in modules(folder)
        if "pytest.mark.core" not in (ROOT / name).read_text()
    } | {
        name
        for folder in folders("QUICK")
        for name in modules(folder)
        if re.search("^@pytest.mark.soak$", (ROOT / name).read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"tests/\S+/test_\w+\.py", text)) == left_out


def test_a_module_is_in_make_test_as_a_whole_or_not_at_all() -> None:
    on_clusters = [name for folder in folders("REAL") for name in modules(folder)]
    assert [name for name in on_clusters if "@pytest.mark.core" in (ROOT / name).read_text()] == []
