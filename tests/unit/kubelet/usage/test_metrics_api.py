"""Reading a PodMetricsList, and rejecting everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farlet.kubelet.usage import metrics_api
from farlet.kubelet.usage.counters import Sample


def _item(**changes: Any) -> dict[str, Any]:
    """An item in the format of metrics-server."""
    return {
        "metadata": {
            "name": "web",
            "namespace": "shop-home",
            "creationTimestamp": "2026-07-01T10:00:30Z",
        },
        "timestamp": "2026-07-01T10:00:20Z",
        "window": "15.047s",
        "containers": [{"name": "main", "usage": {"cpu": "1532480n", "memory": "12096Ki"}}],
    } | changes


def _usage(cpu: object, memory: object) -> dict[str, Any]:
    return {"containers": [{"name": "main", "usage": {"cpu": cpu, "memory": memory}}]}


def _list(*items: Any) -> bytes:
    return json.dumps({"kind": "PodMetricsList", "metadata": {}, "items": items}).encode()


AT = 1782900020.0
"""2026-07-01T10:00:20Z"""


def test_a_list_gives_samples_by_pod_and_container() -> None:
    sidecar = {"name": "log", "usage": {"cpu": "0", "memory": "1Mi"}}
    two = _item(metadata={"name": "two"}, containers=[*_item()["containers"], sidecar])
    assert metrics_api.read(_list(_item(), two), now=AT) == {
        "web": {"main": Sample(AT, 15.047, 1532480, 12096 * 1024)},
        "two": {
            "main": Sample(AT, 15.047, 1532480, 12096 * 1024),
            "log": Sample(AT, 15.047, 0, 2**20),
        },
    }


def test_an_empty_list_gives_no_samples() -> None:
    assert metrics_api.read(_list(), now=AT) == {}


@pytest.mark.parametrize(
    ("cpu", "memory", "nanocores", "size"),
    [
        pytest.param("250m", "64Mi", 250_000_000, 64 * 2**20, id="milli and mebi"),
        pytest.param("2", "1G", 2_000_000_000, 10**9, id="whole and decimal"),
        pytest.param("12u", "1500m", 12_000, 1, id="micro, and a fraction of a byte"),
        pytest.param(3, 4096, 3_000_000_000, 4096, id="numbers in place of strings"),
    ],
)
def test_quantities_are_read(cpu: object, memory: object, nanocores: int, size: int) -> None:
    found = metrics_api.read(_list(_item(**_usage(cpu, memory))), now=AT)["web"]["main"]
    assert (found.nanocores, found.memory) == (nanocores, size)


def test_a_small_clock_skew_is_accepted() -> None:
    assert metrics_api.read(_list(_item()), now=AT - 299)["web"]["main"].at == AT


@pytest.mark.parametrize(
    ("window", "seconds"),
    [
        pytest.param("30s", 30.0, id="seconds"),
        pytest.param("1m0s", 60.0, id="a minute"),
        pytest.param("1m30.5s", 90.5, id="both"),
        pytest.param("1h0m0s", 3600.0, id="an hour"),
    ],
)
def test_windows_are_read_as_go_writes_them(window: str, seconds: float) -> None:
    assert metrics_api.read(_list(_item(window=window)), now=AT)["web"]["main"].window == seconds


INVALID = {
    "not JSON": b"404 page not found",
    "nothing": b"",
    "a number": b"7",
    "no items": b"{}",
    "items are null": b'{"items": null}',
    "items are strings": _list("web"),
    "no name": _list(_item(metadata={})),
    "no time": _list(_item(timestamp=None)),
    "not a time": _list(_item(timestamp="yesterday")),
    "a time without a zone": _list(_item(timestamp="2026-07-01T10:00:20")),
    "a time outside the range": _list(_item(timestamp="9999-12-31T23:59:59-23:59")),
    "a time in the future": _list(_item(timestamp="2026-07-01T10:05:21Z")),
    "the zero time": _list(_item(timestamp="0001-01-01T00:00:00Z")),
    "no window": _list(_item(window="")),
    "an empty window": _list(_item(window="0s")),
    "a window that is not a duration": _list(_item(window="soon")),
    "a window of a week": _list(_item(window="168h0m0s")),
    "a window that is a number": _list(_item(window=15)),
    "containers are null": _list(_item(containers=None)),
    "containers are a string": _list(_item(containers="main")),
    "no usage": _list(_item(containers=[{"name": "main"}])),
    "no CPU": _list(_item(containers=[{"name": "main", "usage": {"memory": "1Mi"}}])),
    "negative CPU": _list(_item(**_usage("-1m", "1Mi"))),
    "negative memory": _list(_item(**_usage("1m", "-1"))),
    "too much CPU": _list(_item(**_usage("10M", "1Mi"))),
    "too much memory": _list(_item(**_usage("1m", "2Ei"))),
    "CPU that is not a quantity": _list(_item(**_usage("much", "1Mi"))),
    "CPU with 100,000 digits": _list(_item(**_usage("1" * 100_000, "1Mi"))),
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_an_invalid_list_is_rejected_as_a_whole(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        metrics_api.read(body, now=AT)
