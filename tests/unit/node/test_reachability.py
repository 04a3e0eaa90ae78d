"""Which answers show that the foreign API server is reachable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from farlet import errors
from farlet.client import resources
from farlet.constants import JSON, ObjectKey, Reason
from farlet.errors import Refused
from farlet.forge.node_health import Foreign
from farlet.node.reachability import Reachability
from unit import faketime
from unit.fakeclient import FakeClient


def refusal(code: int, kind: type[errors.ApiError] = errors.ApiError) -> errors.ApiError:
    return kind(cluster="foreign", request="GET", code=code, status_reason="", message="no")


OBJECT = ObjectKey("farlet", "farlet-1")
UNREACHABLE_ERROR = errors.Unreachable(cluster="foreign", request="GET", cause="connection refused")


class Server(FakeClient):
    """Answers, raises, or answers after a delay."""

    def __init__(self, problem: Callable[[float], Exception | float | None]) -> None:
        self._problem = problem
        self.probes = 0

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        self.probes += path == resources.CONFIG_MAPS.path(*OBJECT)
        problem = self._problem(asyncio.get_running_loop().time())
        if isinstance(problem, Exception):
            raise problem
        await asyncio.sleep(problem or 0)
        return {"gitVersion": "v1", "metadata": {"name": OBJECT.name, "uid": "u"}}


def probe(
    problem: Callable[[float], Exception | float | None],
    *,
    seconds: float,
    other_problem: str | None = None,
) -> tuple[Reachability, list[tuple[int, Foreign]], Server]:
    """The final state, every change with its second, and the server."""
    server = Server(problem)
    changes: list[tuple[int, Foreign]] = []

    async def main() -> Reachability:
        def changed() -> None:
            changes.append((round(asyncio.get_running_loop().time()), reach.state))

        async def read() -> None:
            await server.get(resources.CONFIG_MAPS, OBJECT.name, namespace=OBJECT.namespace)

        reach = Reachability(
            server,
            probe=read,
            other_problem=lambda: (
                None if other_problem is None else Refused(Reason.FOREIGN_FORBIDDEN, other_problem)
            ),
            after=40,
            on_change=changed,
        )
        task = asyncio.create_task(reach.run())
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
        return reach

    return faketime.run(main()), changes, server


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        pytest.param(None, Foreign.REACHABLE, id="the object"),
        pytest.param(refusal(404, errors.NotFound), Foreign.REACHABLE, id="not found"),
        pytest.param(refusal(403, errors.Forbidden), Foreign.REACHABLE, id="forbidden"),
        pytest.param(
            refusal(401, errors.Unauthorized), Foreign.UNREACHABLE, id="unauthorized for long"
        ),
        pytest.param(refusal(429, errors.Throttled), Foreign.UNREACHABLE, id="throttled"),
        pytest.param(UNREACHABLE_ERROR, Foreign.UNREACHABLE, id="no answer"),
        pytest.param(errors.StartError("no kubeconfig"), Foreign.UNREACHABLE, id="no request sent"),
        pytest.param(60.0, Foreign.UNREACHABLE, id="too late"),
    ],
)
def test_the_state_after_an_answer(answer: Exception | float | None, state: Foreign) -> None:
    reach, changes, _ = probe(lambda _: answer, seconds=90)
    assert reach.state is state
    assert changes[-1][1] is state


def test_another_problem_makes_a_server_that_answers_unreachable() -> None:
    reach, _, __ = probe(lambda _: None, seconds=90, other_problem="the inventory is broken")
    assert reach.state is Foreign.UNREACHABLE
    assert reach.problem is not None
    assert reach.problem.reason is Reason.FOREIGN_FORBIDDEN
    assert reach.problem.message == "the inventory is broken"


def test_an_outage_counts_after_its_time_and_an_answer_immediately() -> None:
    reach, changes, _ = probe(lambda at: UNREACHABLE_ERROR if 100 < at < 200 else None, seconds=300)
    (first, up), (second, down), (third, again) = changes
    assert (up, down, again) == (Foreign.REACHABLE, Foreign.UNREACHABLE, Foreign.REACHABLE)
    assert first == 0
    assert 140 <= second <= 155
    assert 200 <= third <= 203
    assert reach.problem is None


def test_rejected_credentials_count_at_once() -> None:
    rejected = refusal(401, errors.Unauthorized)
    reach, changes, _ = probe(lambda at: rejected if 100 < at < 120 else None, seconds=200)
    assert [state for _, state in changes] == [
        Foreign.REACHABLE,
        Foreign.REFUSED,
        Foreign.REACHABLE,
    ]
    assert 100 <= changes[1][0] <= 110
    assert reach.problem is None


def test_a_server_that_answers_sometimes_stays_reachable() -> None:
    _, changes, __ = probe(lambda at: UNREACHABLE_ERROR if at % 30 > 5 else None, seconds=600)
    assert changes == [(0, Foreign.REACHABLE)]


def test_a_healthy_server_is_probed_six_times_a_minute() -> None:
    _, __, server = probe(lambda _: None, seconds=59)
    assert server.probes == 6
