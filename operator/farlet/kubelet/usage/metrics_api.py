"""Reads a PodMetricsList of a metrics API (`metrics.k8s.io/v1beta1`).

The answer is untrusted input. An invalid list is rejected as a whole, so that no sum is computed
from a part of it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from farlet.forge import quantities, timestamps
from farlet.kubelet.usage.counters import Sample

_NANO = 10**9

MAX_CORES = 1_000_000
MAX_BYTES = 2**60
"""No machine has more; larger numbers would only break sums."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
"""A positive `time.Duration` as Go prints one of a second or more."""

MAX_WINDOW_SECONDS = 3600.0

MAX_CLOCK_SKEW_SECONDS = 300.0
"""By how much the foreign cluster's clock may be ahead."""

_MAX_ERROR_CHARS = 200

PodSamples = Mapping[str, Sample]
"""Samples of one pod by container name."""


@dataclass(frozen=True, slots=True)
class _Measured:
    at: float
    window: float


def read(body: bytes, *, now: float) -> dict[str, PodSamples]:
    """Samples by pod name. Raises `ValueError` for anything but a valid PodMetricsList."""
    try:
        items = orjson.loads(body)["items"]
        return {item["metadata"]["name"]: _pod(item, now=now) for item in items}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as err:
        cause = f"{type(err).__name__}: {err}"[:_MAX_ERROR_CHARS]
        raise ValueError(f"the metrics API sent an invalid PodMetricsList ({cause})") from err


def _pod(item: Mapping[str, object], *, now: float) -> PodSamples:
    measured = _Measured(_epoch(item["timestamp"]), _seconds(item["window"]))
    if not 0 < measured.at <= now + MAX_CLOCK_SKEW_SECONDS:
        raise ValueError(
            f"timestamp {item['timestamp']} is in the future or far in the past; compare the "
            "clocks of both clusters"
        )
    containers = item["containers"]
    if not isinstance(containers, list):
        raise ValueError(f"expected a list of containers, got {type(containers).__name__}")
    return {str(one["name"]): _sample(measured, one["usage"]) for one in containers}


def _sample(measured: _Measured, usage: Mapping[str, object]) -> Sample:
    cpu, memory = (quantities.parse(str(usage[name])).nanos for name in ("cpu", "memory"))
    if not (0 <= cpu <= MAX_CORES * _NANO and 0 <= memory <= MAX_BYTES * _NANO):
        raise ValueError(f"cpu {usage['cpu']} or memory {usage['memory']} is out of range")
    return Sample(measured.at, measured.window, nanocores=cpu, memory=memory // _NANO)


def _epoch(time: object) -> float:
    """Raises `ValueError`."""
    found = timestamps.epoch(time)
    if found is None:
        raise ValueError(f"{time!r} is not a timestamp")
    return found


def _seconds(duration: object) -> float:
    """Seconds of a `metav1.Duration`."""
    found = _DURATION.fullmatch(duration) if isinstance(duration, str) and duration else None
    if found is None:
        raise ValueError(f"window {duration!r} is not a valid duration")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    length = hours * 3600 + minutes * 60 + seconds
    if not 0 < length <= MAX_WINDOW_SECONDS:
        raise ValueError(f"window {duration!r} is out of range")
    return length
