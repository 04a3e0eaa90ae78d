"""Counts of the pods in a store."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from farlet import context
from farlet.constants import API_SERVER_SUPPORT, TOKENS
from farlet.store import Store
from farlet.telemetry import pod_counts

CONTEXT = context.Context(
    node="far",
    home_id="home",
    namespaces=context.NamespaceMap(home="home", own="farlet"),
    access_default="disabled",
)


def _pod(name: str, phase: str, annotations: dict[str, str] | None) -> Any:
    return {
        "metadata": {
            "namespace": "a",
            "name": name,
            "uid": name,
            "resourceVersion": "1",
            **({} if annotations is None else {"annotations": annotations}),
        },
        "status": {"phase": phase},
    }


def _counts(*, home: tuple[Any, ...] = (), mirrors: tuple[Any, ...] = ()) -> pod_counts.PodCounts:
    store = Store()
    for pod in home:
        store.home.put(pod)
    for mirror in mirrors:
        store.mirrors.put(mirror)
    return pod_counts.PodCounts(store, modes=("home", "remote", "disabled"), ctx=lambda: CONTEXT)


@pytest.mark.parametrize(
    ("annotations", "mode"),
    [
        pytest.param(None, "disabled", id="no annotations: the default"),
        pytest.param({"other": "x"}, "disabled", id="another annotation: the default"),
        pytest.param({API_SERVER_SUPPORT: "remote"}, "remote", id="the selected mode"),
        pytest.param({API_SERVER_SUPPORT: ""}, "invalid", id="an empty value is not a mode"),
        pytest.param({API_SERVER_SUPPORT: "Home"}, "invalid", id="an unknown value is not a mode"),
    ],
)
def test_a_pod_is_counted_in_its_access_mode(annotations: dict[str, str] | None, mode: str) -> None:
    found = _counts(home=(_pod("p", "Pending", annotations),))
    assert found.pods() == {("Pending", mode): 1}


def test_pods_are_counted_by_phase_and_mode() -> None:
    remote = {API_SERVER_SUPPORT: "remote"}
    found = _counts(
        home=(
            _pod("a", "Running", None),
            _pod("b", "Running", None),
            _pod("c", "Running", remote),
            _pod("d", "Failed", remote),
        )
    )
    assert found.pods() == {
        ("Running", "disabled"): 2,
        ("Running", "remote"): 1,
        ("Failed", "remote"): 1,
    }


def test_only_running_mirrors_are_counted() -> None:
    found = _counts(mirrors=tuple(_pod(p, p, None) for p in ("Pending", "Running", "Succeeded")))
    assert found.running() == 1


@pytest.mark.parametrize(
    ("mirrors", "age", "remaining"),
    [
        pytest.param([], 0.0, math.inf, id="no mirror"),
        pytest.param([("Running", None)], 0.0, math.inf, id="no token"),
        pytest.param([("Running", {"x": [400, 4000]})], 600.0, 3000.0, id="one token"),
        pytest.param(
            [("Running", {"x": [400, 4000], "y": [900, 1500]}), ("Pending", {"x": [700, 4300]})],
            600.0,
            500.0,
            id="the oldest, and the first to expire",
        ),
        pytest.param([("Running", {"x": [100, 900]})], 900.0, -100.0, id="an expired one"),
        pytest.param([("Running", {"x": [1200, 4800]})], 0.0, 3800.0, id="a clock that is behind"),
        pytest.param([("Succeeded", {"x": [1, 2]})], 0.0, math.inf, id="a finished mirror"),
        pytest.param(
            [("Running", {"x": [5, 4]}), ("Running", {"x": ["nan", "nan"]})],
            0.0,
            math.inf,
            id="invalid times",
        ),
    ],
)
def test_token_ages_are_those_of_unfinished_mirrors(
    mirrors: list[tuple[str, dict[str, list[int]] | None]], age: float, remaining: float
) -> None:
    found = _counts(
        mirrors=tuple(
            _pod(f"m{n}", phase, None if times is None else {TOKENS: json.dumps(times)})
            for n, (phase, times) in enumerate(mirrors)
        )
    )
    assert (found.token_age(1000.0), found.token_remaining(1000.0)) == (age, remaining)


@pytest.mark.parametrize(
    ("phase", "reason", "counted"),
    [
        pytest.param("Pending", "HomeAPINotConfigured", {"HomeAPINotConfigured": 1}, id="waits"),
        pytest.param("Pending", None, {}, id="starts"),
        pytest.param("Pending", "Evicted", {}, id="a reason of another program"),
        pytest.param("Failed", "UnsupportedPod", {}, id="has ended"),
    ],
)
def test_pods_that_wait_are_counted_by_reason(
    phase: str, reason: str | None, counted: dict[str, int]
) -> None:
    pod = _pod("one", phase, None)
    pod["status"]["reason"] = reason
    assert _counts(home=(pod,)).waiting() == counted
