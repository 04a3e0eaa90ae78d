"""`farlet check`: verify prerequisites from this machine, without changing any object.

Each finding has a result and, unless the result is good, a fix. The modules of a running farlet do
the work, so that both come to the same result. If no farlet is connected to a gateway, this process
connects to it while it checks. Where an administrator calls, the farlet that serves the node is
judged (`checks.subjects`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from farlet import errors
from farlet.cli import commands, json_output
from farlet.cli.checks import (
    causes,
    clusters,
    identity,
    installed,
    namespaces,
    permissions,
    policies,
    reported,
    servers,
    serving_certificate,
    subjects,
    unknown,
    volumes,
)
from farlet.cli.checks.findings import Finding, Outcome
from farlet.cli.checks.subjects import Subject
from farlet.cli.reading import MOST_CHARS, printable
from farlet.client import credential_sources, resources
from farlet.client.cluster import Cluster
from farlet.client.reviews import User
from farlet.constants import GATEWAY_SELECTOR, HOME_API_SERVICE, JSON, ObjectKey, Reason
from farlet.context import (
    Context,
    Endpoint,
    HomeAPI,
    NotConfigured,
    OutOfReach,
    Refused,
    Unverified,
    Verified,
)
from farlet.homeapi import endpoint
from farlet.homeapi.discovery import Discovery
from farlet.homeapi.preflight import Unreachable, WrongCertificate
from farlet.homeapi.supervisor import HomeAPISupervisor
from farlet.k8s_types import PodPhase
from farlet.manager import rollout, virtual_node
from farlet.node.prerequisites import Prerequisites
from farlet.planning import api_refusals
from farlet.settings import Settings
from farlet.telemetry import logs
from farlet.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from farlet.gateway.keys import Keys

ANSWER_SECONDS = 10.0
CARRY_SECONDS = 20.0
"""Time for a gateway to become ready after this process has connected to it."""

SEEN_CHARS = 300
"""Of what was seen, in the table."""

SHOWN_NAMES = 3
"""Names of a certificate in the table."""

_IN_POD = "KUBERNETES_SERVICE_HOST"
"""A variable that Kubernetes sets in containers."""

_ADDRESS = "home API for foreign pods"
_NO_BACKEND = Reason.HOME_API_UNVERIFIED
"""Reason of a Service without a ready pod."""


def check(settings: Settings, offloaded: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Run all checks, also of these home namespaces. Raises `UsageError` for bad settings."""
    logs.silence()
    return asyncio.run(findings(settings, offloaded))


def table(found: tuple[Finding, ...]) -> str:
    """One line per finding, with its fix below. Results other than `ok` are coloured."""
    heading = Finding("CHECK", Outcome.OK, "SEEN")
    rows = [(heading, "RESULT"), *((one, one.outcome.value) for one in found)]
    widths = max(len(one.what) for one, _ in rows), max(len(word) for _, word in rows)
    lines = []
    for one, word in rows:
        result = f"{word:<{widths[1]}}"
        if one.outcome in _COLOURS:
            result = click.style(result, fg=_COLOURS[one.outcome])
        seen = _bounded(printable(one.brief or one.seen), SEEN_CHARS)
        lines.append(f"{one.what:<{widths[0]}}  {result}  {seen}")
        if one.hint:  # not wrapped: commands in it can be pasted
            lines.append(f"  > {_bounded(printable(one.hint), MOST_CHARS)}")
    return "".join(f"{line}\n" for line in lines)


