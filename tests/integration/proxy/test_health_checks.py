"""Health checks and fetched documents: their timeouts, their Host header, and what is logged."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway import document_fetch as fetching
from gateway.config import ServiceSettings
from gateway.document_fetch import FetchError, service_fetcher
from tests.support.gateway import GatewayProcess
from tests.support.upstream import OK, Received, Script, ScriptedUpstream, answering

HOST = "devices.example.com:8080"
UNKNOWN = "/unknown?key=hunter2"
# Timeouts of the service, which don't apply to health checks and documents.
LONG = {"head_timeout_seconds": 3600, "read_timeout_seconds": 3600, "connect_timeout_seconds": 3600}
DOCUMENT = b'{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":{"/x":{"get":{"responses":{}}}}}'


def by_host(good: bytes) -> Script:
    """A script that refuses requests with another Host header, as Django does with ALLOWED_HOSTS."""

    def script(received: Received, connection: socket.socket) -> bool:
        is_known = received.values("Host") == [HOST]
        connection.sendall(good if is_known else b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        return True

    return script


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Endless:
    """A script that sends the beginning of a response, and then a piece every 50 ms without end."""

    def __init__(self, beginning: bytes, piece: bytes) -> None:
        self._beginning, self._piece = beginning, piece
        self.ended = threading.Event()

    def __call__(self, _: Received, connection: socket.socket) -> bool:
        connection.sendall(self._beginning)
        while not self.ended.wait(0.05):
            connection.sendall(self._piece)
        return False


@pytest.fixture(scope="module")
def endless() -> Iterator[Endless]:
    script = Endless(b"HTTP/1.1 200 OK\r\nX: ", b"x")
    yield script
    script.ended.set()


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream, endless: Endless
) -> GatewayProcess:
    services: dict[str, dict[str, Any]] = {
        "known": {"host": HOST, "strip_prefix": True},
        "unknown": {},
        "patient": LONG,
        "restless": {},
    }
    for name, own in services.items():
        health = {"path": f"/{name}", "interval_seconds": 0.1, "timeout_seconds": 0.5, "unhealthy_after": 2}
        own |= {"prefix": f"/api/{name}", "targets": [module_upstream.url], "health": health, "auth": "none"}
        own["health"] |= {"healthy_after": 1, "min_available": 0}
    services["unknown"]["health"]["path"] = UNKNOWN
    # This service is checked once. Its health check fails, but one failure is fewer than unhealthy_after.
    seldom = {"path": "/unknown", "interval_seconds": 3600, "unhealthy_after": 2}
    services["seldom"] = {"prefix": "/api/seldom", "targets": [module_upstream.url], "health": seldom}
    scripts: dict[str, Script] = {
        "/known": by_host(OK),
        "/unknown": by_host(OK),
        "/patient": endless,
        "/openapi.json": by_host(ok(DOCUMENT)),
    }
    module_upstream.at |= scripts
    return start_gateway({"default_services": False, "services": services}, workers=1)


@pytest.fixture
def upstream(module_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The upstream, not reset: the gateway sends health checks all the time, so their scripts must remain."""
    return module_upstream


def lines_of(gateway: GatewayProcess, service: str) -> list[str]:
    return [line for line in gateway.output().splitlines() if line.startswith(f"{service}: ")]


