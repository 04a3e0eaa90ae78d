"""Maps a request to an endpoint of the kubelet API and to the permission it requires. Pure.

Paths, methods and permissions are those of `pkg/kubelet/server/server.go` and `auth.go` of
Kubernetes 1.36, with the fine-grained authorization of KEP-2862: the specific subresource is
checked first, then `proxy`. An ambiguous path is refused before it is interpreted, so that the path
that is authorized is the path that is served.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import parse_qsl

from farlet.kubelet.responses import Refusal

_UNAMBIGUOUS = re.compile(r"(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)*/?")
"""Segments of characters that need no escape in a path (RFC 3986). No path of a kubelet needs an
escape, and programs differ in how they read an escaped slash or dot."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

MAX_PARAMETERS = 10_000
"""`kubectl exec` sends each word of its command as a parameter."""


class Endpoint(StrEnum):
    """Endpoints of a kubelet; the value is the first segment of the path."""

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
    """A path with a handler in the table that other modules fill, such as statistics."""


LONG_RUNNING = frozenset({Endpoint.EXEC, Endpoint.ATTACH, Endpoint.PORT_FORWARD, Endpoint.DEBUG})
"""Endpoints with the label `long_running="true"` in the kubelet's metrics."""

_GET = ("GET",)
_POST = ("POST",)

_POD_ENDPOINTS: dict[Endpoint, tuple[tuple[str, ...], tuple[int, ...]]] = {
    **dict.fromkeys((Endpoint.EXEC, Endpoint.ATTACH), (("GET", "POST"), (3, 4))),
    Endpoint.PORT_FORWARD: (("GET", "POST"), (2, 3)),
    Endpoint.CONTAINER_LOGS: (_GET, (3,)),
    Endpoint.RUN: (_POST, (3, 4)),
    Endpoint.CHECKPOINT: (_POST, (3,)),
}
"""Endpoints that name a pod: their methods, and the allowed numbers of further segments."""

_HEALTHZ = frozenset({"/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"})

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_METHODS = frozenset({"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"})

_PATH_LABELS = frozenset(
    {*(e.value for e in Endpoint if e is not Endpoint.TABLE), "stats", "metrics"}
    | {f"metrics/{kind}" for kind in ("cadvisor", "probes", "resource")}
)


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Header names are in lower case."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    """Decoded; bytes that are not valid UTF-8 are kept with `surrogateescape`."""
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        """Value of the first header of this name."""
        return next((value for key, value in self.headers if key == name), None)

    def parameter(self, name: str) -> str | None:
        """Value of the first parameter of this name, which is the one that Go reads."""
        return next((value for key, value in self.query if key == name), None)

    def parameters(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]


class RequiredPermission(NamedTuple):
    """The verb that a caller must be allowed on any one of these subresources of this node."""

    verb: str
    subresources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint, with the pod and container in the path."""

    endpoint: Endpoint
    namespace: str = ""
    pod: str = ""
    uid: str | None = None
    container: str = ""


def parse(method: str, target: str, headers: tuple[tuple[str, str], ...]) -> Request:
    """Parse the head of a request. Raises `Refusal` (400) if it is ambiguous."""
    path, _, query = target.partition("?")
    if not path.startswith("/") or not _UNAMBIGUOUS.fullmatch(path) or _has_dot_segment(path):
        raise Refusal(400, "the path is not a valid path of the kubelet API")
    if _BAD_ESCAPE.search(query):
        raise Refusal(400, "the query contains an invalid escape")
    try:
        parameters = parse_qsl(
            query,
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise Refusal(400, f"the query has more than {MAX_PARAMETERS} parameters") from None
    return Request(method, path, tuple(parameters), headers)


def required_permission(method: str, path: str) -> RequiredPermission:
    """The permission that the request requires (`GetRequestAttributes` in `auth.go`).

    Example: `POST /exec/...` requires `create` on `nodes/proxy`, `GET /pods` requires `get` on
    `nodes/pods` or `nodes/proxy`.
    """
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
            return RequiredPermission(_VERBS.get(method, ""), (*specific, subresource))
    return RequiredPermission(_VERBS.get(method, ""), (*specific, "proxy"))


def match(method: str, path: str, table: Collection[str]) -> Route:
    """The endpoint of a path. `table`: paths with a handler of their own, for GET.

    Raises `Refusal`: 404 for a path that a kubelet does not have, 405 for a wrong method.
    """
    if path in table:
        return _allowed(method, _GET, Route(Endpoint.TABLE))
    head, *rest = path.strip("/").split("/")
    try:
        endpoint = Endpoint(head)
    except ValueError:
        raise not_found() from None
    if endpoint in _POD_ENDPOINTS:
        methods, lengths = _POD_ENDPOINTS[endpoint]
        if len(rest) not in lengths:
            raise not_found()
        return _allowed(method, methods, _pod_route(endpoint, rest))
    if endpoint in {Endpoint.LOGS, Endpoint.DEBUG} or path in _HEALTHZ:
        return _allowed(method, _GET, Route(endpoint))
    if endpoint in {Endpoint.PODS, Endpoint.RUNNING_PODS, Endpoint.CONFIGZ} and not rest:
        return _allowed(method, _GET, Route(endpoint))
    raise not_found()


def labels(request: Request) -> tuple[str, str, bool]:
    """The labels `method`, `path` and `long_running` of the kubelet's metrics, with few values."""
    method = request.method if request.method in _METHODS else "other"
    root, _, rest = request.path.strip("/").partition("/")
    path = f"{root}/{rest.partition('/')[0]}" if root == "metrics" and rest else root
    path = path if path in _PATH_LABELS else "other"
    return method, path, path in LONG_RUNNING


def _pod_route(endpoint: Endpoint, rest: list[str]) -> Route:
    namespace, pod, *more = rest
    container = "" if endpoint is Endpoint.PORT_FORWARD else more.pop()
    return Route(endpoint, namespace, pod, more[0] if more else None, container)


def _allowed(method: str, methods: tuple[str, ...], route: Route) -> Route:
    if method not in methods:
        raise Refusal(405, "405: Method Not Allowed", headers=(("Allow", ", ".join(methods)),))
    return route


def not_found() -> Refusal:
    """A kubelet's answer to an unknown path."""
    return Refusal(404, "404: Page Not Found")


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _has_dot_segment(path: str) -> bool:
    return any(segment in {".", ".."} for segment in path.split("/"))
