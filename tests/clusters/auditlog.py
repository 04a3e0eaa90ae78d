"""The audit log of an API server, typed: the requests that it received, and their users.

The server writes an entry before it ends its response (blocking mode), so a client that has the
response also finds the entry. Entries contain metadata only, never bodies, and so no tokens.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]  # leaves ResponseComplete, and ResponseStarted for watches
rules:
- level: Metadata
"""

READS = frozenset({"get", "list", "watch"})
"""Verbs that change nothing."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """A place in the log: everything after it happened later."""

    offset: int


START = Mark(0)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One request as the API server saw it; `user` is the user whose permissions were checked.

    `message` is the server's own, and empty after a success.
    """

    stage: str
    time: datetime.datetime
    verb: str
    user: str
    user_agent: str
    uri: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    message: str
    raw: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def began(self) -> datetime.datetime:
        """When the API server had read the head of the request."""
        return datetime.datetime.fromisoformat(self.raw["requestReceivedTimestamp"])

    @property
    def credential(self) -> str:
        """The ID of the certificate or token of the request."""
        extra = self.raw["user"].get("extra", {})
        return str(extra.get("authentication.kubernetes.io/credential-id", [""])[0])


@dataclasses.dataclass(frozen=True)
class Log:
    """The audit log of one API server."""

    path: Path

    def mark(self) -> Mark:
        return Mark(self.path.stat().st_size if self.path.exists() else 0)

    def entries(
        self,
        *,
        since: Mark = START,
        stage: str = "ResponseComplete",
        user_agent: str | None = None,
        user: str | None = None,
        verb: str | None = None,
        resource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
    ) -> Iterator[Entry]:
        """Entries after `since` of one stage; `user_agent` is a prefix, the others are exact.

        A watch is in stage ResponseComplete only once it has ended: ask for ResponseStarted.
        """
        for entry in self._read(since):
            if (
                entry.stage == stage
                and entry.user_agent.startswith(user_agent or "")
                and user in {None, entry.user}
                and verb in {None, entry.verb}
                and resource in {None, entry.resource}
                and namespace in {None, entry.namespace}
                and name in {None, entry.name}
            ):
                yield entry

    def refused(self) -> Iterator[Entry]:
        """The entries with a 403 response; fast in a long log."""
        for entry in self._read(START, holding=(b'"code":403',)):
            if entry.code == 403:
                yield entry

    def readiness(self) -> Iterator[datetime.datetime]:
        """When the API server reported that it was ready; fast in a long log."""
        for entry in self._read(START, holding=(b'"requestURI":"/readyz',)):
            if entry.code == 200:
                yield entry.time

    def by_agents(self, *prefixes: str, since: Mark = START) -> Iterator[Entry]:
        """The requests of these clients, in each stage; fast in a long log."""
        holding = tuple(f'"userAgent":"{prefix}'.encode() for prefix in prefixes)
        for entry in self._read(since, holding=holding):
            if entry.user_agent.startswith(prefixes):
                yield entry

    def _read(self, since: Mark, *, holding: tuple[bytes, ...] = (b"",)) -> Iterator[Entry]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            if since.offset:  # it can be within a line that was being written
                file.seek(since.offset - 1)
                file.readline()
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written
                if any(text in line for text in holding):
                    yield _entry(json.loads(line))


def _entry(raw: dict[str, Any]) -> Entry:
    target = raw.get("objectRef", {})
    return Entry(
        stage=raw["stage"],
        time=datetime.datetime.fromisoformat(raw["stageTimestamp"]),
        verb=raw["verb"],
        user=raw.get("impersonatedUser", raw["user"]).get("username", ""),
        user_agent=raw.get("userAgent", ""),
        uri=raw["requestURI"],
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=raw.get("responseStatus", {}).get("code", 0),
        message=raw.get("responseStatus", {}).get("message", ""),
        raw=raw,
    )
