"""How late farlet's event loop was, from its own histogram, between two moments."""

import math

from prometheus_client.parser import text_string_to_metric_families

from clusters.farlet import Farlet

Buckets = dict[float, float]
"""Cumulative counts by upper bound in seconds."""


async def read(made: Farlet) -> Buckets:
    """The histogram since the start of the process."""
    families = text_string_to_metric_families(await made.metrics())
    found = next(f for f in families if f.name == "farlet_event_loop_lag_seconds")
    return {
        float(one.labels["le"]): one.value for one in found.samples if one.name.endswith("_bucket")
    }


def since(before: Buckets, now: Buckets) -> Buckets:
    """The histogram of the time in between."""
    return {bound: count - before[bound] for bound, count in now.items()}


def quantile(buckets: Buckets, point: float) -> float:
    """Like `histogram_quantile` of Prometheus: linear within a bucket."""
    wanted, below, count = max(buckets.values()) * point, 0.0, 0.0
    for bound, upto in sorted(buckets.items()):
        if upto >= wanted and upto > count:
            if math.isinf(bound):
                return below
            return below + (bound - below) * (wanted - count) / (upto - count)
        below, count = bound, upto
    raise ValueError("the histogram has no observations")
