"""Every case under `statuses/`: what `forge.status` computes equals its files.

`pytest tests/golden --update-golden` rewrites the files; read the difference before committing.
"""

import copy

import pytest

from farlet.forge import status
from golden import statuscases


@pytest.mark.parametrize("name", statuscases.names())
def test_status_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    case = statuscases.load(name)
    untouched = copy.deepcopy((case.home, case.mirror))
    desired = case.desired()
    computed = {
        "desired.yaml": {"status": dict(desired.status), "annotations": dict(desired.annotations)},
        "patch.yaml": status.patch(case.home, desired),
    }

    if request.config.getoption("--update-golden"):
        for file, value in computed.items():
            (case.path / file).write_text(statuscases.dump(value))

    assert {file: case.stored(file) for file in computed} == computed
    assert (case.home, case.mirror) == untouched, "arguments must not be changed"
