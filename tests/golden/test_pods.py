"""Every home pod gives the recorded mirror, Secret and changes, or the recorded refusal."""

import copy
import difflib

import pytest

from golden import podcases, reading

CASES = podcases.every()
SENT = [case for case in CASES if (case.folder / "mirror.yaml").exists()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_home_pod_gives_what_is_recorded(
    case: podcases.Case, request: pytest.FixtureRequest
) -> None:
    computed = podcases.files(case)
    if request.config.getoption("--update-golden"):
        case.record(computed)
    recorded = case.recorded()
    assert computed == recorded, (
        f"{_difference(recorded, computed)}\n--update-golden records the new state"
    )


@pytest.mark.parametrize("case", SENT, ids=lambda case: case.name)
def test_the_home_pod_is_not_changed(case: podcases.Case) -> None:
    home = case.home()
    before = copy.deepcopy(home)
    podcases.forge_case(case, home)
    assert home == before


@pytest.mark.parametrize("case", SENT, ids=lambda case: case.name)
def test_no_mirror_mentions_a_home_object_that_it_cannot_have(case: podcases.Case) -> None:
    mirror = reading.read(case.folder / "mirror.yaml")
    assert "nodeName" not in mirror["spec"]
    assert "serviceAccount" not in mirror["spec"]
    assert mirror["metadata"].keys() <= {
        "name",
        "namespace",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
    }


def _difference(recorded: dict[str, str], computed: dict[str, str]) -> str:
    lines: list[str] = []
    for name in sorted(recorded.keys() | computed.keys()):
        before, after = recorded.get(name, ""), computed.get(name, "")
        lines += difflib.unified_diff(
            before.splitlines(),
            after.splitlines(),
            f"recorded {name}",
            f"computed {name}",
            lineterm="",
        )
    return "\n".join(lines)
