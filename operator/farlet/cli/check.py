"""`farlet check`: looks at what farlet depends on, from where it stands, and changes nothing.

Each finding says what was looked at, what was seen and, where that is not good, what to do. The
same rooms do the looking as in a running farlet, so both come to the same verdict. Where gateways
are that no farlet is connected to, this process connects to them for the time of its look.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from farlet import errors
from farlet.client import credential_sources, resources
from farlet.client.cluster import Cluster
from farlet.constants import GATEWAY_SELECTOR, HOME_API_SERVICE, ObjectKey, Reason
from farlet.context import Context
from farlet.homeapi import endpoint
from farlet.homeapi.discovery import Discovery
from farlet.homeapi.preflight import Unreachable, WrongCertificate
from farlet.homeapi.supervisor import HomeAPISupervisor
from farlet.settings import LogLevel, Settings
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from farlet.gateway.keys import Keys

ANSWER_SECONDS = 10.0
CARRY_SECONDS = 20.0
"""Until a gateway that this process has connected to is seen to be ready."""

_ADDRESS = "home API for pods abroad"
_NOWHERE = Reason.HOME_API_UNVERIFIED
"""Of a Service behind which nobody is ready."""


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
    """Look at everything. Raises `UsageError` for settings that do not fit together."""
    # Findings tell it all; a log beside them would tell it twice.
    logs.configure(LogLevel.ERROR, settings.log_format, stream=io.StringIO())
    return asyncio.run(look(settings))


def table(findings: tuple[Finding, ...]) -> str:
    """For people: one line each, and what to do below it."""
    rows = [("CHECK", "RESULT", "SEEN"), *((one.what, one.outcome, one.seen) for one in findings)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    hints = ["", *(one.hint for one in findings)]
    lines = []
    for (what, outcome, seen), hint in zip(rows, hints, strict=True):
        lines.append(f"{what:<{widths[0]}}  {outcome:<{widths[1]}}  {' '.join(seen.split())}")
        if hint:
            lines.append(f"{'':<{widths[0]}}  {'':<{widths[1]}}  > {' '.join(hint.split())}")
    return "".join(f"{line}\n" for line in lines)


def to_json(findings: tuple[Finding, ...]) -> str:
    """For programs."""
    content = {"ok": good(findings), "checks": findings}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def good(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing has failed."""
    return all(one.outcome is not Outcome.FAILED for one in findings)


async def look(settings: Settings) -> tuple[Finding, ...]:
    """All findings. Raises `UsageError`."""
    metrics = Metrics()
    home = Cluster(
        "home", credential_sources.home_source(settings, os.environ), metrics=metrics.client("home")
    )
    foreign = Cluster(
        "foreign",
        credential_sources.foreign_source(settings, os.environ),
        metrics=metrics.client("foreign"),
    )
    async with contextlib.AsyncExitStack() as opened:
        found = [await _api(home, opened), await _api(foreign, opened)]
        at_home, abroad = (one.outcome is Outcome.OK for one in found)
        if at_home:
            found += await _address(
                HomeAPISupervisor(settings, home, foreign, metrics=metrics), settings
            )
        if at_home and abroad and settings.gateway_keys is not None:
            found += await _gateways(settings.gateway_keys, settings, home, foreign)
    return tuple(found)


async def _api(cluster: Cluster, opened: contextlib.AsyncExitStack) -> Finding:
    what = f"{cluster.name} API server"
    flags = f"--{cluster.name}-kubeconfig and --{cluster.name}-context"
    started = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await opened.enter_async_context(cluster)
            version = await cluster.server_version()
    except errors.StartError as err:
        return Finding(what, Outcome.FAILED, str(err), f"look at {flags}")
    except (errors.FarletError, TimeoutError) as err:
        hint = f"look at {flags}, and at the network to the server that they name"
        seen = str(err) or f"no answer within {ANSWER_SECONDS:g} s"
        return Finding(what, Outcome.FAILED, seen, hint)
    seen = f"{version} at {cluster.server}, in {_since(started)}"
    return Finding(what, Outcome.OK, seen)


# --- the address ------------------------------------------------------------------------------


async def _address(way: HomeAPISupervisor, settings: Settings) -> list[Finding]:
    """As a farlet that starts now would find it. Raises `UsageError`."""
    looking = way.discovery
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await looking.find_out(asyncio.Event())
    except (errors.StartError, TimeoutError) as err:
        hint = str(err) or f"{looking.problem}; try again"
        return [Finding(_ADDRESS, Outcome.FAILED, "home was not identified", hint)]
    async with way.address():
        await looking.looked.wait()
        found = await _looked(looking)
    if looking.ctx().endpoint_refusal_reason is not _NOWHERE or settings.gateway_keys is None:
        return found
    # Nobody is served by the gateways, so nobody is disturbed if this process serves a while.
    try:
        async with way.kept():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CARRY_SECONDS):
                    looking.looked.clear()
                    await looking.looked.wait()  # which waits for the gateways that there are
                    while looking.ctx().endpoint_refusal is not None and way.connected:
                        looking.looked.clear()
                        await looking.looked.wait()
            return await _looked(looking)
    except* errors.StartError:
        pass  # of the keys, which are looked at next
    return found