def _bounded(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... (-o json shows all)"


_COLOURS = {Outcome.FAILED: "red", Outcome.WARNING: "yellow"}


def to_json(found: tuple[Finding, ...]) -> str:
    """The findings as a JSON document."""
    checks = [
        {"what": one.what, "outcome": one.outcome, "seen": one.seen, "hint": one.hint}
        for one in found
    ]
    content = {"ok": good(found), "checks": checks}
    return json_output.to_json(content)


def good(found: tuple[Finding, ...]) -> bool:
    """Whether no check has failed."""
    return all(one.outcome is not Outcome.FAILED for one in found)


async def findings(settings: Settings, offloaded: Sequence[str] = ()) -> tuple[Finding, ...]:
    """All findings. Raises `UsageError`."""
    metrics = Metrics()
    home = Cluster(
        "home",
        credential_sources.home_source(settings, os.environ),
        metrics=metrics.client("home"),
        node=settings.nodename,
    )
    foreign = Cluster(
        "foreign",
        credential_sources.foreign_source(settings, os.environ),
        metrics=metrics.client("foreign"),
        node=settings.nodename,
    )
    async with contextlib.AsyncExitStack() as opened:
        found = [await _api(home, opened), await _api(foreign, opened)]
        home_ok, foreign_ok = (one.outcome is Outcome.OK for one in found)
        found += await servers.findings(home if home_ok else None, foreign if foreign_ok else None)
        users: dict[str, User | None] = {}
        accepted: set[str] = set()
        for cluster, ok in ((home, home_ok), (foreign, foreign_ok)):
            if ok:
                seen, users[cluster.name] = await identity.check(cluster, node=settings.nodename)
                found.append(seen)
                accepted |= set() if seen.outcome is Outcome.FAILED else {cluster.name}
        installation, kubectl = None, commands.home_of(settings).kubectl
        if "home" in accepted:
            installation = await installed.installation(home, settings.nodename)
            if installation is None and not unknown.is_described(settings):
                there = foreign if "foreign" in accepted else None
                if (stop := await unknown.check(settings, home, there)) is not None:
                    return tuple(_shown([*found, stop], settings, None))
        at = len(found)
        found += [] if installation is None else installed.deployments(installation, kubectl)
        if home_ok:
            supervisor = HomeAPISupervisor(settings, home, foreign, metrics=metrics)
            found += await _address(supervisor, settings)
            if len(accepted) == 2 and (ctx := supervisor.discovery.known_ctx) is not None:
                found += (same := await clusters.findings(settings, ctx, home, foreign))
                reviewed: dict[str, Subject] = {
                    cluster.name: Subject(cluster, user)
                    for cluster in (home, foreign)
                    if (user := users[cluster.name]) is not None
                }
                if installation is not None:
                    more, reviewed = await subjects.of(
                        settings,
                        installation,
                        (home, foreign),
                        users,
                        confirmed=all(one.outcome is Outcome.OK for one in same),
                    )
                    found += more
                found += await _prerequisites(settings, ctx, home, foreign, reviewed, offloaded)
                if settings.storage_class_map and (installation is None or "home" in reviewed):
                    subject = reviewed.get("home")
                    other = None if subject is None or subject.is_caller else subject
                    found.append(await volumes.check(settings, ctx, home, metrics, other))
        if home_ok and foreign_ok and settings.gateway_keys is not None:
            found += await _gateways(settings.gateway_keys, settings, home, foreign)
    if installation is not None:
        accepts = _accepts_token(found)
        now = time.time()
        found[at:at] = reported.rows(installation, accepted=accepts, now=now, kubectl=kubectl)
    return tuple(_shown(found, settings, installation))


def _accepts_token(found: Sequence[Finding]) -> str:
    """That the foreign API server accepts farlet's token; empty: that is not known."""
    own = next((one.seen for one in found if one.what == subjects.CREDENTIALS), "")
    if not own.startswith(subjects.ACCEPTED):
        return ""
    return f"the foreign API server accepts {own}"


def _shown(
    found: Sequence[Finding], settings: Settings, installation: installed.Installation | None
) -> list[Finding]:
    """Each cause once, and commands and names as they are where the reader is."""
    declared = None if installation is None else installation.declared()
    home, foreign = commands.home_of(settings), commands.foreign_of(settings)
    if foreign.kubeconfig == credential_sources.default_kubeconfig(os.environ):
        foreign = replace(foreign, kubeconfig=None)

    def text(raw: str) -> str:
        if declared is not None:
            raw = errors.with_secret(raw, "foreign", declared.foreign_secret)
        if _IN_POD in os.environ:  # its files are not where the reader is
            return raw
        return commands.in_clusters(commands.completed(raw, home, foreign), home, foreign)

    named = [replace(one, seen=text(one.seen), hint=text(one.hint)) for one in found]
    farlet = installed.row(virtual_node.object_name(settings.nodename))
    return causes.once(named, farlet=farlet)


async def _prerequisites(
    settings: Settings,
    ctx: Context,
    home: Cluster,
    foreign: Cluster,
    reviewed: Mapping[str, Subject],
    offloaded: Sequence[str],
) -> list[Finding]:
    """What a start requires. Nothing is said about the permissions of an unknown user."""
    absent = await asyncio.gather(*(namespaces.missing(home, name) for name in offloaded))
    offloaded = [name for name, one in zip(offloaded, absent, strict=True) if one is None]
    required = Prerequisites(settings, home=home, foreign=foreign, ctx=lambda: ctx)
    checks: list[Coroutine[None, None, Finding | None]] = []
    if (at_home := reviewed.get("home")) is not None:
        checks += [
            permissions.node(settings, home, required),
            permissions.home(settings, at_home),
            serving_certificate.check(settings, home, at_home.user),
            servers.kubelet(settings, home),
            *(namespaces.home(settings, at_home, name) for name in offloaded),
        ]
    if (there := reviewed.get("foreign")) is not None:
        if at_home is not None:
            checks.append(permissions.creation(settings, at_home, there))
        checks += [
            permissions.capacity(settings, there, required),
            permissions.foreign(settings, there, offloaded),
            policies.creation(settings, there),
            *(namespaces.foreign(settings, ctx, there, name) for name in offloaded),
        ]
    return [one for one in (*absent, *await asyncio.gather(*checks)) if one is not None]


async def _api(cluster: Cluster, opened: contextlib.AsyncExitStack) -> Finding:
    what = f"{cluster.name} API server"
    flags = f"--{cluster.name}-kubeconfig and --{cluster.name}-context"
    started = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await opened.enter_async_context(cluster)
            version = await cluster.server_version()
    except errors.StartError as err:
        return Finding(what, Outcome.FAILED, str(err), f"check {flags}")
    except errors.Unauthorized as err:
        return Finding(what, Outcome.FAILED, str(err), err.advice)
    except (errors.FarletError, TimeoutError) as err:
        hint = f"check {flags}, and the network to that API server"
        seen = str(err) or f"no answer within {ANSWER_SECONDS:g} s"
        return Finding(what, Outcome.FAILED, seen, hint)
    seen = f"{version} at {cluster.server}, in {_since(started)}"
    return Finding(what, Outcome.OK, seen)


# --- endpoint ------------------------------------------------------------------------------


async def _address(supervisor: HomeAPISupervisor, settings: Settings) -> list[Finding]:
    """The endpoint that a farlet would use that starts now. Raises `UsageError`."""
    discovery = supervisor.discovery
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await discovery.identify_home(asyncio.Event())
    except (errors.StartError, TimeoutError) as err:
        hint = str(err) or f"{discovery.problem}; try again"
        return [Finding(_ADDRESS, Outcome.FAILED, "home cluster not identified", hint)]
    async with supervisor.checking():
        await discovery.checked.wait()
        found = await _endpoint(discovery, settings)
    home_api = discovery.ctx().home_api
    served = not isinstance(home_api, Refused) or home_api.reason is not _NO_BACKEND
    if served or settings.gateway_keys is None:
        return found
    # No farlet serves these gateways, so this process can serve them for a while.
    try:
        async with supervisor.running():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CARRY_SECONDS):
                    discovery.checked.clear()
                    await discovery.checked.wait()  # waits for the existing gateways
                    while (
                        isinstance(discovery.ctx().home_api, Refused)
                        and supervisor.gateway_connected
                    ):
                        discovery.checked.clear()
                        await discovery.checked.wait()
            return await _endpoint(discovery, settings)
    except* errors.StartError:
        pass  # an error of the keys, which _gateways reports
    return found


