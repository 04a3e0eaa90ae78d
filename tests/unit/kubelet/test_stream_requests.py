"""The query and the upgrade of a stream that are sent to the foreign API server."""

from __future__ import annotations

import pytest

from farlet.kubelet import routes, streams
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint

TARGET = PodTarget("shop-h", "web", "main", node="far", home_namespace="shop")


def request(line: str, *headers: tuple[str, str]) -> routes.Request:
    method, _, target = line.partition(" ")
    return routes.parse(method, target, headers)


# --- the query --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "endpoint", "sent"),
    [
        pytest.param(
            "POST /exec/shop/web/main?command=sh&command=-c&command=echo+1%262%3B%20x&output=1",
            Endpoint.EXEC,
            "container=main&stdin=false&stdout=true&stderr=false&tty=false"
            "&command=sh&command=-c&command=echo%201%262%3B%20x",
            id="words of a command keep order and bytes",
        ),
        pytest.param(
            "POST /exec/shop/web/main?command=%ff%00&input=1",
            Endpoint.EXEC,
            "container=main&stdin=true&stdout=false&stderr=false&tty=false&command=%FF%00",
            id="a command may contain bytes that are not text",
        ),
        pytest.param(
            "POST /exec/shop/web/main?command=sh&tty=1&input=1&output=1&error=1",
            Endpoint.EXEC,
            "container=main&stdin=true&stdout=true&stderr=false&tty=true&command=sh",
            id="a terminal has no separate stderr",
        ),
        pytest.param(
            "POST /attach/shop/web/main?output=1&error=1&command=no&container=other&stdin=true",
            Endpoint.ATTACH,
            "container=main&stdin=false&stdout=true&stderr=true&tty=false",
            id="attach has no command and ignores parameters of an API server",
        ),
        pytest.param("POST /portForward/shop/web", Endpoint.PORT_FORWARD, "", id="ports by SPDY"),
        pytest.param(
            "GET /portForward/shop/web?port=80,443&port=22",
            Endpoint.PORT_FORWARD,
            "ports=80&ports=443&ports=22",
            id="ports by WebSocket",
        ),
    ],
)
def test_the_query_is_translated(line: str, endpoint: Endpoint, sent: str) -> None:
    assert streams.query(endpoint, request(line), TARGET) == sent


@pytest.mark.parametrize(
    ("line", "headers", "text"),
    [
        pytest.param(
            "POST /exec/shop/web/main?command=sh",
            (),
            "you must specify at least 1 of stdin, stdout, stderr",
            id="no stream",
        ),
        pytest.param(
            "GET /portForward/shop/web",
            (("upgrade", "websocket"),),
            'query parameter "port" is required',
            id="a WebSocket without a port",
        ),
        *(
            pytest.param(
                f"GET /portForward/shop/web?port={port}",
                (),
                "as a port",
                id=f"port {port[:10]!r}",
            )
            for port in ("0", "65536", "-1", "80,", "http", "%D9%A1", "9" * 5000)
        ),
    ],
)
def test_a_query_that_a_kubelet_refuses_is_refused(
    line: str, headers: tuple[tuple[str, str], ...], text: str
) -> None:
    parsed = request(line, *headers)
    endpoint = Endpoint(parsed.path.split("/")[1])
    with pytest.raises(Refusal) as raised:
        streams.query(endpoint, parsed, TARGET)
    assert raised.value.response.status == 400
    assert text in str(raised.value)


def test_a_port_forward_tunneled_through_a_websocket_has_no_ports_in_the_query() -> None:
    parsed = request(
        "GET /portForward/shop/web",
        ("upgrade", "websocket"),
        ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io"),
    )
    assert streams.query(Endpoint.PORT_FORWARD, parsed, TARGET) == ""


# --- the upgrade ------------------------------------------------------------------------------


UPGRADE = (("connection", "Upgrade"), ("upgrade", "SPDY/3.1"))
REQUESTED = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]


@pytest.mark.parametrize(
    ("received", "sent"),
    [
        pytest.param(UPGRADE, REQUESTED, id="an upgrade"),
        pytest.param(
            (("connection", "keep-alive, upgrade"), ("upgrade", "SPDY/3.1")),
            REQUESTED,
            id="one of two options",
        ),
        pytest.param(
            (
                *UPGRADE,
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
                ("x-stream-protocol-version", "v3.channel.k8s.io"),
            ),
            [
                *REQUESTED,
                ("x-stream-protocol-version", "v4.channel.k8s.io"),
                ("x-stream-protocol-version", "v3.channel.k8s.io"),
            ],
            id="versions keep their order",
        ),
        pytest.param(
            (
                *UPGRADE,
                ("authorization", "Bearer caller"),
                ("cookie", "a=b"),
                ("impersonate-user", "admin"),
                ("x-remote-user", "admin"),
                ("x-forwarded-for", "1.2.3.4"),
                ("te", "trailers"),
                ("proxy-authorization", "Basic x"),
                ("keep-alive", "1"),
                ("transfer-encoding", "chunked"),
                ("content-length", "0"),
                ("host", "node"),
            ),
            REQUESTED,
            id="other headers are dropped",
        ),
        pytest.param(
            (
                *UPGRADE,
                ("sec-websocket-key", "k"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-extensions", "x"),
                (
                    "sec-websocket-protocol",
                    "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4",
                ),
            ),
            [
                *REQUESTED,
                ("sec-websocket-key", "k"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-extensions", "x"),
                ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ],
            id="a token among the subprotocols is dropped",
        ),
    ],
)
def test_only_the_headers_of_the_upgrade_are_sent(
    received: tuple[tuple[str, str], ...], sent: list[tuple[str, str]]
) -> None:
    assert streams.upgrade_headers(request("POST /exec/a/b/c", *received)) == sent


@pytest.mark.parametrize(
    "received",
    [
        pytest.param((), id="none"),
        pytest.param((("upgrade", "SPDY/3.1"),), id="without Connection: Upgrade"),
        pytest.param((("connection", "Upgrade"),), id="without a protocol"),
        *(
            pytest.param((("connection", "Upgrade"), ("upgrade", to)), id=f"to {to}")
            for to in ("h2c", "HTTP/2.0", "TLS/1.2", "websocket, h2c")
        ),
    ],
)
def test_an_upgrade_is_required_and_must_not_carry_further_requests(
    received: tuple[tuple[str, str], ...],
) -> None:
    with pytest.raises(Refusal) as raised:
        streams.upgrade_headers(request("POST /exec/a/b/c", *received))
    assert raised.value.response.status == 400
