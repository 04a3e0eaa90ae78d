"""Every error that farlet raises on purpose.

The tree; an indented class is a kind of the one above it::

    FarletError
      UsageError            the command line or a setting is wrong: exit code 2
      StartError            farlet cannot start as told: exit code 1
      NotLeading            another process may write now, or may soon; this one may not any more
      Refused               this pod cannot run abroad as it is; waits for its owner or admin
      ApiError              an API server answered with a Status that is no success
        NotFound            404
        Conflict            409 (name taken, uid or resourceVersion moved on)
        Gone                410 (the resourceVersion is too old; list again)
        Forbidden           403
        Invalid             422, and 400
        Throttled           429 and 503 with Retry-After; `retry_after` in seconds
      Unreachable           no answer: refused, reset, timed out, TLS broken; the write may have run

Each class knows what the reconciler needs: `reason`, which the home pod shows, and
`text()`, which never holds a token or the body of a Secret.
"""

from __future__ import annotations

from farlet import redaction
from farlet.constants import Reason


class FarletError(Exception):
    """Root of the tree."""


class UsageError(FarletError):
    """A flag, an environment variable or a file is wrong; the message names it."""


class StartError(FarletError):
    """The process cannot start; the message says what to do."""


class NotLeading(FarletError):
    """A write was not begun, since this process does not hold the Lease, or cannot be sure to.

    Once it has held it, it never will again: the message says why, and the process ends.
    """


class Refused(FarletError):
    """A pod that farlet will not send abroad as it is, or not yet.

    `reason` and `message` become those of the home status: what is wrong, and what to do.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ApiError(FarletError):
    """An API server refused a request. `cluster` is `home` or `foreign`."""

    def __init__(
        self, *, cluster: str, request: str, code: int, status_reason: str, message: str
    ) -> None:
        message = redaction.redact(message)
        super().__init__(f"{cluster} API server answered {code} to {request}: {message}")
        self.cluster = cluster
        self.request = request
        self.code = code
        self.status_reason = status_reason
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


class Forbidden(ApiError):
    """403."""


class Invalid(ApiError):
    """422 or 400: the server will never take this body."""


class Throttled(ApiError):
    """429, or 503 with Retry-After."""

    retry_after: float = 1.0


class Unreachable(FarletError):
    """No answer came. A write may or may not have been applied."""

    def __init__(self, *, cluster: str, request: str, cause: str) -> None:
        cause = redaction.redact(cause)
        super().__init__(f"{cluster} API server did not answer {request}: {cause}")
        self.cluster = cluster
        self.request = request
        self.cause = cause
