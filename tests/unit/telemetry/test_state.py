"""What a process reports at `/state`: bounded, and readable by other versions of farlet."""

from __future__ import annotations

import json

import aiohttp
import pytest

from farlet import errors
from farlet.planning import api_refusals
from farlet.planning.actions import Step
from farlet.settings.values import Address
from farlet.telemetry import probes, state
from farlet.telemetry.state import State

FULL = State(
    node="far",
    version="0.2.0",
    phase="serving",
    leader=True,
    problems={"foreign": "no answer"},
    pods={"home": {"Running": 2, "Pending": 1}, "remote": {"Running": 1}},
    waiting={"HomeAPINotConfigured": 1},
    namespaces=(state.NamespaceState(home="shop", foreign="shop-home"),),
    expires=state.Expiry(pod_token=1000.5),
)


def test_a_state_is_read_as_it_was_written() -> None:
    assert state.read(FULL.model_dump_json().encode()) == FULL
    assert FULL.pod_count == 4


def test_fields_of_a_newer_version_are_ignored_and_of_an_older_one_are_empty() -> None:
    assert state.read(b'{"node": "far", "phase": "starting", "novel": {"x": 1}}') == State(
        node="far", phase="starting"
    )


def test_texts_are_cut() -> None:
    found = State(node="far", phase="serving", problems={"x" * 5000: "y" * 5000})
    ((check, problem),) = found.problems.items()
    assert len(check) == len(problem) == state.MAX_TEXT
    assert problem.endswith("yyy...")
    assert state.read(state.write(found)) == found


def test_the_command_in_the_problem_of_a_namespace_is_not_cut() -> None:
    denial = (
        'pods is forbidden: User "system:serviceaccount:farlet-far:farlet" cannot list resource '
        '"pods" in API group "" in the namespace "a-home-namespace-with-a-long-name-home"'
    )
    refused = api_refusals.of(
        errors.Forbidden(
            cluster="foreign", request="", code=403, status_reason="Forbidden", message=denial
        ),
        step=Step.NAMESPACE,
        home="a-home-namespace-with-a-long-name",
    )
    assert refused is not None
    found = state.NamespaceState(home="a", foreign="b", problem=refused.message)
    assert found.problem == refused.message
    assert "--node far --namespace a-home-namespace-with-a-long-name (" in found.problem


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"phase": "serving"}', id="no node"),
        pytest.param(b'{"node": "far", "phase": 1}', id="a number as phase"),
        pytest.param(
            b'{"node": "far", "phase": "serving", "expires": {"pod_token": 1e400}}',
            id="a time without an end",
        ),
        pytest.param(
            b'{"node": "far", "phase": "serving", "expires": {"pod_token": 1e308}}',
            id="a time after the year 9999",
        ),
        pytest.param(
            b'{"node": "far", "phase": "serving", "waiting": {"Unsupported": 1'
            + b"0" * 4000
            + b"}}",
            id="a number that no API server stores",
        ),
        pytest.param(
            b'{"node": "far", "phase": "serving", "pods": {"home": {"Running": -1}}}',
            id="fewer pods than none",
        ),
        pytest.param(
            json.dumps({"node": "far", "phase": "serving", "x": "y" * state.MAX_BYTES}).encode(),
            id="too long",
        ),
    ],
)
def test_anything_else_is_rejected(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"state|answer|State"):
        state.read(raw)


async def test_the_probe_port_serves_it() -> None:
    async with (
        probes.serve(
            metrics=None,
            probes=probes.Probes(),
            metrics_at=None,
            health_at=Address("127.0.0.1", 0),
            state=lambda: FULL,
        ) as served,
        aiohttp.ClientSession() as client,
        client.get(f"http://{served.health}{state.PATH}") as answer,
    ):
        assert answer.content_type == "application/json"
        assert state.read(await answer.read()) == FULL


def test_a_state_that_is_too_long_lacks_its_last_namespaces() -> None:
    entries = tuple(
        state.NamespaceState(home=f"{i:063}", foreign="f" * 63, problem="\x01" * 5000)
        for i in range(state.MAX_ENTRIES)
    )
    worst = State(node="far", phase="serving", namespaces=entries)
    raw = state.write(worst)
    found = state.read(raw)
    one = len(entries[0].model_dump_json())
    assert len(raw) > state.MAX_BYTES - one - 10, "no more are left out than necessary"
    assert found.namespaces == entries[: len(found.namespaces)]
    problem = found.namespaces[0].problem
    assert problem == "\x01" * (state.MAX_TEXT - 3) + "..."


async def test_a_state_is_built_once_a_second() -> None:
    built: list[int] = []

    def build() -> State:
        built.append(1)
        return FULL

    async with (
        probes.serve(
            metrics=None,
            probes=probes.Probes(),
            metrics_at=None,
            health_at=Address("127.0.0.1", 0),
            state=build,
        ) as served,
        aiohttp.ClientSession() as client,
    ):
        for _ in range(3):
            async with client.get(f"http://{served.health}{state.PATH}") as answer:
                assert state.read(await answer.read()) == FULL
    assert len(built) == 1


async def test_a_process_without_a_state_has_no_such_path() -> None:
    async with (
        probes.serve(
            metrics=None,
            probes=probes.Probes(),
            metrics_at=None,
            health_at=Address("127.0.0.1", 0),
        ) as served,
        aiohttp.ClientSession() as client,
        client.get(f"http://{served.health}{state.PATH}") as answer,
    ):
        assert answer.status == 404
