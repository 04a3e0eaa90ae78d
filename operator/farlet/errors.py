"""Every error that farlet raises on purpose.

The tree; an indented class is a kind of the one above it::

    FarletError
      UsageError            the command line or a setting is wrong: exit code 2
      StartError            farlet cannot start: exit code 1
      NotLeading            this process is not sure to hold the Lease, and writes nothing
      Refused               this pod cannot run in the foreign cluster as it is; its owner or an
                            administrator has to act
        Unconfirmed         the foreign API server is perhaps that of another cluster
      ApiError              an API server answered with a Status other than Success
        NotFound            404
        Conflict            409 (name taken, uid or resourceVersion moved on)
        Gone                410 (the resourceVersion is too old; list again)
        Unauthorized        401 (farlet's credentials are not accepted)
        Forbidden           403
        Invalid             422, and 400
        Throttled           429 and 503 with Retry-After; `retry_after` in seconds
      Unreachable           no answer: refused, reset, timed out, TLS failed; the write possibly
                            took effect

`Refused` carries the reason that the home pod shows. The text of an error contains neither tokens
nor bodies of Secrets, and what it quotes from outside is cut (`redaction`).
"""

from __future__ import annotations

import re

from farlet import redaction
from farlet.constants import Reason

RUN = "Run this with your contexts: "
"""Before a command with `CONTEXTS`."""
CONTEXTS = "--home-context HOME --foreign-context FOREIGN"
"""In a command of a text, in place of the contexts of its reader, which farlet does not know."""

NODE = "NODE"
"""In a text, where the virtual node is not known."""


class FarletError(Exception):
    """Root of the tree."""


class UsageError(FarletError):
    """A flag, an environment variable or a file is wrong; the message names it."""


class StartError(FarletError):
    """The process cannot start; the message says what to do."""


class NotLeading(FarletError):
    """A write was not started, because this process does not hold the Lease or is not sure to.

    A process that has lost the Lease does not acquire it again: it ends with this message.
    """


class Refused(FarletError):
    """farlet does not create a mirror for a pod as it is, or not yet.

    The home status shows `reason` and `message`: what is wrong, and what to do.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        message = redaction.cut(message, redaction.KUBELET_CHARS)  # what it quotes is cut before
        super().__init__(message)
        self.reason = reason
        self.message = message


class Unconfirmed(Refused):
    """It is not certain that the foreign API server is that of the cluster with the mirrors.

    Nothing that it answers is evidence, and no write is sent to it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(Reason.FOREIGN_CLUSTER_UNCONFIRMED, message)


class ApiError(FarletError):
    """An API server refused a request. `cluster` is `home` or `foreign`."""

    def __init__(
        self, *, cluster: str, request: str, code: int, status_reason: str, message: str
    ) -> None:
        message = redaction.message(message)
        super().__init__(f"{cluster} API server answered {code} to {request}: {message}")
        self.cluster = cluster
        self.request = request
        self.code = code
        self.status_reason = redaction.value(status_reason)
        self.message = message


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409; `AlreadyExists` when a name is taken."""

    @property
    def already_exists(self) -> bool:
        """The name is taken, as opposed to a precondition that failed."""
        return self.status_reason == "AlreadyExists"


class Gone(ApiError):
    """410, or an ERROR event of that code inside a watch."""


class Unauthorized(ApiError):
    """401: the server does not accept farlet's credentials."""

    node: str = NODE
    """The virtual node that the credentials are for."""

    @property
    def advice(self) -> str:
        """What is wrong, and what to do."""
        return credentials_rejected(self.cluster, self.message, node=self.node)


class Forbidden(ApiError):
    """403."""


class Invalid(ApiError):
    """422, 400, 413 or too large for etcd: the server will reject this body each time."""


class Throttled(ApiError):
    """429, or 503 with Retry-After."""

    retry_after: float = 1.0


class Unreachable(FarletError):
    """No answer came. A write possibly took effect."""

    def __init__(self, *, cluster: str, request: str, cause: str) -> None:
        cause = redaction.message(cause)
        super().__init__(f"{cluster} API server did not answer {request}: {cause}")
        self.cluster = cluster
        self.request = request
        self.cause = cause


class AnswerTooLarge(Unreachable):
    """An answer is longer than farlet reads. One with fewer objects may not be."""


class UnknownPath(Unreachable):
    """404 as plain text: an API server answers so for a resource that it does not have, such as one
    whose CustomResourceDefinition is not installed. Other HTTP servers do, too.
    """


def credentials_rejected(cluster: str, message: str, *, node: str = NODE) -> str:
    """What is wrong, and what to do, where an API server answered 401 with this message.

    The message of an API server is cut, and what to do is not. A process of farlet knows only the
    mounted file of its Secret, so the text has the default name: see `with_secret`.
    """
    answer = redaction.cut(message, redaction.VALUE_CHARS)
    return (
        f"the {cluster} API server does not accept farlet's credentials (401 {answer}): they have "
        f"expired or were revoked. {RUN}farlet connect {CONTEXTS} --node {node} (a node without "
        "farlet connect: put a kubeconfig with new credentials into the Secret "
        f"farlet-{node}-{cluster}, docs/how-to/renew-credentials.md)"
    )


def with_secret(text: str, cluster: str, secret: str) -> str:
    """A text about one node, with the name of the Secret with its credentials for a cluster."""
    return re.sub(rf"\bfarlet-({NODE}|[a-z0-9.-]+)-{cluster}\b", lambda _: secret, text)


def innermost(group: BaseExceptionGroup[FarletError]) -> FarletError:
    """The first error that a group of tasks raised; its message says what to do."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, FarletError)
    return found
