"""Every error response of the gateway is a problem document that shows no internals, and has one line in the log."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import count
from typing import Any

import pytest

from tests.support.client import Connection, Reply, exchange, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import free_port
from tests.support.tokens import SECRET, bearer, signed
from tests.support.upstream import Received, ScriptedUpstream, answering

LOG_KEYS = {
    "time",
    "request_id",
    "trace_id",
    "client",
    "method",
    "path",
    "query",
    "template",
    "principal",
    "received_bytes",
    "sent_bytes",
    "gateway_seconds",
    "redis_seconds",
    "service",
    "route",
    "status",
    "error",
    "cause",
    "over_quota",
    "undocumented",
    "attempts",
    "seconds",
    "upstream_seconds",
}
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
numbers = count(1)


def fresh_id() -> str:
    return f"request-{next(numbers)}"


def fresh_subject() -> str:
    return f"caller-{next(numbers)}@example.com"


def logged(gateway: GatewayProcess, request_id: str) -> dict[str, Any]:
    """The access log line of this request."""
    return gateway.wait_for_log(lambda line: line["request_id"] == request_id)


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    settings = four_services(module_upstream.url)
    settings["services"]["rules"]["scopes"] = ["rules:read", "rules:write"]
    settings["services"]["scarce"] = {"prefix": "/api/scarce", "targets": [module_upstream.url], "limits": ["1/day"]}
    settings["services"]["livestreams"] |= {"read_timeout_seconds": 0.2, "max_body_bytes": 10}
    settings["services"]["gone"] = {"prefix": "/api/gone", "targets": [f"http://127.0.0.1:{free_port()}"]}
    settings["services"]["slow"] = {"prefix": "/api/slow", "targets": [module_upstream.url], "max_in_flight": 1}
    return start_gateway(settings, workers=1)


# Each error code with its status, and a target and headers that cause it.
CAUSES: list[tuple[str, int, str, list[tuple[str, str]]]] = [
    ("bad_path", 400, "/api/devices/%2e%2e/x", []),
    ("bad_path", 400, "/api/devices/a%2fb", []),
    ("bad_request", 400, "/api/devices", [bearer(), bearer()]),
    ("missing_token", 401, "/api/devices", []),
    ("missing_token", 401, "/api/devices", [("Authorization", "Basic YTpi")]),
    ("invalid_token", 401, "/api/devices", [("Authorization", "Bearer x.y.z")]),
    ("invalid_token", 401, "/api/devices", [bearer(exp=1)]),
    ("invalid_token", 401, "/api/devices", [("Authorization", 'Bearer "><script>')]),
    ("insufficient_scope", 403, "/api/rules", [bearer(scope="rules:read")]),
    ("no_route", 404, "/nowhere", []),
    ("no_route", 404, "/api/devicesX", [bearer()]),
    ("quota_exceeded", 429, "/api/scarce", [bearer("busy")]),
    ("upgrade_refused", 501, "/api/devices", [bearer(), ("Upgrade", "websocket"), ("Connection", "Upgrade")]),
    ("upstream_unreachable", 502, "/api/gone", [bearer()]),
    ("upstream_unreachable", 502, "/api/devices/hangs-up", [bearer()]),
    ("upstream_protocol", 502, "/api/devices/garbage", [bearer()]),
    ("overloaded", 503, "/api/slow", [bearer()]),
    ("upstream_timeout", 504, "/api/livestreams/never", [bearer()]),
]


@contextmanager
def upstream_at_fault(gateway: GatewayProcess, upstream: ScriptedUpstream) -> Iterator[None]:
    """Makes the upstream fail in each way that has an error code, and fills the in-flight limit of the slow service."""
    released = threading.Event()

    def wait(received: Received, connection: Any) -> bool:
        released.wait(60)
        return answering(EMPTY)(received, connection)

    upstream.at = {
        "/api/devices/hangs-up": answering(b"", keep=False),
        "/api/devices/garbage": answering(b"<html>Traceback (most recent call last)\r\n\r\n", keep=False),
        "/api/livestreams/never": wait,
        "/api/slow/first": wait,
    }
    with Connection(gateway.port) as first:
        first.send(request_bytes("GET", "/api/slow/first", [bearer()]))
        assert upstream.wait_until(lambda: any(one.target == "/api/slow/first" for one in upstream.requests))
        try:
            yield
        finally:
            released.set()
            assert first.reply().status == 200


@pytest.fixture
def used_up(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    """Uses up the limit of the caller `busy`, which is one request a day."""
    for _ in range(3):
        gateway.get("/api/scarce", bearer("busy"))


@pytest.fixture(scope="module")
def forbidden_words(gateway: GatewayProcess, module_upstream: ScriptedUpstream) -> re.Pattern[str]:
    """Texts that reveal internals: hosts, ports, libraries, exceptions, markup."""
    words = ["127.0.0.1", "localhost", str(module_upstream.port), str(gateway.port), "Traceback", "Error(", "errno"]
    words += ["Errno", "urllib", "gunicorn", "werkzeug", "flask", "python", "redis", "<", SECRET, "/api/gone"]
    return re.compile("|".join(re.escape(word) for word in words), re.IGNORECASE)


def check_document(reply: Reply, code: str, status: int) -> dict[str, Any]:
    """Checks the members of the problem document in the reply. Returns the document."""
    document = reply.json()
    extra = {"violated-policies"} if code == "quota_exceeded" else set()
    extra |= {"missing_scopes"} if code == "insufficient_scope" else set()
    assert document.keys() == {"type", "title", "status", "detail", "instance"} | extra
    if code == "quota_exceeded":
        assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    else:
        assert document["type"] == f"urn:gateway:problem:{code}"
    assert document["status"] == reply.status == status
    assert isinstance(document["title"], str)
    assert document["title"]
    assert isinstance(document["detail"], str)
    assert document["instance"] == reply.value("X-Request-Id")
    assert reply.value("X-Gateway-Error") == code
    assert reply.value("Content-Type") == "application/problem+json"
    assert reply.value("Content-Length") == str(len(reply.body))
    assert reply.value("Cache-Control") == "no-store"
    assert reply.reason == HTTPStatus(status).phrase
    assert reply.value("Server") is None
    return dict(document)


@pytest.mark.usefixtures("used_up")
def test_each_error_code_has_its_problem_document_and_log_line(
    gateway: GatewayProcess, upstream: ScriptedUpstream, forbidden_words: re.Pattern[str]
) -> None:
    with upstream_at_fault(gateway, upstream):
        for code, status, target, fields in CAUSES:
            request_id = fresh_id()
            reply = gateway.get(target + "?query=1", *fields, ("X-Request-Id", request_id))
            assert (reply.status, reply.value("X-Gateway-Error")) == (status, code), target
            document = check_document(reply, code, status)
            assert document["instance"] == request_id
            shown = reply.body.decode() + "".join(f"\n{name}: {value}" for name, value in reply.fields)
            assert not forbidden_words.search(shown), shown
            line = logged(gateway, request_id)
            assert (line["status"], line["error"]) == (status, code)
            assert (line["method"], line["path"]) == ("GET", target)


@pytest.mark.usefixtures("used_up")
def test_errors_of_head_requests_have_no_body(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    with upstream_at_fault(gateway, upstream):
        for code, status, target, fields in CAUSES:
            request_id = ("X-Request-Id", "the-same-length")
            whole = gateway.get(target, *fields, request_id)
            with Connection(gateway.port) as connection:
                connection.send(request_bytes("HEAD", target, [("Connection", "close"), *fields, request_id]))
                head, end, body = connection.rest().partition(b"\r\n\r\n")
            assert end, target
            assert body == b"", (code, target)
            assert head.startswith(f"HTTP/1.1 {status} ".encode()), (target, head)
            assert f"\r\nX-Gateway-Error: {code}\r\n".encode() in head + end
            assert f"\r\nContent-Length: {len(whole.body)}\r\n".encode() in head + end


def test_the_connection_can_be_reused_after_head(gateway: GatewayProcess) -> None:
    with Connection(gateway.port) as connection:
        for _ in range(3):
            connection.send(request_bytes("HEAD", "/nowhere"))
            assert connection.reply("HEAD").status == 404
            connection.send(request_bytes("GET", "/healthz"))
            assert connection.reply().json() == {"status": "alive"}


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("TRACE", "/api/devices", {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/readyz", {"GET", "HEAD", "OPTIONS"}),
        ("PROPFIND", "/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_405_lists_the_allowed_methods(gateway: GatewayProcess, method: str, target: str, allowed: set[str]) -> None:
    reply = gateway.request(method, target)
    check_document(reply, "method_not_allowed", 405)
    assert {one.strip() for one in (reply.value("Allow") or "").split(",")} == allowed


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_the_limit_is_refused(gateway: GatewayProcess, upstream: ScriptedUpstream, framing: str) -> None:
    if framing == "length":
        reply = gateway.request("POST", "/api/livestreams", [bearer()], b"x" * 11)
    else:
        data = request_bytes("POST", "/api/livestreams", [bearer(), ("Transfer-Encoding", "chunked")])
        reply = exchange(gateway.port, data + b"b\r\nxxxxxxxxxxx\r\n0\r\n\r\n")
    check_document(reply, "body_too_large", 413)
    # A request with too large a Content-Length is not forwarded. Of a chunked body the service may receive the
    # beginning.
    assert not any(request.is_whole for request in upstream.requests)
    assert framing == "chunked" or upstream.requests == []


@pytest.mark.parametrize(
    ("fields", "challenge"),
    [
        ([], "Bearer"),
        ([("Authorization", "Basic YTpi")], "Bearer"),
        ([("Authorization", "Bearer")], 'Bearer error="invalid_token", error_description="the token is empty"'),
        ([bearer(exp=1)], 'Bearer error="invalid_token", error_description="the token has expired"'),
    ],
)
def test_the_challenge_names_an_error_only_if_the_request_has_a_token(
    gateway: GatewayProcess, fields: list[tuple[str, str]], challenge: str
) -> None:
    assert gateway.get("/api/devices", *fields).value("WWW-Authenticate") == challenge


def test_missing_scopes_are_named(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    reply = gateway.get("/api/rules", bearer(fresh_subject(), scope="other rules:read"))
    assert check_document(reply, "insufficient_scope", 403)["missing_scopes"] == ["rules:write"]
    assert reply.value("WWW-Authenticate") == 'Bearer error="insufficient_scope", scope="rules:write"'
    assert upstream.requests == []


def test_an_overload_has_retry_after(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    with upstream_at_fault(gateway, upstream):
        assert gateway.get("/api/slow", bearer()).value("Retry-After") == "1"
        assert gateway.get("/api/gone", bearer()).value("Retry-After") is None


@pytest.mark.parametrize("sent", ['x"}\\', "a" * 200, "a b", "<script>", "caf\u00e9", "", "a\tb"])
def test_a_request_id_that_could_harm_is_replaced_everywhere(gateway: GatewayProcess, sent: str) -> None:
    reply = gateway.get("/nowhere", ("X-Request-Id", sent))
    made = check_document(reply, "no_route", 404)["instance"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert logged(gateway, made)["error"] == "no_route"


@pytest.mark.parametrize(
    ("data", "status", "code", "path"),
    [
        (b"GET /a HTTP/9.9\r\n\r\n", 505, "unsupported_version", "/a"),
        (b"GET / HTTP/0.9\r\n\r\n", 505, "unsupported_version", "/"),
        (b"GET / HTTP/1.10\r\n\r\n", 400, "bad_request", ""),
        (b"GET /\r\n\r\n", 400, "bad_request", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request", ""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request", ""),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request", ""),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request", ""),
        (b"GET /a#secret HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request", ""),
        (b"GET /a?b#secret HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request", ""),
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: <b>\r\n\r\n", 400, "bad_request", "/"),
        (b"GET /a?secret HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "bad_request", "/a"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: <script>\r\n\r\n", 501, "unsupported_coding", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: <b>\r\n\r\n", 417, "bad_request", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\nX-A: a\r\n", 400, "bad_request", "/"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "bad_request", ""),
        (b"GET /" + b"a" * 9000, 414, "bad_request", ""),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20000 + b"\r\n\r\n", 431, "bad_request", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431, "bad_request", "/"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"a" * 16000 + b"\r\n") * 5, 431, "bad_request", "/"),
        (b"GET /\r\n", 400, "bad_request", ""),
        (b"GET / HTTP/2.0\r\nHost: a\r\n", 505, "unsupported_version", "/"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_input_that_is_not_http_gets_a_response_and_a_log_line(
    gateway: GatewayProcess, forbidden_words: re.Pattern[str], data: bytes, status: int, code: str, path: str
) -> None:
    request_id = fresh_id()
    data = re.sub(rb"(?<=\nHost: a\r\n)", f"X-Request-Id: {request_id}\r\n".encode(), data)
    with Connection(gateway.port) as connection:
        connection.send(data)
        answer = connection.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    fields = head.decode().split("\r\n")[1:]
    assert {"Content-Type: application/problem+json", "Connection: close", f"X-Gateway-Error: {code}"} <= set(fields)
    assert any(field.startswith("Date: ") for field in fields)
    document = json.loads(body)
    assert document.keys() == {"type", "title", "status", "detail", "instance"}
    assert (document["type"], document["status"]) == (f"urn:gateway:problem:{code}", status)
    assert f"X-Request-Id: {document['instance']}" in fields
    assert document["instance"] == request_id or request_id.encode() not in data
    assert not forbidden_words.search(answer.decode("latin-1")), answer
    line = logged(gateway, document["instance"])
    assert line.keys() == LOG_KEYS
    assert (line["status"], line["error"], line["path"], line["service"]) == (status, code, path, None)
    assert (line["client"], line["sent_bytes"]) == ("127.0.0.1", len(body))
    assert "secret" not in json.dumps(line)
    assert "<" not in json.dumps(line)


def test_the_log_line_of_a_success_has_the_documented_keys(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    request_id, token = fresh_id(), signed("logged@example.com")
    fields = [("Authorization", f"Bearer {token}"), ("X-Request-Id", request_id), ("Cookie", "session=cookie-secret")]
    target = "/api/devices/1?access_token=query-secret"
    assert gateway.request("POST", target, fields, b"body-secret").status == 200
    line = logged(gateway, request_id)
    assert line.keys() == LOG_KEYS
    assert line["client"] == "127.0.0.1"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/devices/1", 200)
    assert (line["service"], line["route"]) == ("devices", "devices")
    assert (line["error"], line["cause"]) == (None, None)
    assert 0 < line["upstream_seconds"] <= line["seconds"] < 10
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert line["time"].count(":") == 3
    output = gateway.output()
    for secret in (token, token.split(".")[1], token.split(".")[2], "query-secret", "cookie-secret", "body-secret"):
        assert secret not in output


def test_every_request_has_one_log_line(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    origin = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    asked = {
        fresh_id(): (method, target, fields)
        for method, target, fields in [
            ("GET", "/api/devices", [bearer()]),
            ("GET", "/healthz", []),
            ("GET", "/readyz", []),
            ("OPTIONS", "/api/devices", origin),
            ("GET", "/nowhere", []),
            ("HEAD", "/api/devices", []),
            ("GET", "/api/devices/../x", []),
            ("TRACE", "/api/devices", []),
            ("OPTIONS", "*", []),
            ("GET", "http://gateway.test/api/devices?x=secret", []),
            ("M-SEARCH", "/api/rules", []),
        ]
    }
    for request_id, (method, target, fields) in asked.items():
        gateway.request(method, target, [*fields, ("X-Request-Id", request_id)])
    for request_id, (method, target, _) in asked.items():
        line = logged(gateway, request_id)
        assert line.keys() == LOG_KEYS
        assert (line["method"], line["path"]) == (method, target.partition("?")[0])
    ids = [line["request_id"] for line in gateway.access_log()]
    assert all(ids.count(request_id) == 1 for request_id in asked)


@pytest.mark.parametrize(
    "target",
    [
        '/x"}%0a{"status":200',
        "/x%0d%0a{}",
        "/x'\\\"",
        "/x\\n{}",
        "/x{}",
        "/\u00e9\u00ff",
        "/x\u0085{}",
        "/x\x7f",
        "/x\x01\x1b[31m",
        "/" + "y" * 8000,
    ],
    ids=lambda target: repr(target[:20]),
)
def test_a_path_cannot_forge_a_log_line(gateway: GatewayProcess, target: str) -> None:
    request_id = fresh_id()
    before = len(gateway.output().splitlines())
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", target, [("X-Request-Id", request_id), ("Connection", "close")]))
        answer = connection.rest()
    assert re.match(rb"HTTP/1.1 40[04] ", answer), answer
    line = logged(gateway, request_id)
    # If a message can't be parsed, its parts are unknown.
    shown = "" if b"the message is malformed" in answer else target
    assert line["path"] == (shown if len(shown) <= 512 else shown[:512] + "…")
    lines = gateway.output().splitlines()
    assert len(lines) == before + 1
    assert lines[-1].isascii()
    assert lines[-1].isprintable()


def test_an_upstream_that_aborts_its_response_is_logged_as_such(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", keep=False)
    request_id = fresh_id()
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/devices", [bearer(), ("X-Request-Id", request_id)]))
        connection.rest()
    line = logged(gateway, request_id)
    assert (line["status"], line["error"]) == (200, "upstream_aborted")
    assert line["cause"]


def test_causes_are_logged_and_not_sent(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    request_id = fresh_id()
    reply = gateway.get("/api/gone", bearer(), ("X-Request-Id", request_id))
    line = logged(gateway, request_id)
    assert "refused" in line["cause"].lower()
    assert "refused" not in reply.body.decode().lower()


def test_no_request_failed_unexpectedly(gateway: GatewayProcess) -> None:
    assert "Traceback" not in gateway.output()
    assert not [line for line in gateway.access_log() if line["error"] == "internal"]
    assert signed() not in gateway.output()


@pytest.mark.parametrize(
    ("method", "target", "detail"),
    [
        ("GET", "/nowhere?token=hunter2", "neither a service nor the gateway has /nowhere"),
        ("POST", "/api/device%73X//a", "neither a service nor the gateway has /api/device%73X//a"),
        ("GET", "/" + 300 * "x", f"neither a service nor the gateway has /{199 * 'x'}…"),
        ("GET", "http://other.example/no", "neither a service nor the gateway has /no"),
        ("DELETE", "/healthz", "DELETE is not allowed for /healthz; allowed: GET, HEAD, OPTIONS"),
        ("TRACE", "/api/devices", "TRACE is not allowed for /api/devices; allowed: "),
    ],
)
def test_a_404_names_the_path(gateway: GatewayProcess, method: str, target: str, detail: str) -> None:
    document = json.loads(gateway.request(method, target).body)
    assert document["detail"].startswith(detail)
    assert method == "TRACE" or document["detail"] == detail
    assert "hunter2" not in json.dumps(document)


def test_a_hidden_path_gets_the_same_404_as_a_missing_one(gateway: GatewayProcess) -> None:
    """A page of another origin must not learn from the response to /metrics that it exists."""
    hidden, missing = (
        json.loads(gateway.get(path, ("Origin", "https://a.example")).body) for path in ("/metrics", "/metricsx")
    )
    assert hidden["detail"] + "x" == missing["detail"]
    assert hidden.keys() == missing.keys()
