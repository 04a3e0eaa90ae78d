"""The HTTP server for probes, Prometheus and those who read the state of this process.

It answers from memory: a probe that waited for an API server would turn one slow cluster into a
restart of farlet. `/livez` fails only if a restart would help; `/readyz` shows whether pods are
served. Both have the format of Kubernetes' health endpoints: 500 if a check fails, with a list of
all checks; `?verbose` always lists them, `?exclude=NAME` leaves one out. There is no
authentication, since nothing here is secret.

Anyone in the pod network reaches these ports. So a connection carries one request, lasts a few
seconds, and is dropped for a newer one where there are too many.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from farlet.errors import StartError
from farlet.listeners import open_files
from farlet.listeners.listener import Limits, Listener
from farlet.settings import loading
from farlet.settings.values import Address
from farlet.telemetry.metrics import EXPOSITION, Metrics
from farlet.telemetry.state import PATH, State, write

CONNECTION_SECONDS = 15.0
"""For one request and its answer. Prometheus gives up after 10 s by default, kubelets after 1 s."""

STATE_SECONDS = 1.0
"""How long a state is shown: to compute it, all pods are counted, and anyone can request it."""

MAX_HEAD_BYTES = 4096
"""Limit of a request line, and of each header."""

MAX_HEADERS = 32

LIMITS = Limits(
    open_files.MAX_PROBES, per_source=open_files.MAX_PROBES // 2, seconds=CONNECTION_SECONDS
)

Check = Callable[[], str | None]
"""Returns the problem in a few words, or `None`. Must not block."""


@dataclass(frozen=True, slots=True)
class Probes:
    """Checks by name. `/readyz` runs those of `live` and those of `ready`."""

    live: Mapping[str, Check] = field(default_factory=dict)
    ready: Mapping[str, Check] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """Where the servers listen; contains the chosen port if the setting was port 0."""

    metrics: Address | None
    health: Address | None


@asynccontextmanager
async def serve(
    *,
    metrics: Metrics | None,
    probes: Probes,
    metrics_at: Address | None,
    health_at: Address | None,
    state: Callable[[], State] | None = None,
) -> AsyncIterator[Served]:
    """Serve `/metrics` (unless `metrics` is None), `/livez` and `/readyz` while the context lasts.

    `state` returns what `/state` shows, beside the probes; it must not block.
    An address `None` disables its endpoints; two equal addresses share one server. Raises
    `StartError` if an address cannot be used.
    """
    metrics_routes = [] if metrics is None else [web.get("/metrics", _metrics(metrics))]
    health_routes = [
        *_health("livez", probes.live),
        *_health("readyz", {**probes.live, **probes.ready}),
        *([] if state is None else [web.get(PATH, _state(state))]),
    ]
    async with AsyncExitStack() as stack:
        if metrics_at == health_at:
            both = await _listen(
                stack, metrics_at, [*metrics_routes, *health_routes], "metrics_bind_address"
            )
            yield Served(metrics=both, health=both)
        else:
            yield Served(
                metrics=await _listen(stack, metrics_at, metrics_routes, "metrics_bind_address"),
                health=await _listen(stack, health_at, health_routes, "health_probe_bind_address"),
            )


async def _listen(
    stack: AsyncExitStack, at: Address | None, routes: list[web.RouteDef], setting: str
) -> Address | None:
    if at is None:
        return None
    app = web.Application()
    app.add_routes(routes)
    app.on_response_prepare.append(_close_afterwards)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        # A scrape or probe that hangs must not delay the end of the process.
        shutdown_timeout=1.0,
        keepalive_timeout=CONNECTION_SECONDS,
        lingering_time=0.0,  # no endpoint reads a body
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    listening = Listener(runner.server, LIMITS)
    stack.callback(listening.close)
    try:
        await listening.bind(at)
        listening.listen()
    except OSError as err:
        in_use = err.errno == errno.EADDRINUSE
        cause = (
            "another process listens there" if in_use else f"cannot listen: {err.strerror or err}"
        )
        raise StartError(
            f"{loading.flag_name(setting)} ({loading.env_name(setting)}) {at}: {cause}. Choose "
            "another address, or 0 to disable this listener"
        ) from err
    return Address(at.host, listening.port)


async def _close_afterwards(_request: web.Request, response: web.StreamResponse) -> None:
    response.force_close()
    response.headers["Connection"] = "close"  # aiohttp has written its own headers before this


def _metrics(metrics: Metrics) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": EXPOSITION})

    return answer


def _state(state: Callable[[], State]) -> Handler:
    body, until = b"", -math.inf

    async def answer(_request: web.Request) -> web.StreamResponse:
        nonlocal body, until
        now = time.monotonic()
        if now >= until:
            body, until = write(state()), now + STATE_SECONDS
        return web.json_response(body=body)

    return answer


def _health(name: str, checks: Mapping[str, Check]) -> list[web.RouteDef]:
    """`/name` for all checks and `/name/CHECK` for one, as in `k8s.io/apiserver` (`healthz.go`).

    Unlike kube-apiserver, they show why a check failed: for farlet this is not secret.
    """

    async def all_checks(request: web.Request) -> web.StreamResponse:
        excluded = set(request.query.getall("exclude", []))
        problems = {check: run() for check, run in checks.items() if check not in excluded}
        failed = any(problems.values())
        lines = [
            f"[+]{check} excluded: ok"
            if check in excluded
            else f"[+]{check} ok"
            if problems[check] is None
            else f"[-]{check} failed: {problems[check]}"
            for check in checks
        ]
        if unknown := sorted(excluded - checks.keys()):
            quoted = ",".join(f'"{check}"' for check in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
        lines.append(f"{name} check {'failed' if failed else 'passed'}\n")
        verbose = failed or "verbose" in request.query
        return _response("\n".join(lines) if verbose else "ok", failed=failed)

    async def one_check(request: web.Request) -> web.StreamResponse:
        check = checks.get(request.match_info["check"])
        if check is None:
            raise web.HTTPNotFound
        problem = check()
        text = "ok" if problem is None else f"internal server error: {problem}\n"
        return _response(text, failed=bool(problem))

    return [web.get(f"/{name}", all_checks), web.get(f"/{name}/{{check}}", one_check)]


def _response(text: str, *, failed: bool) -> web.Response:
    headers = {"X-Content-Type-Options": "nosniff"}
    return web.Response(text=text, headers=headers, status=500 if failed else 200)
