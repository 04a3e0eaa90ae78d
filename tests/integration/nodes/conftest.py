"""Clusters for these tests: fake nodes only, and a short grace period for nodes without heartbeat.

They replace the usual clusters, so every shared fixture uses them.
"""

from collections.abc import Iterator

import pytest

import lending
from clusters import controlplane, pair
from clusters.cluster import Spec
from faults.fixtures import env, foreign_proxy, home_proxy, start_proxied

__all__ = ["clusters", "env", "foreign_proxy", "home_proxy", "start_proxied"]

GRACE = 40
"""Seconds without heartbeat after which the home cluster marks a node dead: four heartbeats. A
killed API server needs one of them to come back, or two on a busy machine."""


@pytest.fixture(scope="package")
def clusters(request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """Clusters with a node lifecycle controller with a short grace period."""
    watchful = controlplane.Options(node_grace=f"{GRACE}s")
    both = pair.start(home=Spec("home", options=watchful), foreign=Spec("foreign"))
    with lending.lent(both, request.config):
        yield both