async def _looked(looking: Discovery) -> list[Finding]:
    """What was seen last."""
    ctx = looking.ctx()
    found = [_judged(ctx)]
    if ctx.endpoint is not None and ctx.endpoint_doubt is None:
        started = time.perf_counter()
        names = await looking.names()
        if not isinstance(names, WrongCertificate | Unreachable):  # else it has been told
            listed = f"names (SANs): {', '.join(names) or 'none'}; in {_since(started)}"
            found.append(Finding("certificate at that address", Outcome.OK, listed))
    return found


def _judged(ctx: Context) -> Finding:
    where = "no address" if ctx.endpoint is None else str(ctx.endpoint)
    if ctx.endpoint_refusal is not None:
        return Finding(_ADDRESS, Outcome.FAILED, where, ctx.endpoint_refusal)
    if ctx.endpoint is None:
        hint = (
            f"no Service {HOME_API_SERVICE} is in the foreign namespace {ctx.namespaces.own}: "
            "apply manifests/foreign/gateway there, or give --home-api-server-host and "
            "--home-api-server-port"
        )
        return Finding(_ADDRESS, Outcome.FAILED, where, hint)
    if ctx.endpoint_doubt is not None:
        hint = f"{ctx.endpoint_doubt}. Pods are sent there all the same: look from abroad"
        return Finding(_ADDRESS, Outcome.WARNING, where, hint)
    if (doubt := endpoint.doubt(ctx.endpoint)) is not None:
        return Finding(_ADDRESS, Outcome.WARNING, where, doubt)
    return Finding(_ADDRESS, Outcome.OK, where)


# --- gateways ---------------------------------------------------------------------------------


async def _gateways(
    folder: Path, settings: Settings, home: Cluster, foreign: Cluster
) -> list[Finding]:
    """Whether each gateway and we believe each other; nothing is carried."""
    from farlet.gateway import home_dialer, keys

    try:
        own = keys.read(folder)
        home_dialer.HomeDialer(home).check()
    except errors.StartError as err:
        return [Finding("gateway keys", Outcome.FAILED, str(folder), str(err))]
    namespace = settings.foreign_system_namespace
    try:
        pods, _ = await foreign.list(
            resources.PODS, namespace=namespace, label_selector=GATEWAY_SELECTOR
        )
    except errors.FarletError as err:
        hint = "apply manifests/foreign with the foreign namespace of this farlet"
        return [Finding("gateways", Outcome.FAILED, str(err), hint)]
    if not pods:
        hint = f"apply manifests/foreign/gateway to the namespace {namespace}"
        return [Finding("gateways", Outcome.FAILED, "no pod", hint)]
    running = [
        ObjectKey(namespace, pod["metadata"]["name"])
        for pod in pods
        if pod.get("status", {}).get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
    ]
    if not running:
        hint = f"look at the Deployment farlet-gateway in the namespace {namespace}"
        return [Finding("gateways", Outcome.FAILED, "no pod runs", hint)]
    return [await _gateway(foreign, name, own) for name in running]


async def _gateway(foreign: Cluster, pod: ObjectKey, own: Keys) -> Finding:
    import asyncssh

    from farlet.gateway import link, port_forward, tunnel

    what = f"gateway {pod.name}"
    started = time.perf_counter()
    try:
        async with port_forward.opened(foreign, pod, link.PORT) as forward:
            try:
                made = await tunnel.connect(forward.socket, own, _refused)
            except asyncssh.Error as err:
                hint = "both Secrets must come from one run of farlet gateway-keys: docs/gateway.md"
                return Finding(what, Outcome.FAILED, link.told(err), hint)
            except OSError as err:
                seen = forward.complaint or link.told(err)
                return Finding(what, Outcome.FAILED, seen, f"look at the log of the pod {pod}")
            seen = f"linked in {_since(started)}"
            made.abort()
            return Finding(what, Outcome.OK, seen)
    except errors.FarletError as err:
        return Finding(what, Outcome.FAILED, str(err), f"look at the pod {pod}")


async def _refused(_factory: Callable[[], asyncio.Protocol]) -> object:
    """A look carries nothing: the gateway asks the next farlet."""
    raise ConnectionRefusedError


def _since(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"