def test_checks_documents_and_requests_use_the_configured_host(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    assert upstream.wait_until(lambda: sum(one.target == "/known" for one in upstream.requests) > 4)
    assert lines_of(gateway, "known") == []
    moved = f"HTTP/1.1 302 Found\r\nLocation: http://{HOST}/y\r\nContent-Length: 0\r\n\r\n"
    upstream.at["/x"] = answering(moved.encode())
    reply = gateway.get("/api/known/x")
    # The service puts the Host that it receives into redirects; the gateway makes them relative.
    assert reply.value("Location") == "/api/known/y"
    hosts = {name: [one.values("Host") for one in upstream.requests if one.target == name] for name in ("/x", "/known")}
    assert hosts["/x"] == [[HOST]]
    assert all(values == [HOST] for values in hosts["/known"])
    gateway.wait_until(lambda: "/api/known/x" in gateway.get("/openapi/known.json").json().get("paths", {}), "know it")


def test_the_health_of_a_target_is_unknown_before_enough_checks(gateway: GatewayProcess) -> None:
    def states() -> dict[str, tuple[str, str]]:
        services = gateway.get("/status").json()["services"]
        return {one["name"]: (one["targets"][0]["health"], one["state"]) for one in services}

    expected = {"known": ("healthy", "up"), "unknown": ("unhealthy", "failing"), "patient": ("unhealthy", "failing")}
    gateway.wait_until(lambda: states().items() >= expected.items(), "find out")
    assert states()["seldom"] == ("unknown", "unknown")
    # The gauges are updated once a second.
    figures = {name: 1.0 if name == "seldom" else 0.0 for name in ("seldom", "known", "unknown", "patient")}

    def unknown() -> dict[str, float]:
        text = gateway.get("/metrics").body.decode()
        found = re.findall(r'^gateway_target_unknown\{service="(\w+)",[^}]*\} ([0-9.]+)$', text, re.MULTILINE)
        return {service: float(number) for service, number in found}

    gateway.wait_until(lambda: unknown().items() >= figures.items(), "update its gauges")


def test_a_check_that_has_never_passed_is_logged_once_with_its_result(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    def checks() -> int:
        return sum(one.target == UNKNOWN for one in upstream.requests)

    gateway.wait_until(lambda: bool(lines_of(gateway, "unknown")), "notice")
    before = checks()
    assert upstream.wait_until(lambda: checks() > before + 4)
    authority = f"127.0.0.1:{upstream.port}"
    assert lines_of(gateway, "unknown") == [
        f"unknown: http://{authority} fails its health check, and has not passed one since this worker started: "
        f"GET /unknown?********** with Host {authority}: status 400"
    ]


def test_failure_and_recovery_of_a_passed_check_are_logged(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    # When the third check has arrived, at least one check has passed.
    assert upstream.wait_until(lambda: sum(one.target == "/restless" for one in upstream.requests) > 2)
    upstream.at["/restless"] = answering(b"HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n")
    gateway.wait_until(lambda: len(lines_of(gateway, "restless")) == 1, "notice")
    upstream.at["/restless"] = answering(OK)
    gateway.wait_until(lambda: len(lines_of(gateway, "restless")) == 2, "notice")
    authority = f"127.0.0.1:{upstream.port}"
    assert lines_of(gateway, "restless") == [
        f"restless: http://{authority} fails its health check: GET /restless with Host {authority}: status 503",
        f"restless: http://{authority} passes its health check again",
    ]


def test_a_check_has_its_own_timeout(gateway: GatewayProcess) -> None:
    gateway.wait_until(lambda: bool(lines_of(gateway, "patient")), "give up waiting")
    assert "the service did not respond in time" in lines_of(gateway, "patient")[0]


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b""),
    ],
    ids=["head", "chunks", "chunk extension", "silence"],
)
def test_a_document_fetch_has_its_own_timeout(monkeypatch: pytest.MonkeyPatch, beginning: bytes, piece: bytes) -> None:
    monkeypatch.setattr(fetching, "TOTAL_SECONDS", 0.3)
    for name in ("read_timeout_seconds", "head_timeout_seconds"):
        monkeypatch.setitem(fetching.FETCH_SETTINGS, name, 3600)
    service, script = ScriptedUpstream(), Endless(beginning, piece)
    service.script = script
    settings = ServiceSettings.model_validate({"prefix": "/x", "targets": [service.url], **LONG})
    try:
        with pytest.raises(FetchError):
            service_fetcher("x", settings, "/openapi.json", 1000).fetch()
    finally:
        script.ended.set()
        service.close()


def test_a_document_fetch_ignores_the_timeouts_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services with longer timeouts are tested above; this service has shorter ones."""
    service, released = ScriptedUpstream(), threading.Event()

    def wait(_: Received, connection: socket.socket) -> bool:
        released.wait(0.3)
        connection.sendall(ok(b"{}"))
        return True

    service.script = wait
    short = {"head_timeout_seconds": 0.05, "read_timeout_seconds": 0.05}
    settings = ServiceSettings.model_validate({"prefix": "/x", "targets": [service.url], "host": HOST, **short})
    try:
        assert service_fetcher("x", settings, "/openapi.json", 1000).fetch().content == b"{}"
        assert service.only.values("Host") == [HOST]
    finally:
        service.close()