async def _endpoint(discovery: Discovery, settings: Settings) -> list[Finding]:
    """Findings of the last check of the endpoint."""
    ctx = discovery.ctx()
    found = [_state(ctx, settings)]
    if _is_answered(ctx.home_api):
        started = time.perf_counter()
        names = await discovery.certificate_names()
        if not isinstance(names, WrongCertificate | Unreachable):  # else the endpoint has a finding
            took = f"; in {_since(started)}"
            seen = f"names (SANs): {', '.join(names) or 'none'}{took}"
            brief = ""
            if (more := len(names) - SHOWN_NAMES) > 0:
                first = ", ".join(names[:SHOWN_NAMES])
                brief = f"names (SANs): {first} and {more} more (-o json shows all){took}"
            found.append(Finding("certificate at that address", Outcome.OK, seen, brief=brief))
    return found


def _is_answered(home_api: HomeAPI) -> bool:
    """Whether a server answers at the endpoint, so that its certificate can be shown."""
    if isinstance(home_api, Refused):
        certificate = home_api.reason is Reason.HOME_API_CERTIFICATE_INVALID
        return certificate and home_api.endpoint is not None
    return isinstance(home_api, Verified)


def _state(ctx: Context, settings: Settings) -> Finding:
    where = "no address" if ctx.endpoint is None else str(ctx.endpoint)
    match ctx.home_api:
        case Refused(_, message):
            return Finding(_ADDRESS, Outcome.FAILED, where, message)
        case NotConfigured():
            own = ctx.namespaces.own
            apply = api_refusals.by_manifest("apply manifests/foreign/gateway there", system=own)
            hint = (
                f"the foreign namespace {own} has no Service {HOME_API_SERVICE}: {apply}, or set "
                "--home-api-server-host and --home-api-server-port"
            )
            return Finding(_ADDRESS, Outcome.FAILED, where, hint)
        case Unverified(_, message) | OutOfReach(_, message):
            test = _test_from_pod(ctx.endpoint, settings)
            hint = f"{message}. farlet sends pods there nevertheless{test}"
            return Finding(_ADDRESS, Outcome.WARNING, where, hint)
        case Verified(found):
            if (warning := endpoint.loopback_warning(found)) is not None:
                return Finding(_ADDRESS, Outcome.WARNING, where, warning)
            return Finding(_ADDRESS, Outcome.OK, where)


