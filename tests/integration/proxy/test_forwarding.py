"""Requests reach the service, and responses reach the client, byte for byte."""

from __future__ import annotations

import pytest

from tests.support.client import Connection, exchange, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.tokens import bearer, signed
from tests.support.upstream import ScriptedUpstream


@pytest.mark.parametrize(
    "target",
    [
        "/api/devices",
        "/api/devices/",
        "/api/devices/1",
        "/api/devices/a%20b",
        "/api/devices/a+b",
        "/api/devices/a;b=c",
        "/api/devices//a",
        "/api/devices/a//",
        "/api/devices/caf%C3%A9",
        "/api/devices/caf%c3%a9",
        "/api/devices/%41",
        "/api/devices/100%25",
        "/api/devices/a:b@c!$&'()*,=~-._",
        "/api/devices?",
        "/api/devices?q=",
        "/api/devices?q=1&q=2&&r",
        "/api/devices?q=%2F%2e%2E/../x",
        "/api/devices?q=a+b%20c;d?e",
        "/api/devices/?q=[1]{2}|\\^`",
    ],
)
def test_path_and_query_arrive_as_they_were_sent(
    gateway: GatewayProcess, upstream: ScriptedUpstream, target: str
) -> None:
    assert gateway.get(target, bearer()).status == 200
    assert upstream.only.target == target


@pytest.mark.parametrize("target", ["/api/devicesX", "/api/device", "/api", "/", "/api/devices.json", "//api/devices"])
def test_a_path_outside_the_prefixes_is_not_forwarded(
    gateway: GatewayProcess, upstream: ScriptedUpstream, target: str
) -> None:
    reply = gateway.get(target, bearer())
    assert (reply.status, reply.value("X-Gateway-Error")) in ((404, "no_route"), (400, "bad_path"))
    assert upstream.requests == []


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "x"]
)
def test_any_method_is_forwarded(gateway: GatewayProcess, upstream: ScriptedUpstream, method: str) -> None:
    if method == "HEAD":
        upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-One: 1\r\n\r\n")
    reply = gateway.request(method, "/api/devices", [bearer()])
    assert reply.status == 200
    assert reply.value("Content-Length") == "11"
    assert upstream.only.method == method


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_would_leak_or_tunnel_are_refused(
    gateway: GatewayProcess, upstream: ScriptedUpstream, method: str
) -> None:
    reply = gateway.request(method, "/api/devices", [bearer()])
    assert reply.status == 405
    assert reply.value("X-Gateway-Error") == "method_not_allowed"
    assert "GET" in (reply.value("Allow") or "")
    assert upstream.requests == []


