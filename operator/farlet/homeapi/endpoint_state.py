"""The state of the home API endpoint after a check. Pure.

farlet refuses an endpoint where something else answers, since a home token would be sent there. An
endpoint that farlet cannot reach stays in use, unless `--home-api-preflight=require`.
"""

from __future__ import annotations

from collections.abc import Sequence

from farlet import errors, redaction
from farlet.constants import HOME_API_SERVICE, HOME_API_SETTINGS, Reason
from farlet.context import (
    Endpoint,
    HomeAPI,
    NotConfigured,
    OutOfReach,
    Refused,
    Unverified,
    Verified,
)
from farlet.homeapi import preflight
from farlet.homeapi.endpoint import DEFAULT_NAME, ServiceAddress
from farlet.planning import api_refusals

_CONNECTION_FAILURES = frozenset({Reason.HOME_API_UNVERIFIED, Reason.FOREIGN_UNREACHABLE})
"""Reasons whose message differs from check to check, as errors of connections do."""

_REQUIRED = (
    "Pods wait, because --home-api-preflight=require is set. Make that address reachable for "
    "farlet, or start it with --home-api-preflight=warn if only pods in the foreign cluster can "
    "reach it"
)


def after_preflight(
    endpoint: Endpoint, result: preflight.PreflightResult, *, required: bool, was_verified: bool
) -> HomeAPI:
    """`required`: pods use only an endpoint that farlet verified in this check."""
    match result:
        case preflight.Verified():
            return Verified(endpoint)
        case preflight.WrongCertificate(message):
            return Refused(
                Reason.HOME_API_CERTIFICATE_INVALID, message, endpoint, was_verified=was_verified
            )
        case preflight.Unreachable(message):
            if required:
                return Refused(
                    Reason.HOME_API_UNVERIFIED,
                    f"{message}. {_REQUIRED}",
                    endpoint,
                    was_verified=was_verified,
                )
            return OutOfReach(endpoint, message) if was_verified else Unverified(endpoint, message)


def unknown_names(
    address: ServiceAddress,
    names: Sequence[str],
    *,
    home: Sequence[str],
    usable: Sequence[str],
    problem: str | None,
) -> Refused:
    """The state while the certificate behind the Service has no name that pods may dial.

    `names` are those in it; `home` those in the home API server's certificates, of which pods may
    dial the `usable` ones; `problem`: why farlet could not read such a certificate just now.
    """
    found = f"its names (SANs) are: {redaction.names(names)}"
    if not home:
        return Refused(
            Reason.HOME_API_UNVERIFIED,
            "farlet does not know the names in the home API server's certificate: "
            + (problem or "its kubeconfig disables the verification of that certificate")
            + f". So it cannot tell whether the server behind {address} is the home API server; "
            f"{found}. Use a home kubeconfig with an https URL and a CA bundle, or set "
            f"{HOME_API_SETTINGS}",
        )
    if not usable:
        return Refused(
            Reason.HOME_API_CERTIFICATE_INVALID,
            "the home API server's certificate contains no DNS name that pods can dial; its names "
            f"(SANs) are: {redaction.names(home)}. Add {DEFAULT_NAME} to it",
        )
    return Refused(
        Reason.HOME_API_CERTIFICATE_INVALID,
        f"the server behind {address} has a certificate that the home CA signed, but not that of "
        f"the home API server; {found}. farlet expected one of: {redaction.names(usable)}. Check "
        "the pods behind that Service, and the server to which they forward connections",
    )


def not_synced(problem: errors.FarletError | None) -> Refused:
    """The state while farlet has not read the Service yet."""
    if isinstance(problem, errors.Unauthorized):
        return Refused(Reason.FOREIGN_UNAUTHORIZED, problem.advice)
    if isinstance(problem, errors.ApiError):
        return Refused(
            Reason.HOME_API_NOT_CONFIGURED,
            f"farlet cannot read the Service {HOME_API_SERVICE}, through which pods reach the home "
            f"API server: {problem}. {_grant(problem)}or set {HOME_API_SETTINGS}",
        )
    cause = problem or "it has not answered yet"
    return Refused(Reason.FOREIGN_UNREACHABLE, f"the foreign API server is not reachable: {cause}")


def _grant(problem: errors.ApiError) -> str:
    if not isinstance(problem, errors.Forbidden):
        return "Fix this error, "
    return f"{api_refusals.grant(problem.message)}, "


def failure(home_api: HomeAPI) -> object:
    """What a connection failure has in common with its repetition, which has another message;
    `None` for every other state.
    """
    match home_api:
        case Refused(reason, _, endpoint):
            return (endpoint, reason) if reason in _CONNECTION_FAILURES else None
        case Unverified(endpoint) | OutOfReach(endpoint):
            return endpoint, home_api.was_verified
        case Verified() | NotConfigured():
            return None


def without_cause(home_api: HomeAPI) -> HomeAPI:
    """What of the state concerns pods: not why farlet cannot reach the endpoint."""
    match home_api:
        case OutOfReach(endpoint):
            return Verified(endpoint)
        case Unverified(endpoint):
            return Unverified(endpoint, "")
        case _:
            return home_api
