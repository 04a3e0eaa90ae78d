"""The small HTTP server that a kubelet probes and Prometheus scrapes.

It answers from memory: a probe that itself waited for an API server would turn one slow cluster
into a restart of farlet. `/livez` fails only where a restart would help; `/readyz` tells whether
pods are served now. Both speak as the health endpoints of Kubernetes do: 500 when a check fails,
a list of all checks then and with `?verbose`, `?exclude=NAME` to leave one out. No authentication:
nothing here is secret.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from farlet.errors import StartError
from farlet.settings import loading
from farlet.settings.values import Address
from farlet.telemetry.metrics import EXPOSITION, Metrics

Check = Callable[[], str | None]
"""`None`: all is well; else, in a few words, why not. Must not block."""


@dataclass(frozen=True, slots=True)
class Probes:
    """Named checks. `ready` holds those of `/readyz` beside those of `live`."""

    live: Mapping[str, Check] = field(default_factory=dict)
    ready: Mapping[str, Check] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """Where the servers listen; differs from what was asked where port 0 was."""

    metrics: Address | None
    health: Address | None


@asynccontextmanager
async def serve(
    *,
    metrics: Metrics | None,
    probes: Probes,
    metrics_at: Address | None,
    health_at: Address | None,
) -> AsyncIterator[Served]:
    """Serve `/metrics`, if there are any, `/livez` and `/readyz` while the context lasts.

    An address `None` is not served; two equal ones are one server. Raises `StartError` when an
    address cannot be had.
    """
    metrics_routes = [] if metrics is None else [web.get("/metrics", _metrics(metrics))]
    health_routes = [
        *_health("livez", probes.live),
        *_health("readyz", {**probes.live, **probes.ready}),
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
    # A scrape or probe that hangs must not hold up the end of the process.
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, at.host or None, at.port).start()
    except OSError as err:
        taken = err.errno == errno.EADDRINUSE
        cause = "another process listens there" if taken else (err.strerror or str(err))
        raise StartError(
            f"{loading.flag_name(setting)} ({loading.env_name(setting)}) {at}: {cause}. "
            "Choose another address, or 0 to turn it off"
        ) from err
    return Address(at.host, runner.addresses[0][1])


def _metrics(metrics: Metrics) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": EXPOSITION})

    return answer


def _health(name: str, checks: Mapping[str, Check]) -> list[web.RouteDef]:
    """`/name` for all checks, and `/name/CHECK` for one, as in `k8s.io/apiserver` (`healthz.go`).

    But they say why a check failed: what kube-apiserver withholds is no secret of farlet's.
    """

    async def all_of_them(request: web.Request) -> web.StreamResponse:
        excluded = set(request.query.getall("exclude", []))
        found = {check: why_not() for check, why_not in checks.items() if check not in excluded}
        failed = any(found.values())
        lines = [
            f"[+]{check} excluded: ok"
            if check in excluded
            else f"[+]{check} ok"
            if found[check] is None
            else f"[-]{check} failed: {found[check]}"
            for check in checks
        ]
        if unknown := sorted(excluded - checks.keys()):
            quoted = ",".join(f'"{check}"' for check in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
        lines.append(f"{name} check {'failed' if failed else 'passed'}\n")
        # Always verbose on failure.
        verbose = failed or "verbose" in request.query
        return _told("\n".join(lines) if verbose else "ok", failed=failed)

    async def one(request: web.Request) -> web.StreamResponse:
        why_not = checks.get(request.match_info["check"])
        if why_not is None:
            raise web.HTTPNotFound
        why = why_not()
        return _told("ok" if why is None else f"internal server error: {why}\n", failed=bool(why))

    return [web.get(f"/{name}", all_of_them), web.get(f"/{name}/{{check}}", one)]


def _told(text: str, *, failed: bool) -> web.Response:
    headers = {"X-Content-Type-Options": "nosniff"}
    return web.Response(text=text, headers=headers, status=500 if failed else 200)
