"""How the limit of open files is raised and shared out."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest

from farlet import errors
from farlet.listeners import open_files
from farlet.listeners.open_files import Budget


@pytest.mark.parametrize("limit", [512, 640, 1024, 4096, 20_000, 2**20])
def test_all_connections_leave_the_reserve(limit: int) -> None:
    budget = Budget(limit)
    taken = 2 * budget.kubelet + budget.relays + 2 * open_files.MAX_PROBES
    assert taken + max(open_files.RESERVED, limit // 4) <= limit
    assert budget.kubelet >= 32
    assert budget.relays >= 64


@pytest.mark.parametrize(
    ("limit", "kubelet", "relays"),
    [
        pytest.param(512, 32, 64, id="the least"),
        pytest.param(1024, 160, 320, id="a usual soft limit"),
        pytest.param(2**20, 2048, 4000, id="enough for all"),
    ],
)
def test_the_number_of_connections_follows_from_the_limit(
    limit: int, kubelet: int, relays: int
) -> None:
    assert (Budget(limit).kubelet, Budget(limit).relays) == (kubelet, relays)


Limits = tuple[int, int]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[Limits]]:
    """Replaces the limits of this process; returns those that were set, the last one last."""

    def replace(soft: int, hard: int) -> list[Limits]:
        known = [(soft, hard)]
        monkeypatch.setattr(resource, "getrlimit", lambda _: known[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, limits: known.append(limits))
        return known

    return replace


def test_the_soft_limit_is_raised_to_the_hard_one(
    limits: Callable[[int, int], list[Limits]],
) -> None:
    known = limits(1024, 4096)
    assert open_files.raise_limit() == Budget(4096)
    assert known[-1] == (4096, 4096)


def test_no_limit_is_as_much_as_the_kernel_allows(
    limits: Callable[[int, int], list[Limits]],
) -> None:
    limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert open_files.raise_limit() == Budget(2**20)


def test_a_hard_limit_that_is_too_small_is_reported_with_what_to_set(
    limits: Callable[[int, int], list[Limits]],
) -> None:
    limits(256, 256)
    with pytest.raises(errors.StartError) as caught:
        open_files.raise_limit()
    assert "this process can open only 256 files, and farlet requires 512" in str(caught.value)
    assert "LimitNOFILE=65536" in str(caught.value)
