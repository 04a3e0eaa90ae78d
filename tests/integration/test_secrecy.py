"""Tokens appear nowhere except in their Secrets.

The test reads the real tokens from the foreign Secrets, after a run with debug logs, rejected
requests, a restart, and an API server whose errors quote what it received.
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
from faults.environment import Environment
from faults.fixtures import StartProxied
from integration import realpods

pytestmark = pytest.mark.clusters

PODS = 6
AUDIENCES = ("one", "two")
LEAST = 10

# The API server quotes everything it received, except line breaks, which messages cannot contain.
RECITE = (
    "'not with ' + object.data.filter(k, !string(object.data[k]).contains('\\n'))"
    ".map(k, string(object.data[k])).join(' ')"
)


def shapes(token: str) -> set[str]:
    """Forms in which a token may leak: plain, truncated, or in base64."""
    signature = token.rsplit(".", 1)[1]
    plain = {token, signature[:40]}
    # In a longer encoded text, base64 starts at one of three offsets.
    coded = {
        base64.b64encode(b"x" * offset + token.encode())[4 if offset else 0 : 120].decode()
        for offset in range(3)
    }
    return plain | coded


def shapes_of_key(key: str) -> set[str]:
    """Parts of an SSH private key, plain or encoded in base64 again."""
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
    """The texts that contain any of the secrets in any of its `shapes`."""
    looked_for = {shape for one in wanted for shape in shapes(one)}
    return [place for place, text in places.items() if any(shape in text for shape in looked_for)]


async def tokens_of(env: Environment) -> set[str]:
    """The tokens that farlet has sent to the foreign cluster."""
    values = {
        base64.b64decode(value).decode()
        for secret in (await env.observe()).secrets
        for value in secret["data"].values()
    }
    return {value for value in values if value.count(".") == 2 and value.startswith("ey")}


async def places(env: Environment, farlet: farlets.Farlet) -> dict[str, str]:
    """Everything that farlet has written or logged, except the Secrets."""
    texts: dict[str, str] = {
        "log": farlet.log,
        "metrics": await farlet.metrics(),
        "command line": json.dumps(farlet.process.command),
    }
    for side, api, namespace in (
        (env.clusters.home, env.home, env.workspace.home),
        (env.clusters.foreign, env.foreign, env.workspace.foreign),
    ):
        parts = side.parts
        assert parts is not None
        assert parts.plane.audit_log is not None
        texts[f"audit log of {side.name}"] = parts.plane.audit_log.path.read_text()
        for resource in ("pods", "events", "configmaps"):
            objects = await api.list(resource, namespace=namespace)
            texts[f"{resource} of {side.name}"] = json.dumps(objects)
        for secret in await api.list("secrets", namespace=namespace):
            about = f"metadata of {secret['metadata']['name']}"
            texts[about] = json.dumps(secret["metadata"])
    return texts


async def test_no_token_is_found_but_a_planted_one_is(
    env: Environment,
    start_proxied: StartProxied,
    home_proxy: proxy.Proxy,
    foreign_proxy: proxy.Proxy,
) -> None:
    farlet = await start_proxied(env.node, settings={"log-level": "debug"})
    # Failing requests that contain a token.
    for kind in ("secret", "token", "mirror"):
        fault_proxy = home_proxy if writes.KINDS[kind].side == writes.HOME else foreign_proxy
        match = writes.KINDS[kind].match
        fault_proxy.on(match, failures.refused(500, reason="InternalError"), times=1)
        fault_proxy.on(match, failures.cut(), times=1)
        fault_proxy.on(match, failures.refused(422, reason="Invalid"), times=1)
    sources = [{"serviceAccountToken": {"path": one, "audience": one}} for one in AUDIENCES]
    more = {"volumes": [{"name": "more", "projected": {"sources": sources}}]}
    await env.create(*(env.pod(f"pod-{number}", spec=more) for number in range(PODS)))
    await env.settled()
    await farlet.restart()
    await env.create(env.pod("late", spec=more))
    await env.settled()

    tokens = await tokens_of(env)
    assert len(tokens) >= LEAST
    texts = await places(env, farlet)
    assert all(text for place, text in texts.items() if place != "configmaps of home")
    assert found(tokens, texts) == []

    victim = next(iter(tokens))
    data = base64.b64encode(victim.encode()).decode()
    body = base64.b64encode(json.dumps({"token": victim}).encode()).decode()
    planted = {"plain": f'"{victim}"', "in base64": data, "in a body in base64": body}
    assert found(tokens, texts | planted) == list(planted)


async def test_tokens_in_errors_of_an_api_server_are_not_passed_on(
    env: Environment, start_farlet: StartFarlet
) -> None:
    name = f"recite-{secrets.token_hex(3)}"
    await _refuse_secrets(env, name)
    farlet = await start_farlet(env.node)
    await env.create(env.pod("one"))
    event = await realpods.event(
        env.home, "one", namespace=env.workspace.home, reason="ForeignRejected"
    )
    assert "not with" in event["message"]
    recited = (await places(env, farlet))["audit log of foreign"]
    assert "not with" in recited  # the foreign API server itself logs everything
    await env.foreign.delete("validatingadmissionpolicybindings", name=name)
    await env.foreign.delete("validatingadmissionpolicies", name=name)
    await env.settled()

    tokens = await tokens_of(env)
    assert len(tokens) == 1  # the same token that was rejected before: farlet kept it
    texts = await places(env, farlet)
    del texts["audit log of foreign"]
    assert found(tokens, texts) == []


async def _refuse_secrets(env: Environment, name: str) -> None:
    only = {"matchLabels": {"kubernetes.io/metadata.name": env.workspace.foreign}}
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
    await env.foreign.create("validatingadmissionpolicies", {"metadata": meta, "spec": spec})
    await env.foreign.create(
        "validatingadmissionpolicybindings",
        {"metadata": meta, "spec": {"policyName": name, "validationActions": ["Deny"]}},
    )
    probe = {"metadata": {"name": "probe"}, "stringData": {"word": "shibboleth"}}
    async with asyncio.timeout(90):
        while True:
            try:
                await env.foreign.create(
                    "secrets", probe, namespace=env.workspace.foreign, dryRun="All"
                )
            except rest.ApiError as error:
                # Bytes or their base64: the policy quotes what it sees.
                if any(word in str(error) for word in ("shibboleth", "c2hpYmJvbGV0aA==")):
                    return
                raise
            await asyncio.sleep(0.1)