def _test_from_pod(address: Endpoint | None, settings: Settings) -> str:
    """The command that tests an address of the home API server from a foreign pod."""
    if address is None:
        return ""
    ip = address.addresses[0] if address.addresses else ""
    context = shlex.quote(settings.foreign_context or "FOREIGN")
    resolve = f" --resolve {address.netloc}:{ip}" if ip else ""
    return (
        f": test it with kubectl --context {context} run t --rm -i --restart=Never "
        f"--image=curlimages/curl -- -kv{resolve} https://{address.netloc}"
    )


# --- gateways ---------------------------------------------------------------------------------


async def _gateways(
    directory: Path, settings: Settings, home: Cluster, foreign: Cluster
) -> list[Finding]:
    """Whether each gateway and this process authenticate each other."""
    from farlet.gateway import home_dialer, keys

    try:
        own = keys.read(directory)
        home_dialer.HomeDialer(home).check()
    except errors.StartError as err:
        return [Finding("gateway keys", Outcome.FAILED, str(directory), str(err))]
    namespace = settings.foreign_system_namespace
    try:
        pods, _ = await foreign.list(
            resources.PODS, namespace=namespace, label_selector=GATEWAY_SELECTOR
        )
    except errors.FarletError as err:
        apply = f"apply manifests/foreign to the namespace {namespace}"
        hint = api_refusals.by_manifest(apply, system=namespace)
        return [Finding("gateways", Outcome.FAILED, str(err), hint)]
    if not pods:
        apply = f"apply manifests/foreign/gateway to the namespace {namespace}"
        hint = api_refusals.by_manifest(apply, system=namespace)
        return [Finding("gateways", Outcome.FAILED, "no pod", hint)]
    running = [
        ObjectKey(namespace, pod["metadata"]["name"])
        for pod in pods
        if pod.get("status", {}).get("phase") == PodPhase.RUNNING
        and "deletionTimestamp" not in pod["metadata"]
    ]
    if not running:
        describe = f"kubectl describe pods --namespace {namespace} --selector {GATEWAY_SELECTOR}"
        hint = f"in the foreign cluster: {describe}"
        found = rollout.pod_problems(cast("list[JSON]", pods))
        problems = (f"{name}: {why}" for name, why in found.items())
        seen = "; ".join(("no running pod", *problems))
        return [Finding("gateways", Outcome.FAILED, seen, hint)]
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
                create = "create both Secrets from one run of farlet gateway-keys (docs/gateway.md)"
                hint = api_refusals.by_manifest(create, system=pod.namespace)
                return Finding(what, Outcome.FAILED, tunnel.failure(err), hint)
            except OSError as err:
                seen = forward.kubelet_error or tunnel.failure(err)
                return Finding(
                    what,
                    Outcome.FAILED,
                    seen,
                    f"in the foreign cluster: kubectl logs {pod.name} --namespace {pod.namespace}",
                )
            seen = f"linked in {_since(started)}"
            made.abort()
            return Finding(what, Outcome.OK, seen)
    except errors.FarletError as err:
        return Finding(
            what,
            Outcome.FAILED,
            str(err),
            f"in the foreign cluster: kubectl describe pod {pod.name} --namespace {pod.namespace}",
        )


async def _refused(_factory: Callable[[], asyncio.BaseProtocol]) -> object:
    """Refuse connections, so that the gateway uses another farlet."""
    raise ConnectionRefusedError


def _since(started: float) -> str:
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"
