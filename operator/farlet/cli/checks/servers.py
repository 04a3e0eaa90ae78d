"""Versions and clocks of both API servers, and whether home's reaches the kubelet API of farlet."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import parsedate_to_datetime

import orjson

from farlet.cli.checks import causes
from farlet.cli.checks.findings import Finding, Outcome, of
from farlet.cli.reading import clean
from farlet.client import resources
from farlet.client.cluster import Cluster
from farlet.node import prerequisites
from farlet.rbac import Permission, Side, Where
from farlet.settings import Settings

SUPPORTED = (34, 37)
"""First and last minor version of Kubernetes 1, in both clusters (docs/versions.md)."""

TOLERATED_SECONDS = 5.0
WRONG_SECONDS = 300.0
"""API servers backdate certificates by this much (`pkg/controller/certificates/signer`)."""

_PROXY = Permission(
    Side.HOME, Where.CLUSTER, "", "nodes/proxy", ("get",), "whether home reaches the kubelet API"
)
"""An administrator's, not one of farlet (`rbac.TABLE`)."""

_BODY_BYTES = 4096
_MINOR = re.compile(r"v1\.(\d{1,3})\b")


async def findings(home: Cluster | None, foreign: Cluster | None) -> list[Finding]:
    """`None` for an API server that does not answer."""
    checks = [_clock(cluster) for cluster in (home, foreign) if cluster is not None]
    if home is not None and foreign is not None:
        checks.append(_versions(home, foreign))
    return list(await asyncio.gather(*checks))


async def _versions(home: Cluster, foreign: Cluster) -> Finding:
    what = "Kubernetes versions"
    first, last = SUPPORTED

    async def check() -> Finding:
        found = {one.name: await one.server_version() or "unknown" for one in (home, foreign)}
        seen = ", ".join(f"{name} {clean(version, most=40)}" for name, version in found.items())
        minors = [_MINOR.match(version) for version in found.values()]
        if all(one is not None and first <= int(one[1]) <= last for one in minors):
            return Finding(what, Outcome.OK, seen)
        hint = f"supported are 1.{first} to 1.{last} in both clusters (docs/versions.md)"
        return Finding(what, Outcome.WARNING, seen, hint)

    return await of(what, check(), hint="try again")


async def _clock(cluster: Cluster) -> Finding:
    """The clock of the API server, compared with that of this machine."""
    what = f"{cluster.name} clock"

    async def check() -> Finding:
        before = time.time()
        try:
            response = await cluster.open_path("GET", "/version", [])
        except OSError as err:
            return Finding(what, Outcome.WARNING, f"not checked: {clean(err)}")
        now = (before + time.time()) / 2
        dates = response.headers("date")
        response.abort()
        try:
            server = parsedate_to_datetime(dates[0]).timestamp() + 0.5  # it has whole seconds
        except (ValueError, IndexError):
            return Finding(what, Outcome.OK, "not checked: its answers contain no time")
        return _compared(what, server - now)

    return await of(what, check(), hint="try again")


def _compared(what: str, ahead: float) -> Finding:
    """`ahead`: seconds by which the server's clock is ahead of this machine's."""
    if abs(ahead) < TOLERATED_SECONDS:
        return Finding(what, Outcome.OK, "as on this machine")
    seen = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
    hint = (
        "synchronize the clocks (NTP) of this machine, of the nodes of the control plane and of "
        "farlet's node: certificates and tokens can be rejected as expired or not yet valid"
    )
    wrong = abs(ahead) >= WRONG_SECONDS
    return Finding(what, Outcome.FAILED if wrong else Outcome.WARNING, seen, hint)


async def kubelet(settings: Settings, home: Cluster) -> Finding | None:
    """Whether the home API server reaches farlet, as it does for `kubectl logs` and `exec`.

    An administrator is allowed to send this request (`nodes/proxy`); farlet itself is not.
    `None`: farlet does not serve the kubelet API.
    """
    if settings.kubelet_bind_address is None:
        return None
    what, node = causes.KUBELET_PORT, settings.nodename

    async def check() -> Finding:
        if await prerequisites.denied_verbs(home, _PROXY):
            seen = "not checked: only administrators are allowed to check this (get nodes/proxy)"
            return Finding(what, Outcome.OK, f"{seen}; run this with --home-context of one")
        path = resources.NODES.below("proxy").path("", node)
        code, raw = await home.call_aggregated(f"{path}/healthz")
        message, is_status = _message(raw)
        if code == 200:
            return Finding(what, Outcome.OK, f"the home API server reaches {node}")
        if code == 404:
            return Finding(what, Outcome.OK, f"not checked: the Node {node} does not exist yet")
        if code in {401, 403}:  # farlet's own answer
            return Finding(what, Outcome.OK, f"the home API server reaches {node}")
        if code == 500 and not is_status:  # farlet's own answer, too
            seen = f"the home API server reaches {node}, which reports a problem"
            return Finding(what, Outcome.WARNING, seen, message)
        seen = message or f"the home API server answered {code}"
        hint = _CERTIFICATE if _X509 in message else _UNREACHED
        return Finding(what, Outcome.FAILED, seen, f"kubectl logs and exec need it: {hint}")

    return await of(what, check(), hint="see the check of the home API server")


_X509 = "x509: "
_CERTIFICATE = (
    "the certificate of farlet must be signed by a CA that the home API server trusts "
    "(--kubelet-certificate-authority), and be valid for the InternalIP of the Node: see the check "
    "of the serving certificate, or --tls-cert-file"
)
_UNREACHED = (
    "check that farlet runs, and that --node-ip and --kubelet-port are reachable from the control "
    "plane"
)


def _message(raw: bytes) -> tuple[str, bool]:
    """The message of a Status, or the text itself; whether it is a Status."""
    text = raw[:_BODY_BYTES].decode(errors="replace")
    try:
        found = orjson.loads(text)  # bounded depth, unlike the standard library's
    except orjson.JSONDecodeError:
        return clean(text), False
    if not isinstance(found, dict):
        return "", False
    return clean(str(found.get("message", ""))), found.get("kind") == "Status"
