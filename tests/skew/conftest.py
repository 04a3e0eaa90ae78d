"""Pairs of clusters of different minor versions of Kubernetes; each runs all tests of this folder.

The foreign cluster has a real node, with the kubelet of its version. The home API server has
feature gates on for fields that only its version knows.
"""

from collections.abc import Iterator

import pytest

import lending
from clusters import controlplane, pair
from clusters.cluster import Spec
from faults.fixtures import env
from skew import versions
from skew.versions import Skew

__all__ = ["clusters", "env", "skew"]


@pytest.fixture(scope="package", params=versions.PAIRS, ids=str)
def skew(request: pytest.FixtureRequest) -> Skew:
    """The versions of the clusters."""
    found: Skew = request.param
    return found


@pytest.fixture(scope="package")
def clusters(skew: Skew, request: pytest.FixtureRequest) -> Iterator[pair.Clusters]:
    """The clusters of these versions."""
    if pair.given() is not None:
        pytest.fail("make skew starts its own clusters: unset FARLET_*_KUBECONFIG", pytrace=False)
    features = dict.fromkeys(versions.FEATURES.get(skew.home, ()), True)
    both = pair.start(
        home=Spec(
            "home",
            number=1,
            minor=skew.home,
            options=controlplane.Options(features=features),
        ),
        foreign=Spec("foreign", number=2, minor=skew.foreign, real_node=True),
    )
    with lending.lent(both, request.config):
        yield both
