"""Selects the access strategy of a pod by its annotations.

Two annotations select it; users of other operators know them, too. farlet does not guess: a pod
that reaches the wrong API server because of a typing error is worse than a pod that waits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from farlet.access import AccessStrategy
from farlet.constants import API_SERVER_SUPPORT, REMOTE, REMOTE_SERVICE_ACCOUNT_NAME, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.k8s_types import Pod

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
"""RFC 1123 as Kubernetes checks it (`IsDNS1123Subdomain`) for ServiceAccount names."""


def choose(pod: Pod, strategies: Mapping[str, AccessStrategy], ctx: Context) -> AccessStrategy:
    """The strategy for `pod`: by annotation, or `ctx.access_default` where it has none.

    Values are compared literally; other case, spaces and the empty string are refused. Raises
    `Refused` with `InvalidAPIServerSupport` or `InvalidRemoteServiceAccount`.
    """
    annotations = pod["metadata"].get("annotations") or {}
    mode = annotations.get(API_SERVER_SUPPORT)
    allowed = ", ".join(sorted(strategies))
    if mode is None:
        mode = ctx.access_default
        if mode not in strategies:
            raise Refused(
                Reason.INVALID_API_SERVER_SUPPORT,
                f"the pod has no annotation {API_SERVER_SUPPORT}, and farlet's default, "
                f"--api-access-default={mode}, is not one of: {allowed}. Set the annotation, or "
                "correct the flag",
            )
    elif mode not in strategies:
        raise Refused(
            Reason.INVALID_API_SERVER_SUPPORT,
            f"annotation {API_SERVER_SUPPORT} is {_shown(mode)}, expected exactly one of: "
            f"{allowed}. Recreate the pod with one of them, or without the annotation for "
            f"{ctx.access_default}",
        )
    name = annotations.get(REMOTE_SERVICE_ACCOUNT_NAME)
    if name is not None:
        _check_account(name, mode)
    return strategies[mode]


def _check_account(name: str, mode: str) -> None:
    if mode != REMOTE:
        raise Refused(
            Reason.INVALID_REMOTE_SERVICE_ACCOUNT,
            f"annotation {REMOTE_SERVICE_ACCOUNT_NAME} is {_shown(name)}, but it is only valid "
            f"with {API_SERVER_SUPPORT}: {REMOTE}, and this pod's access mode is {mode}. "
            f"Remove it, or set {API_SERVER_SUPPORT} to {REMOTE}",
        )
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        raise Refused(
            Reason.INVALID_REMOTE_SERVICE_ACCOUNT,
            f"annotation {REMOTE_SERVICE_ACCOUNT_NAME} is {_shown(name)}, which is not a valid "
            "ServiceAccount name: expected lower-case letters, digits, '-' and '.', starting and "
            "ending with a letter or digit, at most 253 characters",
        )


def _shown(value: str) -> str:
    """A value quoted for a message, shortened: annotations can be of any length."""
    return repr(value) if len(value) <= 80 else f"{value[:60]!r}... ({len(value)} characters)"
