"""Computes counters of CPU time from rates.

A metrics API (`metrics.k8s.io`) reports the average CPU usage over a window. A kubelet reports the
CPU time used since the start, and its clients divide differences by time. So a counter is the sum
of rate times time, with these rules:

- Between two samples it grows by the later rate times the time between them. A client that divides
  gets exactly the rate that the foreign cluster measured, whatever the windows were.
- It starts at the start of the first known window, or of the container if that is later. This start
  time is reported, so that clients do not divide by time without measurements.
- It never decreases. It starts again, with a new start time, when the container restarts, and when
  the gap between two samples is so long that the usage in between is unknown.
- It is never 0: a running container has used some CPU, and metrics-server leaves out pods with a
  counter of 0.

Example: 500 millicores at 10:00:00 over 15 s, then 250 millicores at 10:01:00: the counter is 7.5 s
and then 7.5 + 60 * 0.25 = 22.5 s.

Pure: times are arguments, in epoch seconds of the foreign cluster's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GAP_SECONDS = 300.0
"""A longer gap, longer also than the later window, restarts the counter."""

MIN_NANOSECONDS = 1_000
"""Lower bound for the CPU time of a program that has started."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Average CPU over the `window` (seconds) that ended `at`, and memory (bytes) at its end."""

    at: float
    window: float
    nanocores: int
    memory: int


@dataclass(frozen=True, slots=True)
class Counter:
    """Core-nanoseconds used from `since` until the last sample, and that sample.

    `started_at` is the start of the measured container or pod. Another value means another
    container or pod of the same name.
    """

    started_at: float
    since: float
    nanoseconds: int
    last: Sample


def new_counter(sample: Sample, *, started_at: float) -> Counter:
    """A counter whose first sample is `sample`."""
    since = max(started_at, sample.at - sample.window)
    used = _used(sample.nanocores, sample.at - since)
    return Counter(started_at, since, max(used, MIN_NANOSECONDS), sample)


def add_sample(before: Counter | None, sample: Sample, *, started_at: float) -> Counter:
    """`before` continued to `sample`; unchanged if the sample is not newer."""
    if before is None or before.started_at != started_at:
        return new_counter(sample, started_at=started_at)
    seconds = sample.at - before.last.at
    if seconds <= 0:
        return before
    if seconds > max(GAP_SECONDS, sample.window):
        return new_counter(sample, started_at=started_at)
    used = before.nanoseconds + _used(sample.nanocores, seconds)
    return replace(before, nanoseconds=used, last=sample)


def _used(nanocores: int, seconds: float) -> int:
    return round(nanocores * max(seconds, 0.0))