def test_no_header_is_added_beyond_the_gateways_own(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    gateway.get("/api/devices", bearer(), ("X-Request-Id", "abc"))
    names = sorted(name.lower() for name, _ in upstream.only.fields)
    assert names == [
        "authorization",
        "forwarded",
        "host",
        "traceparent",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
        "x-user-id",
        "x-user-subject",
    ]


def test_duplicate_request_headers_stay_separate_and_in_order(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    gateway.get(
        "/api/devices", bearer(), ("Accept", "a"), ("X-Tag", "1"), ("Accept", "b"), ("Cookie", "x=1"), ("Cookie", "y=2")
    )
    assert upstream.only.values("accept") == ["a", "b"]
    assert upstream.only.values("cookie") == ["x=1", "y=2"]


def test_cookies_of_one_client_never_reach_another_request(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: session=ada; Path=/\r\n\r\n")
    for _ in range(8):
        gateway.get("/api/devices", bearer("ada"))
    for _ in range(8):
        gateway.get("/api/devices", bearer("bob"))
    assert len(upstream.requests) == 16
    assert all(request.values("cookie") == [] for request in upstream.requests)


def test_set_cookie_headers_stay_separate(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1; Expires=Mon, 23 Nov 2026 00:00:00 GMT\r\n"
        b"Set-Cookie: b=2\r\n\r\n"
    )
    reply = gateway.get("/api/devices", bearer())
    assert reply.values("Set-Cookie") == ["a=1; Expires=Mon, 23 Nov 2026 00:00:00 GMT", "b=2"]


@pytest.mark.parametrize("line", ["HTTP/1.1 299 ", "HTTP/1.1 299"])
def test_an_empty_reason_stays_empty(gateway: GatewayProcess, upstream: ScriptedUpstream, line: str) -> None:
    upstream.answers(line.encode() + b"\r\nContent-Length: 0\r\n\r\n")
    reply = gateway.get("/api/devices", bearer())
    assert (reply.status, reply.reason) == (299, "")


def test_status_reason_headers_and_encoded_body_are_unchanged(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    coded = bytes(range(256))
    upstream.answers(
        b'HTTP/1.1 299 Quite Fine\r\nContent-Encoding: gzip\r\nETag: W/"1"\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n'
        b"Server: upstream/1\r\nWarning: 1\r\nwarning: 2\r\nRetry-After: 1.5\r\nContent-Length: 256\r\n\r\n" + coded
    )
    reply = gateway.get("/api/devices", bearer())
    assert (reply.status, reply.reason, reply.body) == (299, "Quite Fine", coded)
    assert reply.value("Content-Encoding") == "gzip"
    assert reply.value("ETag") == 'W/"1"'
    assert reply.value("Date") == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert reply.value("Server") == "upstream/1"
    assert reply.values("Warning") == ["1", "2"]
    assert reply.value("Retry-After") == "1.5"
    assert reply.value("Content-Type") is None


def test_an_upstream_can_not_set_x_gateway_error(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    upstream.answers(b"HTTP/1.1 502 Bad Gateway\r\nX-Gateway-Error: quota_exceeded\r\nContent-Length: 2\r\n\r\nup")
    reply = gateway.get("/api/devices", bearer())
    assert (reply.status, reply.body, reply.value("X-Gateway-Error")) == (502, b"up", None)


def test_a_body_with_content_length_keeps_it(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    body = bytes(range(256)) * 1000
    assert gateway.request("POST", "/api/devices", [bearer()], body).status == 200
    assert upstream.only.body == body
    assert upstream.only.values("content-length") == [str(len(body))]
    assert upstream.only.values("transfer-encoding") == []


def test_a_chunked_body_arrives_chunked_and_complete(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    data = request_bytes("POST", "/api/devices", [bearer(), ("Transfer-Encoding", "chunked")])
    reply = exchange(gateway.port, data + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n")
    assert reply.status == 200
    assert upstream.only.body == b"hello world"
    assert upstream.only.is_whole
    assert upstream.only.values("transfer-encoding") == ["chunked"]
    assert upstream.only.values("content-length") == []


def test_connections_are_reused_on_both_sides(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    before = upstream.connections
    with Connection(gateway.port) as connection:
        for _ in range(5):
            connection.send(request_bytes("GET", "/api/devices", [bearer()]))
            assert connection.reply().status == 200
    # One client connection is served by one worker, which needs at most one upstream connection.
    assert upstream.connections - before <= 1


def test_a_harmless_request_id_is_kept_and_any_other_replaced(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    assert gateway.get("/api/devices", bearer(), ("X-Request-Id", "abc-123")).value("X-Request-Id") == "abc-123"
    made = gateway.get("/api/devices", bearer(), ("X-Request-Id", 'x"} forged')).value("X-Request-Id") or ""
    assert len(made) == 32
    assert [request.values("x-request-id") for request in upstream.requests] == [["abc-123"], [made]]


def test_netrc_and_proxy_variables_are_ignored(
    upstream: ScriptedUpstream, start_gateway: object, tmp_path: object
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")  # type: ignore[operator]
    gateway = start_gateway(  # type: ignore[operator]
        {"services": {"devices": {"targets": [upstream.url]}}},
        environ={"HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
    )
    token = signed()
    assert gateway.get("/api/devices", ("Authorization", f"Bearer {token}")).status == 200
    assert upstream.only.values("authorization") == [f"Bearer {token}"]
