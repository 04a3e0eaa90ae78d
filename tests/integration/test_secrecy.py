"""No token is found anywhere but in the Secret that it was made for.

The tokens that are looked for are the real ones, read from the foreign Secrets at the end of a run
that had every reason to talk: debug logs, refusals, a restart, an API server whose errors recite
what was sent to it.
"""

import asyncio
import base64
import json
import secrets
from collections.abc import Callable, Iterable, Mapping

import pytest

from clusters import farlet as farlets
from clusters import rest
from conftest import StartFarlet
from faults import failures, proxy, writes
from faults.fixtures import StartProxied
from faults.stage import Stage
from integration import realpods

pytestmark = pytest.mark.clusters

PODS = 6
AUDIENCES = ("one", "two")
LEAST = 10

# The API server is to say all that it was sent, but for line breaks, which messages cannot have.
RECITE = (
    "'not with ' + object.data.filter(k, !string(object.data[k]).contains('\\n'))"
    ".map(k, string(object.data[k])).join(' ')"
)


def shapes(token: str) -> set[str]:
    """How a token may look where somebody has let it slip: plain, cut short, or in base64."""
    signature = token.rsplit(".", 1)[1]
    plain = {token, signature[:40]}
    # Within a longer text that was encoded, base64 begins at one of three offsets.
    coded = {
        base64.b64encode(b"x" * offset + token.encode())[4 if offset else 0 : 120].decode()
        for offset in range(3)
    }
    return plain | coded


def shapes_of_key(key: str) -> set[str]:
    """Pieces of a private key of SSH as they may stand somewhere, plain or in base64 once more."""
    body = "".join(key.splitlines()[1:-1])
    plain = {body[at : at + 40] for at in range(70, len(body) - 40, 40)}
    coded = {
        base64.b64encode(b"x" * offset + key.encode())[200:260].decode() for offset in range(3)
    }
    return plain | coded


def found(
    wanted: Iterable[str],
    places: Mapping[str, str],
    shapes: Callable[[str], set[str]] = shapes,
) -> list[str]:
    """Where any of the tokens, or what else has `shapes`, stands in any of them."""
    looked_for = {shape for one in wanted for shape in shapes(one)}
    return [place for place, text in places.items() if any(shape in text for shape in looked_for)]


async def tokens_of(stage: Stage) -> set[str]:
    """The tokens that farlet has sent abroad."""
    values = {
        base64.b64decode(value).decode()
        for secret in (await stage.sight()).secrets
        for value in secret["data"].values()
    }
    return {value for value in values if value.count(".") == 2 and value.startswith("ey")}


async def places(stage: Stage, farlet: farlets.Farlet) -> dict[str, str]:
    """Everything that farlet has written or said, but for the Secrets."""
    told: dict[str, str] = {
        "log": farlet.log,
        "metrics": await farlet.metrics(),
        "command line": json.dumps(farlet.process.command),
    }
    for side, api, namespace in (
        (stage.clusters.home, stage.home, stage.workspace.home),
        (stage.clusters.foreign, stage.foreign, stage.workspace.foreign),
    ):
        parts = side.parts
        assert parts is not None
        assert parts.plane.audit_log is not None
        told[f"audit log of {side.name}"] = parts.plane.audit_log.path.read_text()
        for resource in ("pods", "events", "configmaps"):
            objects = await api.list(resource, namespace=namespace)
            told[f"{resource} of {side.name}"] = json.dumps(objects)
        for secret in await api.list("secrets", namespace=namespace):
            about = f"metadata of {secret['metadata']['name']}"
            told[about] = json.dumps(secret["metadata"])
    return told


async def test_no_token_is_found_anywhere_and_a_planted_one_is(
    stage: Stage,
    start_proxied: StartProxied,
    home_door: proxy.Proxy,
    foreign_door: proxy.Proxy,
) -> None:
    farlet = await start_proxied(stage.node, settings={"log-level": "debug"})
    # Requests that fail with a token in their hands.
    for kind in ("secret", "token", "mirror"):
        door = home_door if writes.KINDS[kind].side == writes.HOME else foreign_door
        match = writes.KINDS[kind].match
        door.on(match, failures.refused(500, reason="InternalError"), times=1)
        door.on(match, failures.cut(), times=1)
        door.on(match, failures.refused(422, reason="Invalid"), times=1)
    sources = [{"serviceAccountToken": {"path": one, "audience": one}} for one in AUDIENCES]
    more = {"volumes": [{"name": "more", "projected": {"sources": sources}}]}
    await stage.create(*(stage.pod(f"pod-{number}", spec=more) for number in range(PODS)))
    await stage.settled()
    await farlet.restart()
    await stage.create(stage.pod("late", spec=more))
    await stage.settled()

    tokens = await tokens_of(stage)
    assert len(tokens) >= LEAST
    told = await places(stage, farlet)
    assert all(text for place, text in told.items() if place != "configmaps of home")
    assert found(tokens, told) == []

    victim = next(iter(tokens))
    data = base64.b64encode(victim.encode()).decode()
    body = base64.b64encode(json.dumps({"token": victim}).encode()).decode()
    planted = {"plain": f'"{victim}"', "in base64": data, "in a body in base64": body}
    assert found(tokens, told | planted) == list(planted)


async def test_an_api_server_that_recites_what_it_was_sent_is_not_quoted_with_tokens(
    stage: Stage, start_farlet: StartFarlet
) -> None:
    name = f"recite-{secrets.token_hex(3)}"
    await _refuse_secrets(stage, name)
    farlet = await start_farlet(stage.node)
    await stage.create(stage.pod("one"))
    event = await realpods.event(
        stage.home, "one", namespace=stage.workspace.home, reason="ForeignRejected"
    )
    assert "not with" in event["message"]
    recited = (await places(stage, farlet))["audit log of foreign"]
    assert "not with" in recited  # the foreign API server itself says it all
    await stage.foreign.delete("validatingadmissionpolicybindings", name=name)
    await stage.foreign.delete("validatingadmissionpolicies", name=name)
    await stage.settled()

    tokens = await tokens_of(stage)
    assert len(tokens) == 1  # the very one that was refused before: it was kept
    told = await places(stage, farlet)
    del told["audit log of foreign"]
    assert found(tokens, told) == []


async def _refuse_secrets(stage: Stage, name: str) -> None:
    only = {"matchLabels": {"kubernetes.io/metadata.name": stage.workspace.foreign}}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["secrets"],
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": only},
        "validations": [{"expression": "false", "messageExpression": RECITE}],
    }
    meta = {"name": name}
    await stage.foreign.create("validatingadmissionpolicies", {"metadata": meta, "spec": spec})
    await stage.foreign.create(
        "validatingadmissionpolicybindings",
        {"metadata": meta, "spec": {"policyName": name, "validationActions": ["Deny"]}},
    )
    probe = {"metadata": {"name": "probe"}, "stringData": {"word": "shibboleth"}}
    async with asyncio.timeout(90):
        while True:
            try:
                await stage.foreign.create(
                    "secrets", probe, namespace=stage.workspace.foreign, dryRun="All"
                )
            except rest.ApiError as error:
                # Bytes or their base64: what the policy sees is what it recites.
                if any(word in str(error) for word in ("shibboleth", "c2hpYmJvbGV0aA==")):
                    return
                raise
            await asyncio.sleep(0.1)
