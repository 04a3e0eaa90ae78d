"""Reads what a metrics API (`metrics.k8s.io/v1beta1`) answers when asked for pods.

It is another cluster's word and may be anything: what is no PodMetricsList is refused whole, so
that nobody adds up parts of it. Pure.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from farlet.forge import quantities
from farlet.kubelet.usage.counters import Sample

_NANO = 10**9

MOST_CORES = 1_000_000
MOST_BYTES = 2**60
"""No machine has more; a larger number would only break whoever adds it up."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
"""A positive `time.Duration` as Go prints one of a second or more."""

LONGEST_WINDOW_SECONDS = 3600.0

AHEAD_SECONDS = 300.0
"""How far the clock of the other cluster may be ahead."""

_TOLD = 200
"""Characters of what is wrong with an answer."""

PodSamples = Mapping[str, Sample]
"""Samples of one pod by the name of the container."""


@dataclass(frozen=True, slots=True)
class _Taken:
    at: float
    window: float


def read(body: bytes, *, now: float) -> dict[str, PodSamples]:
    """Samples by the name of the pod. Raises `ValueError` for anything but a PodMetricsList."""
    try:
        items = orjson.loads(body)["items"]
        return {item["metadata"]["name"]: _pod(item, now=now) for item in items}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as err:
        why = f"{type(err).__name__}: {err}"
        raise ValueError(f"it answers with no PodMetricsList ({why[:_TOLD]})") from err


def _pod(item: Mapping[str, object], *, now: float) -> PodSamples:
    taken = _Taken(epoch(item["timestamp"]), _seconds(item["window"]))
    if not 0 < taken.at <= now + AHEAD_SECONDS:
        raise ValueError(
            f"{item['timestamp']} is no time at which anything was measured; compare the clocks of "
            "both clusters"
        )
    containers = item["containers"]
    if not isinstance(containers, list):
        raise ValueError("containers are no list")
    return {str(one["name"]): _sample(taken, one["usage"]) for one in containers}


def _sample(taken: _Taken, usage: Mapping[str, object]) -> Sample:
    cpu, memory = (quantities.parse(str(usage[name])).nanos for name in ("cpu", "memory"))
    if not (0 <= cpu <= MOST_CORES * _NANO and 0 <= memory <= MOST_BYTES * _NANO):
        raise ValueError(f"cpu {usage['cpu']} and memory {usage['memory']} are no use of a machine")
    return Sample(taken.at, taken.window, nanocores=cpu, memory=memory // _NANO)


def epoch(time: object) -> float:
    """Epoch seconds of a `metav1.Time`. Raises `ValueError`."""
    if not isinstance(time, str):
        raise ValueError(f"{time!r} is no time")
    moment = datetime.datetime.fromisoformat(time)
    if moment.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return moment.timestamp()


def _seconds(duration: object) -> float:
    """Seconds of a `metav1.Duration`."""
    found = _DURATION.fullmatch(duration) if isinstance(duration, str) and duration else None
    if found is None:
        raise ValueError(f"{duration!r} is no window")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    length = hours * 3600 + minutes * 60 + seconds
    if not 0 < length <= LONGEST_WINDOW_SECONDS:
        raise ValueError(f"{duration!r} is no window over which anybody measures")
    return length
