"""Clusters of these tests: fake nodes only, and a home that soon notices a node without heartbeat.

They take the place of the usual clusters, so that every shared fixture plays on them.
"""

from collections.abc import Iterator

import pytest

import lending
from clusters import controlplane, pair
from clusters.cluster import Spec
from faults.fixtures import foreign_door, home_door, stage, start_proxied

__all__ = ["clusters", "foreign_door", "home_door", "stage", "start_proxied"]

GRACE = 40
"""Seconds without heartbeat until home calls a node dead: four heartbeats of farlet's. An API
server that is killed takes one of them to come back, or two on a busy machine."""


@pytest.fixture(scope="package")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Plain clusters with a node lifecycle controller that watches."""
    watchful = controlplane.Options(node_grace=f"{GRACE}s")
    both = pair.start(home=Spec("home", options=watchful), foreign=Spec("foreign"))
    with lending.lent(both, request.config):
        yield both
