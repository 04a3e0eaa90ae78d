"""Which endpoint of a kubelet a request means, and which right it needs. Pure.

Paths, methods and rights are those of `pkg/kubelet/server/server.go` and `auth.go` of Kubernetes
1.36, the fine-grained authorization of KEP-2862 included: the specific subresource is asked for
first, `proxy` then. A path that could be read in two ways is refused before anybody reads it, so
that what is authorized is what is done.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl

from farlet.kubelet.responses import Refusal

_PLAIN = re.compile(r"(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)*/?")
"""Segments of the characters that stand for themselves in a path (RFC 3986). No path of a kubelet
needs an escape, and an escaped slash or dot is read differently by different programs."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

MOST_PARAMETERS = 10_000
"""`kubectl exec` sends each word of its command as one."""


class Endpoint(StrEnum):
    """What a kubelet serves; the value is the first segment of its path."""

    EXEC = "exec"
    ATTACH = "attach"
    PORT_FORWARD = "portForward"
    CONTAINER_LOGS = "containerLogs"
    RUN = "run"
    CHECKPOINT = "checkpoint"
    PODS = "pods"
    RUNNING_PODS = "runningpods"
    HEALTHZ = "healthz"
    CONFIGZ = "configz"
    LOGS = "logs"
    DEBUG = "debug"
    TABLE = "table"
    """A path of the table of handlers that others fill, as statistics do."""


LONG_RUNNING = frozenset({Endpoint.EXEC, Endpoint.ATTACH, Endpoint.PORT_FORWARD, Endpoint.DEBUG})
"""As the label `long_running` of the kubelet's metrics means it."""

_STREAMS = frozenset({Endpoint.EXEC, Endpoint.ATTACH, Endpoint.PORT_FORWARD})
_GET = ("GET",)
_POST = ("POST",)

_OF_PODS: dict[Endpoint, tuple[tuple[str, ...], tuple[int, ...]]] = {
    **dict.fromkeys((Endpoint.EXEC, Endpoint.ATTACH), (("GET", "POST"), (3, 4))),
    Endpoint.PORT_FORWARD: (("GET", "POST"), (2, 3)),
    Endpoint.CONTAINER_LOGS: (_GET, (3,)),
    Endpoint.RUN: (_POST, (3, 4)),
    Endpoint.CHECKPOINT: (_POST, (3,)),
}
"""Endpoints that name a pod: their methods, and how many segments may follow."""

_HEALTHZ = frozenset({"/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"})

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_METHODS = frozenset({"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"})

_BUCKETS = frozenset(
    {*(e.value for e in Endpoint if e is not Endpoint.TABLE), "stats", "metrics"}
    | {f"metrics/{kind}" for kind in ("cadvisor", "probes", "resource")}
)


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Names of headers are in lower case."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    """Decoded; bytes that are no UTF-8 as `surrogateescape` keeps them."""
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        """Value of the first header of that name."""
        return next((value for key, value in self.headers if key == name), None)

    def parameter(self, name: str) -> str | None:
        """Value of the first parameter of that name, which is the one that Go reads."""
        return next((value for key, value in self.query if key == name), None)

    def parameters(self, name: str) -> list[str]:
        """All values of a parameter, in their order."""
        return [value for key, value in self.query if key == name]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a caller must be allowed on this node: any one of `subresources`."""

    verb: str
    subresources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint, and the pod and container that the path names."""

    endpoint: Endpoint
    namespace: str = ""
    pod: str = ""
    uid: str | None = None
    container: str = ""


def parse(method: str, target: str, headers: tuple[tuple[str, str], ...]) -> Request:
    """The request that a head stands for. Raises `Refusal` with 400 for one that is not clear."""
    path, _, query = target.partition("?")
    if not path.startswith("/") or not _PLAIN.fullmatch(path) or _dotted(path):
        raise Refusal(400, "the path is not one of a kubelet")
    if _BAD_ESCAPE.search(query):
        raise Refusal(400, "the query is not properly escaped")
    try:
        parameters = parse_qsl(
            query,
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError:
        raise Refusal(400, "the query has too many parameters") from None
    return Request(method, path, tuple(parameters), headers)


def needs(method: str, path: str) -> Needs:
    """The rights one of which the request needs (`GetRequestAttributes` in `auth.go`)."""
    specific: tuple[str, ...] = ()
    for root, subresource in (("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz")):
        if _below(path, root):
            specific = (subresource,)
    if _below(path, "/runningpods"):
        specific = ("pods",)
    for root, subresource in (
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ):
        if _below(path, root):
            return Needs(_VERBS.get(method, ""), (*specific, subresource))
    return Needs(_VERBS.get(method, ""), (*specific, "proxy"))


def find(method: str, path: str, table: Collection[str]) -> Route:
    """The endpoint. `table`: paths that have a handler of their own, for GET.

    Raises `Refusal`: 404 for a path that a kubelet does not have, 405 for the wrong method.
    """
    if path in table:
        return _allowed(method, _GET, Route(Endpoint.TABLE))
    head, *rest = path.strip("/").split("/")
    try:
        endpoint = Endpoint(head)
    except ValueError:
        raise not_found() from None
    if endpoint in _OF_PODS:
        methods, lengths = _OF_PODS[endpoint]
        if len(rest) not in lengths:
            raise not_found()
        return _allowed(method, methods, _of_pod(endpoint, rest))
    if endpoint in {Endpoint.LOGS, Endpoint.DEBUG} or path in _HEALTHZ:
        return _allowed(method, _GET, Route(endpoint))
    if endpoint in {Endpoint.PODS, Endpoint.RUNNING_PODS, Endpoint.CONFIGZ} and not rest:
        return _allowed(method, _GET, Route(endpoint))
    raise not_found()


def labels(request: Request) -> tuple[str, str, bool]:
    """`method`, `path` and `long_running` as the kubelet's metrics have them: few values."""
    method = request.method if request.method in _METHODS else "other"
    root, _, rest = request.path.strip("/").partition("/")
    path = f"{root}/{rest.partition('/')[0]}" if root == "metrics" and rest else root
    path = path if path in _BUCKETS else "other"
    return method, path, path in LONG_RUNNING


def _of_pod(endpoint: Endpoint, rest: list[str]) -> Route:
    namespace, pod, *more = rest
    container = "" if endpoint is Endpoint.PORT_FORWARD else more.pop()
    return Route(endpoint, namespace, pod, more[0] if more else None, container)


def _allowed(method: str, methods: tuple[str, ...], route: Route) -> Route:
    if method not in methods:
        raise Refusal(405, "405: Method Not Allowed", headers=(("Allow", ", ".join(methods)),))
    return route


def not_found() -> Refusal:
    """The answer to a path that a kubelet does not have."""
    return Refusal(404, "404: Page Not Found")


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _dotted(path: str) -> bool:
    return any(segment in {".", ".."} for segment in path.split("/"))
