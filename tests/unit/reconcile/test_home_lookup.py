"""Live reads of home pods: how many requests they cost, and what each caller learns."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from farlet import errors
from farlet.client.api_client import ApiClient
from farlet.client.resources import ObjectList, Resource
from farlet.constants import ObjectKey
from farlet.k8s_types import Pod
from farlet.reconcile.home_lookup import HomeLookup

NODE = "spec.nodeName=virtual"


class Home:
    """An API server with some pods, that answers once `answer` is set."""

    def __init__(self, *names: str) -> None:
        self.pods = list(names)
        self.lists: list[tuple[str, str]] = []
        self.answer = asyncio.Event()
        self.problem: errors.FarletError | None = None

    async def list_all(
        self, resource: Resource[Pod], *, namespace: str, field_selector: str
    ) -> ObjectList[Pod]:
        self.lists.append((namespace, field_selector))
        found = list(self.pods)
        await self.answer.wait()
        if self.problem is not None:
            raise self.problem
        return ObjectList([cast("Pod", {"metadata": {"name": name}}) for name in found], "7")


def lookup(home: Home) -> HomeLookup:
    return HomeLookup(cast("ApiClient", home), node=lambda: "virtual")


def found(pod: Pod | None) -> str | None:
    return None if pod is None else pod["metadata"]["name"]


async def started(
    count: int, home: HomeLookup, namespace: str = "shop"
) -> list[asyncio.Task[Pod | None]]:
    """Tasks that look up pods of this many names, and have sent their requests."""
    tasks = [asyncio.create_task(home.find(ObjectKey(namespace, f"pod-{n}"))) for n in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_one_caller_lists_by_name() -> None:
    home = Home("pod-0", "pod-1")
    home.answer.set()
    assert found(await lookup(home).find(ObjectKey("shop", "pod-0"))) == "pod-0"
    assert home.lists == [("shop", f"metadata.name=pod-0,{NODE}")]


async def test_three_hundred_callers_share_one_list_of_the_namespace() -> None:
    home = Home("pod-5")
    looking = lookup(home)
    tasks = await started(300, looking)
    home.answer.set()
    results = await asyncio.gather(*tasks)
    assert [n for n, pod in enumerate(results) if pod is not None] == [5]
    assert home.lists == [("shop", NODE)]


async def test_namespaces_do_not_wait_for_each_other() -> None:
    home = Home()
    looking = lookup(home)
    tasks = [*await started(2, looking), *await started(2, looking, "other")]
    assert home.lists == [("shop", NODE), ("other", NODE)]
    home.answer.set()
    await asyncio.gather(*tasks)


async def test_a_caller_during_a_list_is_answered_by_a_later_list() -> None:
    home = Home()
    looking = lookup(home)
    first = await started(1, looking)
    home.pods = ["pod-0"]
    second = await started(1, looking)
    home.answer.set()
    assert found(await first[0]) is None
    assert found(await second[0]) == "pod-0"
    assert len(home.lists) == 2


async def test_a_failure_reaches_all_waiting_callers_and_no_later_one() -> None:
    home = Home("pod-0")
    looking = lookup(home)
    tasks = await started(3, looking)
    home.problem = errors.Unreachable(cluster="home", request="LIST", cause="refused")
    home.answer.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results == [home.problem] * 3
    home.problem = None
    assert found(await looking.find(ObjectKey("shop", "pod-0"))) == "pod-0"


async def test_a_caller_that_is_cancelled_leaves_the_others_waiting() -> None:
    home = Home("pod-1")
    looking = lookup(home)
    given_up, waiting = await started(2, looking)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    home.answer.set()
    assert found(await waiting) == "pod-1"
