"""Paths of a kubelet: their endpoint, the required permission, and refused paths."""

from __future__ import annotations

import pytest

from farlet.kubelet import routes
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint, Request, RequiredPermission, Route

TABLE = frozenset({"/stats/summary", "/metrics/resource"})


@pytest.mark.parametrize(
    ("line", "route"),
    [
        pytest.param("POST /exec/ns/p/c", Route(Endpoint.EXEC, "ns", "p", None, "c"), id="exec"),
        pytest.param(
            "GET /exec/ns/p/u/c", Route(Endpoint.EXEC, "ns", "p", "u", "c"), id="exec with uid"
        ),
        pytest.param(
            "GET /attach/ns/p/c", Route(Endpoint.ATTACH, "ns", "p", None, "c"), id="attach"
        ),
        pytest.param(
            "POST /attach/ns/p/u/c", Route(Endpoint.ATTACH, "ns", "p", "u", "c"), id="attach, uid"
        ),
        pytest.param(
            "POST /portForward/ns/p", Route(Endpoint.PORT_FORWARD, "ns", "p"), id="port-forward"
        ),
        pytest.param(
            "GET /portForward/ns/p/u",
            Route(Endpoint.PORT_FORWARD, "ns", "p", "u"),
            id="port-forward with uid",
        ),
        pytest.param(
            "GET /containerLogs/ns/p.q-r/c",
            Route(Endpoint.CONTAINER_LOGS, "ns", "p.q-r", None, "c"),
            id="logs",
        ),
        pytest.param("POST /run/ns/p/c", Route(Endpoint.RUN, "ns", "p", None, "c"), id="run"),
        pytest.param(
            "POST /checkpoint/ns/p/c",
            Route(Endpoint.CHECKPOINT, "ns", "p", None, "c"),
            id="checkpoint",
        ),
        pytest.param("GET /pods", Route(Endpoint.PODS), id="pods"),
        pytest.param("GET /pods/", Route(Endpoint.PODS), id="pods with a slash"),
        pytest.param("GET /runningpods/", Route(Endpoint.RUNNING_PODS), id="running pods"),
        pytest.param("GET /healthz", Route(Endpoint.HEALTHZ), id="healthz"),
        pytest.param("GET /healthz/syncloop", Route(Endpoint.HEALTHZ), id="one check"),
        pytest.param("GET /configz", Route(Endpoint.CONFIGZ), id="configz"),
        pytest.param("GET /logs/", Route(Endpoint.LOGS), id="logs of the machine"),
        pytest.param("GET /logs/a/b.log", Route(Endpoint.LOGS), id="one log of the machine"),
        pytest.param("GET /debug/pprof/heap", Route(Endpoint.DEBUG), id="profiles"),
        pytest.param("GET /stats/summary", Route(Endpoint.TABLE), id="a path of the table"),
    ],
)
def test_a_path_matches_an_endpoint(line: str, route: Route) -> None:
    method, _, path = line.partition(" ")
    assert routes.match(method, path, TABLE) == route


@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param("GET /", 404, id="the root"),
        pytest.param("GET /nothing", 404, id="an unknown path"),
        pytest.param("GET /table", 404, id="the name of the table"),
        pytest.param("GET /Pods", 404, id="another case"),
        pytest.param("GET /pods/shop", 404, id="a pod below pods"),
        pytest.param("POST /exec/ns/p", 404, id="exec without container"),
        pytest.param("POST /exec/ns/p/u/c/x", 404, id="exec with a further segment"),
        pytest.param("GET /containerLogs/ns/p/u/c", 404, id="logs with uid"),
        pytest.param("GET /portForward/ns", 404, id="port-forward without pod"),
        pytest.param("GET /healthz/other", 404, id="an unknown check"),
        pytest.param("GET /metrics", 404, id="metrics without a handler"),
        pytest.param("GET /stats/container", 404, id="removed statistics"),
        pytest.param("POST /pods", 405, id="posting pods"),
        pytest.param("DELETE /exec/ns/p/c", 405, id="deleting exec"),
        pytest.param("HEAD /containerLogs/ns/p/c", 405, id="head of logs"),
        pytest.param("GET /run/ns/p/c", 405, id="getting run"),
        pytest.param("GET /checkpoint/ns/p/c", 405, id="getting a checkpoint"),
        pytest.param("PUT /stats/summary", 405, id="putting statistics"),
    ],
)
def test_a_path_that_a_kubelet_does_not_serve(line: str, status: int) -> None:
    method, _, path = line.partition(" ")
    with pytest.raises(Refusal) as raised:
        routes.match(method, path, TABLE)
    assert raised.value.response.status == status
    assert bool(raised.value.response.headers) is (status == 405)


