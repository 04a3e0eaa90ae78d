"""The script of the floor, which is frozen.

The bodies are those of the present farlet, but which requests there are does not follow farlet: a
version that sends more requests must not have a lower ratio to the floor.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from bench.recording import Request, Script
from clusters import errors


@dataclasses.dataclass(frozen=True)
class Step:
    """One request of the script."""

    what: str
    cluster: str
    method: str
    path: str
    """A regular expression that matches the whole path."""

    def matches(self, request: Request) -> bool:
        path = request.path.partition("?")[0]
        return (
            request.cluster == self.cluster
            and request.method == self.method
            and re.fullmatch(self.path, path) is not None
        )


TOKEN = Step("token", "home", "POST", r".*/serviceaccounts/[^/]+/token")
MIRROR = Step("mirror", "foreign", "POST", r".*/pods")
SECRET = Step("Secret", "foreign", "POST", r".*/secrets")
STATUS = Step("status", "home", "PATCH", r".*/pods/[^/]+/status")
DELETE_MIRROR = Step("deletion of the mirror", "foreign", "DELETE", r".*/pods/[^/]+")
DELETE = Step("deletion", "home", "DELETE", r".*/pods/[^/]+")

START = {"home": (TOKEN, MIRROR, SECRET, STATUS), "remote": (MIRROR, STATUS)}
"""From creation to Running, by access mode."""
END = (STATUS, DELETE_MIRROR, DELETE)


def script(recorded: Script, *, mode: str) -> Script:
    """The frozen script with recorded requests. Raises `HarnessError` if farlet sent no such."""
    token = recorded.identity.secret_token
    # Copies of the Secrets to which a pod refers are not part of the script.
    start = [r for r in recorded.start if not SECRET.matches(r) or token in (r.body or b"")]
    return dataclasses.replace(
        recorded,
        start=[_last(step, start) for step in START[mode]],
        # Where farlet writes no final status, the floor writes that of the running pod again.
        end=[_last(step, [*_statuses(start), *recorded.end]) for step in END],
    )


def _statuses(requests: Iterable[Request]) -> list[Request]:
    return [request for request in requests if STATUS.matches(request)]


def _last(step: Step, requests: Sequence[Request]) -> Request:
    """The last such request: an earlier one failed, or wrote a status before Running."""
    found = [request for request in requests if step.matches(request)]
    if not found:
        raise errors.HarnessError(
            f"the recorded pod has no request `{step.what}` ({step.method} {step.path} in the "
            f"{step.cluster} cluster); change bench/frozen.py if farlet sends another one"
        )
    return found[-1]
