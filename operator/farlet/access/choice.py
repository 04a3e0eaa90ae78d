"""Which strategy a pod's owner chose.

Two annotations say it, and they are a contract with users of other operators too. Nothing is
guessed: an API server that a pod reaches by a typing error is worse than a pod that waits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from farlet.access import AccessStrategy
from farlet.constants import API_SERVER_SUPPORT, REMOTE_SERVICE_ACCOUNT_NAME, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.k8s_types import Pod

_REMOTE = "remote"

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
"""RFC 1123 as Kubernetes reads it (`IsDNS1123Subdomain`), which ServiceAccount names must meet."""


def choose(pod: Pod, strategies: Mapping[str, AccessStrategy], ctx: Context) -> AccessStrategy:
    """The strategy for `pod`: by annotation, or `ctx.access_default` where it has none.

    Values are compared literally; other case, spaces and the empty string are refused. Raises
    `Refused` with `InvalidAPIServerSupport` or `InvalidRemoteServiceAccount`.
    """
    annotations = pod["metadata"].get("annotations") or {}
    wanted = annotations.get(API_SERVER_SUPPORT)
    allowed = ", ".join(sorted(strategies))
    if wanted is None:
        wanted = ctx.access_default
        if wanted not in strategies:
            raise Refused(
                Reason.INVALID_API_SERVER_SUPPORT,
                f"the pod has no annotation {API_SERVER_SUPPORT}, and the default that farlet was "
                f"started with, --api-access-default={wanted}, is not one of: {allowed}. Set the "
                "annotation, or have the flag corrected",
            )
    elif wanted not in strategies:
        raise Refused(
            Reason.INVALID_API_SERVER_SUPPORT,
            f"annotation {API_SERVER_SUPPORT} is {_shown(wanted)}; allowed values, literally, are: "
            f"{allowed}. Create the pod again with one of them, or without the annotation for "
            f"{ctx.access_default}",
        )
    name = annotations.get(REMOTE_SERVICE_ACCOUNT_NAME)
    if name is not None:
        _check_account(name, wanted)
    return strategies[wanted]


def _check_account(name: str, mode: str) -> None:
    if mode != _REMOTE:
        raise Refused(
            Reason.INVALID_REMOTE_SERVICE_ACCOUNT,
            f"annotation {REMOTE_SERVICE_ACCOUNT_NAME} is {_shown(name)}, but it counts only with "
            f"{API_SERVER_SUPPORT}: {_REMOTE}, and this pod's API access is {mode}. Remove it, or "
            f"set {API_SERVER_SUPPORT} to {_REMOTE}",
        )
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        raise Refused(
            Reason.INVALID_REMOTE_SERVICE_ACCOUNT,
            f"annotation {REMOTE_SERVICE_ACCOUNT_NAME} is {_shown(name)}, which cannot be the "
            "name of a ServiceAccount: lower-case letters, digits, '-' and '.', starting and "
            "ending with a letter or digit, at most 253 characters",
        )


def _shown(value: str) -> str:
    """A value as a message quotes it; annotations may be of any length."""
    return repr(value) if len(value) <= 80 else f"{value[:60]!r}... ({len(value)} characters)"
