"""The client of a model server: request paths, delays and scripted faults.

Faults are scripted: each write takes the next one.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import parse_qs, unquote

from farlet import errors
from farlet.client.decode import WatchEvent
from unit.fakeclient import FakeClient
from unit.planning import model
from unit.planning.model import JSON, Selects, Server, Status

_PATH = re.compile(
    r"/(?:api|apis/[a-z0-9.]+)/v1(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>[^/?]+)(?:/(?P<name>[^/?]+))?(?:/(?P<sub>[^/?]+))?(?:\?(?P<query>.*))?"
)
HALF_WAY_SECONDS = 0.002
LATE_SECONDS = 0.1
SILENCE_SECONDS = 80.0
"""A watch from a version that the server has not reached yet shows nothing, not even bookmarks."""
FARLET = "farlet"
ACCOUNT = "system:serviceaccount:farlet:farlet"


class Fault(Enum):
    """What happens to one write."""

    FINE = "fine"
    LOST = "never arrives, and no answer comes"
    DONE = "is applied, but no answer comes"
    LATE = "is applied a moment after its sender gave up"
    CONFLICT = "meets a change that came between"
    REFUSED = "is refused for now"
    THROTTLED = "is answered with 429"


_CODES = {
    Fault.CONFLICT: (errors.Conflict, 409, "Conflict", "the object has been modified"),
    Fault.REFUSED: (errors.Forbidden, 403, "Forbidden", "exceeded quota: pods"),
    Fault.THROTTLED: (errors.Throttled, 429, "TooManyRequests", "slow down"),
}
_KINDS: dict[int, type[errors.ApiError]] = {
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    422: errors.Invalid,
}


class FakeCluster(FakeClient):
    """A connection to one server."""

    def __init__(self, name: str, server: Server, clock: Callable[[], float]) -> None:
        self._name = name
        self.server = server
        self._clock = clock
        self._news = asyncio.Event()
        self._broken = 0
        self.faults: deque[Fault] = deque()
        self.down = False
        self.lag = 0.0
        """Seconds that watch events take."""
        self.twice = False
        """Every watch event comes twice."""
        self.invalid: list[str] = []
        """Writes that no server would accept."""
        self.sent: list[tuple[float, str, str, JSON]] = []
        """All that farlet sent, faults included: seconds, cluster, verb and path, body."""
        self._connections = 0
        self.guard: Callable[[], float] = lambda: 0.0
        """Asked before each write; what it raises is raised instead of an answer."""
        server.observers.append(lambda _: self._stir())

    @property
    def name(self) -> str:
        return self._name

    @property
    def connection(self) -> object:
        return self._connections

    def lead_to(self, server: Server, *, login: bool = True) -> None:
        """Requests from now on go to another server.

        `login`: with other credentials, so that open watches stay where they are. Otherwise the
        other server is behind the same address, and they break.
        """
        self.server = server
        server.observers.append(lambda _: self._stir())
        if login:
            self._connections += 1
        else:
            self.break_watches()

    def namespace_uid(self, name: str) -> str:
        """The uid of a namespace."""
        return str(self.server.get(("namespaces", "", name))["metadata"]["uid"])

    def break_watches(self) -> None:
        """Every open watch ends without an event."""
        self._broken += 1
        self._stir()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        """One request. Cancelled before it arrives, it is lost; cancelled later, it was applied."""
        sent: JSON = {} if body is None else model.clone(body)
        request = f"{method} {path}"
        self.note(request, sent)
        writes = method != "GET" and not path.endswith("/token")
        await asyncio.sleep(HALF_WAY_SECONDS)
        if self.down:
            raise self._silence(request)
        if writes:
            self.guard()
        fault = self.faults.popleft() if writes and self.faults else Fault.FINE
        if fault is Fault.CONFLICT and method != "PATCH":
            fault = Fault.FINE  # servers answer so to updates only
        if fault is Fault.REFUSED and "spec" in sent and method == "PATCH":
            fault = Fault.THROTTLED  # no quota concerns it
        if fault is Fault.LOST:
            raise self._silence(request)
        if fault is Fault.LATE:
            asyncio.get_running_loop().call_later(
                LATE_SECONDS, self._too_late, method, path, sent, content_type
            )
            raise self._silence(request)
        if fault in _CODES:
            kind, code, reason, text = _CODES[fault]
            raise kind(
                cluster=self.name, request=request, code=code, status_reason=reason, message=text
            )
        try:
            answer = self._serve(method, path, sent, content_type)
        except Status as status:
            if status.code == 422:
                self.invalid.append(f"{request}: {status.message} {sent}")
            raise self._refusal(request, status) from None
        if accept is not None and "PartialObjectMetadata;" in accept:
            answer = {"metadata": answer["metadata"]}
        copy: JSON = model.clone(answer)
        await asyncio.sleep(HALF_WAY_SECONDS)
        if fault is Fault.DONE or self.down:
            raise self._silence(request)
        return copy

    async def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[WatchEvent[JSON]]:
        """Events from the resourceVersion in the query on, until the watch breaks."""
        match = _PATH.fullmatch(path)
        assert match is not None
        query = parse_qs(match["query"])
        selects = _selection(match["namespace"], query)
        version = int(query["resourceVersion"][0])
        self.note(f"WATCH {path}", {})
        server = self.server
        await asyncio.sleep(HALF_WAY_SECONDS)
        if self.down:
            raise self._silence(path)
        broken, last = self._broken, self._clock()
        opened()
        while True:
            self._news.clear()
            try:
                writes = list(server.since(version, match["resource"], selects))
            except Status as status:
                raise self._refusal(path, status) from None
            wait = 60.0
            for write in writes:
                wait = write.at + self.lag - self._clock()
                if wait > 1e-6:
                    break
                version, last, wait = write.version, self._clock(), 60.0
                kind, obj = model.event(write, selects)
                for _ in range(2 if self.twice else 1):
                    shown = {"metadata": obj["metadata"]} if accept else obj
                    yield WatchEvent(kind, model.clone(shown))
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                if (
                    bookmarks
                    and server.version < version
                    and self._clock() - last >= SILENCE_SECONDS
                ):
                    raise self._silence(path) from None
                if (
                    bookmarks
                    and not writes
                    and server.version >= version
                    and self._clock() - last >= 60
                ):
                    version, last = server.version, self._clock()
                    yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})
            if self.down or broken != self._broken:
                raise self._silence(path)

    def _serve(self, method: str, path: str, body: JSON, content_type: str) -> JSON:
        match = _PATH.fullmatch(path)
        assert match is not None, path
        namespace, resource, name = match["namespace"], match["resource"], match["name"]
        where = (resource, namespace or "", name)
        if method == "GET" and name is None:
            selects = _selection(namespace, parse_qs(match["query"] or ""))
            items = [obj for obj in self.server.all(resource) if selects(obj)]
            return {"metadata": {"resourceVersion": str(self.server.version)}, "items": items}
        if method == "GET":
            return self.server.get(where)
        if match["sub"] == "token":
            return self._token(namespace, body)
        if match["sub"] == "eviction":
            uid = body["deleteOptions"]["preconditions"]["uid"]
            return self.server.delete(where, by=FARLET, grace=None, uid=uid)
        if resource == "selfsubjectreviews":
            return {"status": {"userInfo": {"username": ACCOUNT}}}
        if resource == "selfsubjectaccessreviews":
            return {"status": {"allowed": True}}
        if method == "POST":
            return self.server.create(resource, namespace or "", body, by=FARLET)
        if match["sub"] == "ephemeralcontainers":
            body = {key: body[key] for key in ("metadata", "spec")}
            return self.server.patch(where, body, by=FARLET, status=False, strategic=True)
        if method == "PATCH":
            strategic = "strategic" in content_type
            status = match["sub"] == "status"
            if match["sub"] == "resize":
                body = {"metadata": {"uid": body["metadata"]["uid"]}, "spec": body["spec"]}
            return self.server.patch(where, body, by=FARLET, status=status, strategic=strategic)
        if method == "PUT":
            return self.server.replace(where, body, by=FARLET)
        preconditions = body.get("preconditions", {})
        return self.server.delete(
            where,
            by=FARLET,
            grace=body.get("gracePeriodSeconds"),
            uid=preconditions.get("uid"),
            version=preconditions.get("resourceVersion"),
        )

    def _token(self, namespace: str, body: JSON) -> JSON:
        bound = body["spec"]["boundObjectRef"]
        pod = self.server.get(("pods", namespace, bound["name"]))
        if pod["metadata"]["uid"] != bound["uid"]:
            raise Status(409, "Conflict", "the UID in the bound object reference does not match")
        ends = datetime.fromtimestamp(self._clock() + body["spec"]["expirationSeconds"], UTC)
        return {
            "status": {
                "token": f"token-of-{bound['uid']}",
                "expirationTimestamp": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        }

    def _too_late(self, method: str, path: str, body: JSON, content_type: str) -> None:
        try:
            self._serve(method, path, body, content_type)
        except Status:
            return  # the sender has given up

    def note(self, request: str, body: JSON) -> None:
        """Keep a request in `sent`."""
        self.sent.append((self._clock(), self.name, request, body))

    def _stir(self) -> None:
        self._news.set()

    def _silence(self, request: str) -> errors.Unreachable:
        return errors.Unreachable(cluster=self.name, request=request, cause="connection reset")

    def _refusal(self, request: str, status: Status) -> errors.ApiError:
        return _KINDS[status.code](
            cluster=self.name,
            request=request,
            code=status.code,
            status_reason=status.reason,
            message=status.message,
        )


def _selection(namespace: str | None, query: dict[str, list[str]]) -> Selects:
    """The selectors that farlet uses: one label; the node's name, and the pod's beside it."""
    label, _, value = unquote(query.get("labelSelector", [""])[0]).partition("=")
    given = unquote(query.get("fieldSelector", [""])[0])
    fields = dict(term.split("=") for term in given.split(",") if term)
    node, name = fields.get("spec.nodeName"), fields.get("metadata.name")

    def selects(obj: JSON) -> bool:
        metadata = obj["metadata"]
        return (
            (namespace is None or metadata["namespace"] == namespace)
            and (not label or metadata.get("labels", {}).get(label) == value)
            and (not node or obj["spec"].get("nodeName") == node)
            and (not name or metadata["name"] == name)
        )

    return selects
