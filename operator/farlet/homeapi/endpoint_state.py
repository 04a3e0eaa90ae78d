"""What a look at the address of the home API server means for pods. Pure.

An address that leads elsewhere is refused for good reason: a token would go there. One that is
only out of farlet's sight is a doubt, unless sight is required.
"""

from __future__ import annotations

import dataclasses

from farlet import errors
from farlet.constants import HOME_API_SERVICE, Reason
from farlet.context import Context, Endpoint
from farlet.homeapi.preflight import PreflightResult, Unreachable, Verified, WrongCertificate

_PASSING = frozenset({Reason.HOME_API_UNVERIFIED, Reason.FOREIGN_UNREACHABLE})
"""Refusals whose text differs from look to look, as errors of connections do."""

_REQUIRED = (
    "Pods wait, as --home-api-preflight=require asks. Let farlet reach that address, or start it "
    "with --home-api-preflight=warn if only pods abroad can"
)


def judged(
    ctx: Context, where: Endpoint, verdict: PreflightResult, *, required: bool, seen: bool
) -> Context:
    """Pods are to dial `where`. `required`: only if it is in sight; `seen`: it has been before."""
    refusal, reason = None, Reason.HOME_API_CERTIFICATE_INVALID
    if isinstance(verdict, WrongCertificate):
        refusal = verdict.message
    elif isinstance(verdict, Unreachable) and required:
        refusal, reason = f"{verdict.message}. {_REQUIRED}", Reason.HOME_API_UNVERIFIED
    return dataclasses.replace(
        ctx,
        endpoint=where,
        endpoint_refusal=refusal,
        endpoint_refusal_reason=reason,
        endpoint_verified=isinstance(verdict, Verified) or seen,
        endpoint_doubt=verdict.message if isinstance(verdict, Unreachable) else None,
    )


def failure(ctx: Context) -> object:
    """What is wrong, without the words; `None` where nothing is, or the words tell what."""
    if ctx.endpoint_refusal is not None:
        reason = ctx.endpoint_refusal_reason
        return (ctx.endpoint, reason) if reason in _PASSING else None
    return None if ctx.endpoint_doubt is None else (ctx.endpoint, ctx.endpoint_verified)


def without(
    ctx: Context, refusal: str | None, reason: Reason = Reason.HOME_API_NOT_CONFIGURED
) -> Context:
    """There is no address for pods; `refusal` says why, unless nothing was set up at all."""
    return dataclasses.replace(
        ctx,
        endpoint=None,
        endpoint_refusal=refusal,
        endpoint_refusal_reason=reason,
        endpoint_verified=False,
        endpoint_doubt=None,
    )


def unheard(problem: errors.FarletError | None) -> tuple[str, Reason]:
    """Why there is no address while the Service has not been heard of."""
    if isinstance(problem, errors.ApiError):
        unseen = (
            f"farlet cannot see whether there is a Service {HOME_API_SERVICE} by which pods reach "
            f"the home API server: {problem}. Grant it with manifests/foreign, or have farlet "
            "started with --home-api-server-host and --home-api-server-port"
        )
        return unseen, Reason.HOME_API_NOT_CONFIGURED
    silent = problem or "it has not answered yet"
    return f"the foreign API server is not reached: {silent}", Reason.FOREIGN_UNREACHABLE
