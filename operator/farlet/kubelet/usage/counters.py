"""Makes counters of CPU time from rates, since rates are all that a metrics API gives.

`metrics.k8s.io` says how much CPU a container used on average over some window that ended at some
time. A kubelet says how much it has used since it began, and whoever asks divides differences by
time. So a counter is the sum of rate times time, and these rules keep it honest:

- Between two samples it grows by the later rate times the time between them: who divides gets
  back just the rate that was measured abroad, whatever the windows were.
- It begins at the start of the first window that is known, or of the container if that was later;
  this is the start time that is told, so that nobody divides by time that nobody measured.
- It never goes back. A container that restarted, and one that nobody asked about for so long that
  the time between could only be guessed, begin anew, with a new start time.
- It is never 0: what runs has used some, and metrics-server leaves out a pod with a counter of 0.

Pure: times are arguments, epoch seconds of the clock of the cluster that measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GAP_SECONDS = 300.0
"""Between two samples further apart than this, and than the later window, nothing is assumed."""

LEAST_NANOSECONDS = 1_000
"""What a program has used at the very least, once it has been started."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Average use over the `window` (seconds) that ended `at`: nanocores; memory then: bytes."""

    at: float
    window: float
    nanocores: int
    memory: int


@dataclass(frozen=True, slots=True)
class Counter:
    """Core-nanoseconds used from `since` until the last sample was taken, and that sample.

    `born`: when that which is counted began; another value is another thing of the same name.
    """

    born: float
    since: float
    nanoseconds: int
    last: Sample


def begun(sample: Sample, *, born: float) -> Counter:
    """A counter that knows nothing of the time before `sample`."""
    since = max(born, sample.at - sample.window)
    used = _used(sample.nanocores, sample.at - since)
    return Counter(born, since, max(used, LEAST_NANOSECONDS), sample)


def counted(before: Counter | None, sample: Sample, *, born: float) -> Counter:
    """`before` and what was used until `sample`; a sample that is not newer changes nothing."""
    if before is None or before.born != born:
        return begun(sample, born=born)
    seconds = sample.at - before.last.at
    if seconds <= 0:
        return before
    if seconds > max(GAP_SECONDS, sample.window):
        return begun(sample, born=born)
    used = before.nanoseconds + _used(sample.nanocores, seconds)
    return replace(before, nanoseconds=used, last=sample)


def _used(nanocores: int, seconds: float) -> int:
    return round(nanocores * max(seconds, 0.0))