@pytest.mark.parametrize(
    ("line", "subresources"),
    [
        pytest.param("GET /stats/summary", "stats", id="stats"),
        pytest.param("GET /stats", "stats", id="the root of stats"),
        pytest.param("GET /statsx", "proxy", id="a longer segment"),
        pytest.param("GET /metrics", "metrics", id="metrics"),
        pytest.param("GET /metrics/resource", "metrics", id="metrics below"),
        pytest.param("GET /logs/", "log", id="logs of the machine"),
        pytest.param("GET /logs/kubelet.log", "log", id="one log file"),
        pytest.param("POST /checkpoint/a/b/c", "checkpoint", id="checkpoint"),
        pytest.param("GET /statusz", "statusz", id="statusz"),
        pytest.param("GET /flagz", "configz", id="flagz"),
        pytest.param("GET /pods", "pods proxy", id="pods"),
        pytest.param("GET /pods/", "pods proxy", id="pods with a slash"),
        pytest.param("GET /runningpods/", "pods proxy", id="running pods"),
        pytest.param("GET /runningpods", "pods proxy", id="running pods without slash"),
        pytest.param("GET /healthz", "healthz proxy", id="healthz"),
        pytest.param("GET /healthz/ping", "healthz proxy", id="one check"),
        pytest.param("GET /configz", "configz proxy", id="configz"),
        pytest.param("POST /exec/a/b/c", "proxy", id="exec"),
        pytest.param("GET /containerLogs/a/b/c", "proxy", id="logs of a container"),
        pytest.param("GET /nothing", "proxy", id="anything else"),
        pytest.param("GET /", "proxy", id="the root"),
    ],
)
def test_the_permission_that_a_path_requires(line: str, subresources: str) -> None:
    method, _, path = line.partition(" ")
    verb = {"GET": "get", "POST": "create"}[method]
    assert routes.required_permission(method, path) == RequiredPermission(
        verb, tuple(subresources.split())
    )


@pytest.mark.parametrize(
    ("method", "verb"),
    [
        ("POST", "create"),
        ("GET", "get"),
        ("PUT", "update"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
        ("HEAD", ""),
    ],
)
def test_the_verb_of_a_method(method: str, verb: str) -> None:
    assert routes.required_permission(method, "/").verb == verb


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "pods",
        "https://node/pods",
        "//pods",
        "/pods//",
        "/exec//p/c",
        "/.",
        "/..",
        "/pods/../exec/a/b/c",
        "/containerLogs/ns/../other/p",
        "/containerLogs/ns/./p/c",
        "/exec/ns/p%2Fq/c",
        "/exec/ns/p%2fq/c",
        "/exec/ns/%2e%2e/c",
        "/exec/ns/p%5Cq/c",
        "/exec/ns/p\\q/c",
        "/exec/ns/p%00/c",
        "/exec/ns/p\x00/c",
        "/exec/ns/p%20q/c",
        "/exec/ns/pöd/c",
        "/exec/ns/p#x/c",
        "/pods\n",
        '/exec/ns/"p/c',
        "/pods?a=%zz",
        "/pods?" + "&".join(["a=b"] * 10_001),
    ],
)
def test_an_ambiguous_target_is_refused(target: str) -> None:
    with pytest.raises(Refusal) as raised:
        routes.parse("GET", target, ())
    assert raised.value.response.status == 400


def test_a_query_is_decoded() -> None:
    parsed = routes.parse("GET", "/exec/a/b/c?command=a+b&command=%26%3D&tty=&x=%ff", ())
    assert parsed.path == "/exec/a/b/c"
    assert parsed.parameters("command") == ["a b", "&="]
    assert parsed.parameter("tty") == ""
    assert parsed.parameter("x") == "\udcff"
    assert parsed.parameter("stdin") is None


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        pytest.param("GET /metrics/resource", ("GET", "metrics/resource", False), id="two parts"),
        pytest.param("GET /metrics/a", ("GET", "other", False), id="an unknown path"),
        pytest.param("GET /pods", ("GET", "pods", False), id="one part"),
        pytest.param("POST /exec/a/b/c", ("POST", "exec", True), id="long-running"),
        pytest.param("GET /containerLogs/a/b/c", ("GET", "containerLogs", False), id="logs"),
        pytest.param("BREW /coffee", ("other", "other", False), id="an unknown method"),
    ],
)
def test_labels_of_metrics_have_few_values(line: str, labels: tuple[str, str, bool]) -> None:
    method, _, path = line.partition(" ")
    assert routes.labels(Request(method, path)) == labels
