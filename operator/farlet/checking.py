"""`farlet check`: looks at what farlet depends on, from where it stands, and changes nothing.

Each finding says what was looked at, what was seen and, where that is not good, what to do. The
same rooms do the looking as in a running farlet, so both come to the same verdict.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson

from farlet import discovery, endpoint, errors
from farlet.clusters import Cluster
from farlet.discovery import Discovery
from farlet.preflight import Mismatch, Unreachable
from farlet.settings import LogLevel, Settings
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics
from farlet.vocabulary import GATEWAY_SELECTOR, ObjectKey

if TYPE_CHECKING:
    from farlet.gateway.keys import Keys

ANSWER_SECONDS = 10.0


class Outcome(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `hint` says what to do; empty where nothing is."""

    what: str
    outcome: Outcome
    seen: str
    hint: str = ""


def check(settings: Settings) -> tuple[Finding, ...]:
    """Look at everything. Raises `StartError` and `UsageError` for what cannot even be tried."""
    logs.configure(LogLevel.ERROR, settings.log_format)
    return asyncio.run(_all(settings))


def table(findings: tuple[Finding, ...]) -> str:
    """For people: one line each, and what to do below it."""
    rows = [("CHECK", "RESULT", "SEEN"), *((one.what, one.outcome, one.seen) for one in findings)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    hints = ["", *(one.hint for one in findings)]
    lines = []
    for (what, outcome, seen), hint in zip(rows, hints, strict=True):
        lines.append(f"{what:<{widths[0]}}  {outcome:<{widths[1]}}  {seen}")
        if hint:
            lines.append(f"{'':<{widths[0]}}  {'':<{widths[1]}}  > {hint}")
    return "".join(f"{line}\n" for line in lines)


def to_json(findings: tuple[Finding, ...]) -> str:
    """For programs."""
    content = {"ok": good(findings), "checks": findings}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def good(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing has failed."""
    return all(one.outcome is not Outcome.FAILED for one in findings)


async def _all(settings: Settings) -> tuple[Finding, ...]:
    metrics = Metrics()
    home = Cluster(
        "home", endpoint.home_source(settings, os.environ), metrics=metrics.client("home")
    )
    foreign = Cluster(
        "foreign", endpoint.foreign_source(settings, os.environ), metrics=metrics.client("foreign")
    )
    async with home, foreign:
        found = [await _api(home), await _api(foreign)]
        if found[0].outcome is Outcome.OK:
            found += [one async for one in _address(settings, home, foreign)]
        if found[1].outcome is Outcome.OK and settings.gateway_keys is not None:
            found += [one async for one in _gateways(settings, foreign)]
    return tuple(found)


async def _api(cluster: Cluster) -> Finding:
    what = f"{cluster.name} API server"
    started = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await cluster.call("GET", "/version")
    except (errors.FarletError, TimeoutError) as err:
        hint = f"look at --{cluster.name}-kubeconfig, and at the network to {cluster.server}"
        return Finding(what, Outcome.FAILED, str(err) or "it did not answer in time", hint)
    seen = f"{answer.get('gitVersion')} at {cluster.server}, in {_since(started)}"
    return Finding(what, Outcome.OK, seen)


async def _address(settings: Settings, home: Cluster, foreign: Cluster) -> AsyncIterator[Finding]:
    looking = Discovery(settings, home, foreign, on_change=_nobody, gateway_problem=lambda: None)
    if not await looking.find_out(asyncio.Event()):
        return
    running = asyncio.create_task(looking.run(ready=discovery.at_once))
    try:
        await looking.looked.wait()
        yield _judged(looking)
        if looking.ctx().endpoint is not None:
            yield await _names(looking)
    finally:
        running.cancel()
        await asyncio.wait([running])


def _judged(looking: Discovery) -> Finding:
    what, ctx = "home API server for pods abroad", looking.ctx()
    where = "no address" if ctx.endpoint is None else str(ctx.endpoint)
    if ctx.endpoint_refusal is not None:
        return Finding(what, Outcome.FAILED, where, ctx.endpoint_refusal)
    if ctx.endpoint is None:
        return Finding(
            what,
            Outcome.FAILED,
            where,
            f"apply manifests/foreign/gateway to {ctx.namespaces.own}, or give "
            "--home-api-server-host and --home-api-server-port",
        )
    if ctx.endpoint_doubt is not None:
        return Finding(what, Outcome.WARNING, where, ctx.endpoint_doubt)
    return Finding(what, Outcome.OK, where)


async def _names(looking: Discovery) -> Finding:
    what = "its certificate, seen as pods see it"
    started = time.perf_counter()
    names = await looking.names()
    if isinstance(names, Mismatch | Unreachable):
        outcome = Outcome.FAILED if isinstance(names, Mismatch) else Outcome.WARNING
        return Finding(what, outcome, "not seen", names.message)
    listed = ", ".join(names) or "none"
    return Finding(what, Outcome.OK, f"names (SANs): {listed}; in {_since(started)}")


async def _gateways(settings: Settings, foreign: Cluster) -> AsyncIterator[Finding]:
    """Whether each gateway and we believe each other; nothing is carried."""
    from farlet.gateway import keys

    assert settings.gateway_keys is not None
    own = keys.read(settings.gateway_keys)
    path = f"/api/v1/namespaces/{settings.foreign_namespace}/pods?labelSelector={GATEWAY_SELECTOR}"
    try:
        pods = (await foreign.call("GET", path)).get("items", ())
    except errors.FarletError as err:
        hint = "apply manifests/foreign with the foreign namespace of this farlet"
        yield Finding("gateways", Outcome.FAILED, str(err), hint)
        return
    if not pods:
        hint = f"apply manifests/foreign/gateway to {settings.foreign_namespace}"
        yield Finding("gateways", Outcome.FAILED, "no pod", hint)
    for pod in pods:
        name = ObjectKey(settings.foreign_namespace, pod["metadata"]["name"])
        yield await _gateway(foreign, name, own)


async def _gateway(foreign: Cluster, pod: ObjectKey, own: Keys) -> Finding:
    import asyncssh

    from farlet.gateway import link, portforward, tunnel

    what = f"gateway {pod.name}"
    started = time.perf_counter()
    try:
        async with portforward.opened(foreign, pod, link.PORT) as forward:
            try:
                made = await tunnel.connect(forward.socket, own, _refused)
            except asyncssh.Error as err:
                hint = "both Secrets must come from one run of farlet gateway-keys: docs/gateway.md"
                return Finding(what, Outcome.FAILED, str(err), hint)
            except OSError as err:
                seen = forward.complaint or str(err) or type(err).__name__
                return Finding(what, Outcome.FAILED, seen, f"look at the log of the pod {pod}")
            seen = f"linked in {_since(started)}"
            made.abort()
            return Finding(what, Outcome.OK, seen)
    except errors.FarletError as err:
        return Finding(what, Outcome.FAILED, str(err), f"look at the pod {pod}")


async def _refused(_factory: Callable[[], asyncio.Protocol]) -> object:
    """A look carries nothing: the gateway asks the next farlet."""
    raise ConnectionRefusedError


def _nobody() -> None:
    """Nobody is told of changes."""


def _since(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"
