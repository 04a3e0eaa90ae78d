"""The farlet with which most tests of volumes begin."""

from collections.abc import Iterator

import pytest

from unit.reconcile.claims import volumes
from unit.reconcile.harness import Harness


@pytest.fixture
def s() -> Iterator[Harness]:
    with volumes.running() as made:
        yield made
