"""The API document at the gateway: collected, kept, shared, renewed, and sent as HTTP wants it."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.test_metrics import counted
from tests.support.client import Reply
from tests.support.commands import flask
from tests.support.gateway import GatewayProcess, four_services, gateways
from tests.support.redis import RedisServer, free_port
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Devices", "version": "7"},
    "paths": {
        "/api/devices": {"get": {"operationId": "list", "responses": {"200": {"description": "ok"}}}},
        "/api/devices/{id}": {
            "delete": {"operationId": "remove", "responses": {"204": {"description": "gone"}}},
            "get": {"operationId": "read", "responses": {"200": {"description": "ok"}}},
        },
        "/api/devices/internal/state": {"get": {"responses": {"200": {"description": "ok"}}}},
        "/elsewhere": {"get": {"responses": {"200": {"description": "ok"}}}},
    },
}
YAML = b"""
openapi: 3.0.2
info: {title: Rules, version: '1'}
paths:
  /api/rules:
    get: {responses: {200: {description: ok}}}
"""


def answer(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Documented:
    """An upstream that serves a document for devices and one for rules; `devices` is the answer's bytes."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.upstream = upstream
        self.devices: bytes | None = None
        self.serve(DOCUMENT)
        upstream.at["/devices.json"] = self._answer_devices
        upstream.at["/rules.yaml"] = lambda _, connection: send(connection, answer(YAML, "Content-Type: text/yaml"))

    def serve(self, document: Any, *fields: str) -> None:
        self.devices = answer(json.dumps(document).encode(), *(fields or ('ETag: "one"',)))

    def _answer_devices(self, received: Received, connection: socket.socket) -> bool:
        if self.devices is None:
            return False
        if received.values("If-None-Match") == ['"one"'] and b'ETag: "one"' in self.devices:
            return send(connection, b'HTTP/1.1 304 Not Modified\r\nETag: "one"\r\n\r\n')
        return send(connection, self.devices)

    def fetches(self, path: str = "/devices.json") -> list[Received]:
        return [one for one in self.upstream.requests if one.target == path]


def send(connection: socket.socket, data: bytes) -> bool:
    connection.sendall(data)
    return True


@pytest.fixture
def service(upstream: ScriptedUpstream) -> Documented:
    return Documented(upstream)


@pytest.fixture(autouse=True)
def nothing_kept(server: RedisServer) -> None:
    server.ask("FLUSHALL")


def settings_for(service: Documented, docs: dict[str, Any] | None = None, **devices: Any) -> dict[str, Any]:
    settings = four_services(service.upstream.url)
    settings["services"]["devices"] |= {"openapi_path": "/devices.json"} | devices
    settings["services"]["rules"]["openapi_path"] = "/rules.yaml"
    return settings | {"docs": {"title": "Home"} | (docs or {})}


@pytest.fixture
def start(service: Documented, server: RedisServer) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways that end with the test: one that goes on would share what it fetches with the next test's."""
    with gateways() as start_with:

        def start(
            workers: int = 1,
            docs: dict[str, Any] | None = None,
            cors: tuple[str, ...] = (),
            url: str = "",
            **devices: Any,
        ) -> GatewayProcess:
            settings = settings_for(service, docs, **devices) | {"cors": {"origins": list(cors)}}
            return start_with(settings, workers=workers, environ={"REDIS_URL": url or server.url})

        yield start


def document(gateway: GatewayProcess, path: str = "/openapi.json") -> Any:
    reply = gateway.get(path)
    assert (reply.status, reply.value("Content-Type")) == (200, "application/json")
    return reply.json()


def states(gateway: GatewayProcess) -> dict[str, str]:
    services = document(gateway)["info"]["x-gateway-services"]
    return {name: entry["state"] for name, entry in services.items()}


def test_all_services_in_one_document_that_tells_what_the_gateway_does(start: Callable[..., GatewayProcess]) -> None:
    gateway = start(scopes=["devices:read"])
    found = document(gateway)
    assert found["openapi"] == "3.1.0"
    assert found["servers"] == [{"url": "/"}]
    assert found["info"]["title"] == "Home"
    assert set(found["paths"]) == {"/api/devices", "/api/devices/{id}", "/api/devices/internal/state", "/api/rules"}
    operation = found["paths"]["/api/devices"]["get"]
    assert operation["operationId"] == "devices_list"
    assert operation["security"] == [{"gatewayBearer": ["devices:read"]}]
    assert set(operation["responses"]) >= {"200", "401", "403", "429", "502", "503", "504"}
    assert operation["x-ratelimit"]["limits"] == ["1000000/minute"]
    assert states(gateway) == {
        "auth": "unavailable",
        "livestreams": "unavailable",
        "rules": "current",
        "devices": "current",
    }
    assert set(document(gateway, "/openapi/devices.json")["paths"]) == {
        "/api/devices",
        "/api/devices/{id}",
        "/api/devices/internal/state",
    }
    assert [gateway.get(f"/openapi/{name}.json").status for name in ("auth", "nobody", "..%2fx")] == [404, 404, 400]


def test_nothing_is_asked_of_services_before_somebody_asks_for_documents(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    gateway = start()
    assert gateway.get("/api/devices", bearer()).status == 200
    assert gateway.get("/docs").status == 200
    assert [one.target for one in service.upstream.requests] == ["/api/devices"]


def test_entity_tags_and_compression(start: Callable[..., GatewayProcess]) -> None:
    gateway = start()
    plain = gateway.get("/openapi.json")
    packed = gateway.get("/openapi.json", ("Accept-Encoding", "br, gzip"))
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body)
    assert (plain.value("Content-Encoding"), packed.value("Content-Encoding")) == (None, "gzip")
    assert plain.value("ETag") != packed.value("ETag")
    for reply, encoding in [(plain, "identity"), (packed, "gzip"), (plain, "gzip;q=0")]:
        fields = [("Accept-Encoding", encoding), ("If-None-Match", f'"x", W/{reply.value("ETag")}')]
        again = gateway.get("/openapi.json", *fields)
        assert (again.status, again.body, again.value("ETag")) == (304, b"", reply.value("ETag"))
        assert again.value("Cache-Control") == "no-cache"
        assert again.value("Vary") == "Accept-Encoding"
    assert gateway.get("/openapi.json", ("If-None-Match", '"other"')).status == 200
    head = gateway.request("HEAD", "/openapi.json")
    assert (head.status, head.body, head.value("Content-Length")) == (200, b"", str(len(plain.body)))
    assert gateway.request("POST", "/openapi.json").status == 405


def test_of_all_workers_and_gateways_one_fetches(start: Callable[..., GatewayProcess], service: Documented) -> None:
    gateways = [start(workers=2) for _ in range(2)]
    replies: list[Reply] = []

    def ask(gateway: GatewayProcess) -> None:
        replies.extend(gateway.get("/openapi/devices.json") for _ in range(10))

    threads = [threading.Thread(target=ask, args=(gateway,)) for gateway in gateways for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever asked a worker that did not fetch waited until another one had.
    assert {reply.status for reply in replies} == {200}
    assert len(service.fetches()) == 1
    assert {reply.value("ETag") for reply in replies} == {gateways[0].get("/openapi/devices.json").value("ETag")}


def test_it_is_renewed_by_age_and_only_if_it_has_changed(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    gateway = start(docs={"refresh_seconds": 1})
    before = gateway.get("/openapi/devices.json").value("ETag")
    assert service.upstream.wait_until(lambda: len(service.fetches()) >= 2)
    first, second = service.fetches()[:2]
    assert (first.values("If-None-Match"), second.values("If-None-Match")) == ([], ['"one"'])
    assert gateway.get("/openapi/devices.json").value("ETag") == before
    service.serve(DOCUMENT | {"info": {"title": "New", "version": "8"}}, "Last-Modified: Tue, 24 Nov 2026 00:00:00 GMT")
    gateway.wait_until(lambda: document(gateway, "/openapi/devices.json")["info"]["title"] == "New", "renew it")
    count = len(service.fetches())
    assert service.upstream.wait_until(lambda: len(service.fetches()) > count)
    assert service.fetches()[-1].values("If-Modified-Since") == ["Tue, 24 Nov 2026 00:00:00 GMT"]


def test_a_service_that_went_down_keeps_its_document_marked_and_comes_back(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    gateway = start(docs={"refresh_seconds": 1})
    assert states(gateway)["devices"] == "current"
    service.devices = None
    gateway.wait_until(lambda: states(gateway)["devices"] == "stale", "notice")
    found = document(gateway)
    since = found["info"]["x-gateway-services"]["devices"]["x-gateway-stale-since"]
    assert since.startswith("20")
    assert "/api/devices" in found["paths"]
    # Another gateway, which never saw the service up, has the document, and since when it is old, from Redis.
    other = start()
    assert document(other)["info"]["x-gateway-services"]["devices"]["x-gateway-stale-since"] == since
    service.serve(DOCUMENT)
    gateway.wait_until(lambda: states(gateway)["devices"] == "current", "have it again")


@pytest.mark.parametrize(
    "data",
    [
        answer(b"x" * 5000),
        answer(b'{"openapi": "3.1.0"'),
        answer(b'{"swagger": "2.0"}'),
        answer(b"[]"),
        answer(b"", status="404 Not Found"),
        answer(b"", "Location: /other", status="302 Found"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        answer(json.dumps({"openapi": "3.1.0", "info": {}, "paths": {}, "x": [0] * 2000}).encode()),
        b"nonsense\r\n\r\n",
    ],
    ids=["no json", "cut json", "swagger", "a list", "404", "a redirect", "cut short", "too large", "no http"],
)
def test_what_is_no_document_is_unavailable_and_hurts_no_other(
    start: Callable[..., GatewayProcess], service: Documented, data: bytes
) -> None:
    gateway = start(docs={"max_bytes": 4096})
    service.devices = data
    assert states(gateway) == {
        "auth": "unavailable",
        "livestreams": "unavailable",
        "rules": "current",
        "devices": "unavailable",
    }
    gateway.wait_until(lambda: "the document of devices can't be had" in gateway.output(), "tell it")
    assert "Traceback" not in gateway.output()


def test_a_service_that_hangs_holds_up_nobodys_document(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    released = threading.Event()

    def hang(_: Received, __: socket.socket) -> bool:
        released.wait(30)
        return False

    service.upstream.at["/devices.json"] = hang
    try:
        gateway = start()
        gateway.wait_until(lambda: states(gateway)["rules"] == "current", "show the others")
        assert states(gateway)["devices"] == "unavailable"
    finally:
        released.set()


def test_a_document_in_endless_little_pieces_holds_up_no_other_request(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    begun, released, ended = threading.Event(), threading.Event(), threading.Event()

    def flood(_: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        begun.set()
        try:
            while not released.is_set():
                connection.sendall(b"1\r\n \r\n" * 5000)
        except OSError:
            ended.set()
        return False

    service.upstream.at["/devices.json"] = flood
    gateway = start()
    asking = threading.Thread(target=gateway.get, args=("/openapi.json",))
    asking.start()
    try:
        assert begun.wait(20)
        assert gateway.get("/healthz").status == 200
        # The gateway has not given it up yet: it was answered beside it.
        assert not ended.is_set()
    finally:
        released.set()
        asking.join()


def test_without_redis_each_worker_fetches_for_itself(start: Callable[..., GatewayProcess]) -> None:
    gateway = start(url=f"redis://127.0.0.1:{free_port()}/0")
    assert states(gateway)["devices"] == "current"


def test_hidden_paths_and_services(start: Callable[..., GatewayProcess]) -> None:
    gateway = start(docs={"hidden": ["/api/devices/internal/**"]})
    assert set(document(gateway)["paths"]) == {"/api/devices", "/api/devices/{id}", "/api/rules"}
    gateway = start(in_docs=False)
    found = document(gateway)
    assert set(found["paths"]) == {"/api/rules"}
    assert "devices" not in found["info"]["x-gateway-services"]
    assert "devices" not in gateway.get("/docs/services.json").body.decode()
    assert gateway.get("/openapi/devices.json").status == 404


def test_a_stripped_prefix_is_in_front_of_the_paths_again(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    own = {"openapi": "3.1.0", "info": {"title": "d", "version": "1"}, "paths": {"/items": {"get": {"responses": {}}}}}
    service.serve(own)
    gateway = start(strip_prefix=True)
    assert set(document(gateway, "/openapi/devices.json")["paths"]) == {"/api/devices/items"}


PATHS = (
    "/openapi.json",
    "/openapi/devices.json",
    "/docs",
    "/docs/services.json",
    "/docs/page.js",
    "/docs/swagger-ui.css",
)


def test_switched_off_there_is_nothing(start: Callable[..., GatewayProcess], service: Documented) -> None:
    gateway = start(docs={"enabled": False})
    assert [gateway.get(path).status for path in PATHS] == [404] * len(PATHS)
    assert service.upstream.requests == []


def test_guarded_documents_need_a_good_token(start: Callable[..., GatewayProcess]) -> None:
    gateway = start(docs={"auth": "required"})
    guarded, free = (PATHS[0], PATHS[1], PATHS[3]), (PATHS[2], PATHS[4], PATHS[5])
    for path in guarded:
        refused = gateway.get(path)
        assert (refused.status, refused.value("X-Gateway-Error")) == (401, "missing_token")
        assert refused.value("WWW-Authenticate") == "Bearer"
        assert gateway.get(path, bearer(exp=1)).value("X-Gateway-Error") == "invalid_token"
        assert gateway.get(path, bearer()).status == 200
    # They tell nothing that is not in the package.
    assert [gateway.get(path).status for path in free] == [200] * 3


def test_the_page_may_load_nothing_from_elsewhere(start: Callable[..., GatewayProcess]) -> None:
    reply = start().get("/docs")
    assert reply.value("Content-Type") == "text/html; charset=utf-8"
    policy = reply.value("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert reply.value("X-Content-Type-Options") == "nosniff"
    assert b"<script>" not in reply.body
    assert b"//" not in reply.body.replace(b"<!doctype html>", b"")


def test_with_a_final_slash_it_leads_to_the_page(start: Callable[..., GatewayProcess]) -> None:
    # The page's links are relative, so that they hold behind a proxy's prefix too: there it would find none of them.
    reply = start().get("/docs/")
    assert (reply.status, reply.value("Location"), reply.body) == (308, "../docs", b"")


def test_other_origins_read_documents_by_the_rules_for_all(start: Callable[..., GatewayProcess]) -> None:
    gateway = start(cors=("https://app.test",))
    reply = gateway.get("/openapi.json", ("Origin", "https://app.test"))
    assert reply.value("Access-Control-Allow-Origin") == "https://app.test"
    assert gateway.get("/openapi.json", ("Origin", "https://evil.test")).value("Access-Control-Allow-Origin") is None


class TestUndocumented:
    REQUESTS = (
        ("GET", "/api/devices", 200),
        ("GET", "/api/devices/", 200),
        ("HEAD", "/api/devices", 200),
        ("DELETE", "/api/devices/7", 200),
        ("GET", "/api/devices/internal/state", 200),
        ("POST", "/api/devices", 404),
        ("PUT", "/api/devices/7", 404),
        ("GET", "/api/devices/7/more", 404),
        ("GET", "/api/devices/7%20x", 200),
    )

    def ask_all(self, gateway: GatewayProcess) -> list[tuple[str, str, int]]:
        return [(method, path, gateway.request(method, path, [bearer()]).status) for method, path, _ in self.REQUESTS]

    def test_refused(self, start: Callable[..., GatewayProcess], service: Documented) -> None:
        # What is hidden from readers is documented all the same.
        gateway = start(undocumented="refuse", docs={"hidden": ["/api/devices/internal/**"]})
        gateway.wait_until(
            lambda: gateway.request("POST", "/api/devices", [bearer()]).status == 404, "know the document"
        )
        service.upstream.requests.clear()
        service.upstream.answers(OK)
        assert self.ask_all(gateway) == list(self.REQUESTS)
        reply = gateway.request("POST", "/api/devices", [bearer()])
        assert (reply.value("X-Gateway-Error"), reply.json()["status"]) == ("undocumented", 404)
        arrived = Counter(one.method for one in service.upstream.requests if one.target.startswith("/api"))
        assert arrived == {"GET": 4, "HEAD": 1, "DELETE": 1}
        # Without a token nothing is told of what there is.
        assert gateway.request("POST", "/api/devices").status == 401

    def test_only_logged(self, start: Callable[..., GatewayProcess]) -> None:
        gateway = start(undocumented="log")

        def is_logged() -> bool:
            reply = gateway.request("POST", "/api/devices", [bearer()])
            assert reply.status == 200
            found = gateway.wait_for_log(lambda line: line["request_id"] == reply.value("X-Request-Id"))
            return bool(found["undocumented"])

        gateway.wait_until(is_logged, "know the document")
        assert counted(gateway, "gateway_undocumented_requests_total", service="devices", mode="log") >= 1

    def test_where_there_is_no_document_everything_passes(
        self, start: Callable[..., GatewayProcess], service: Documented
    ) -> None:
        service.devices = None
        gateway = start(undocumented="refuse")
        for _ in range(3):
            assert gateway.request("POST", "/api/devices", [bearer()]).status == 200
        assert service.upstream.wait_until(lambda: bool(service.fetches()))


def test_drift_is_told(service: Documented) -> None:
    secured: dict[str, Any] = {"/api/devices": {"get": {"security": [{"own": []}], "responses": {}}}}
    service.serve(DOCUMENT | {"paths": DOCUMENT["paths"] | secured})
    settings = settings_for(service, auth="none", routes=[{"path": "/api/devices/nowhere", "methods": ["PUT"]}])
    with pytest.raises(AssertionError) as told:
        flask("drift", settings=settings)
    assert "auth: its document can't be had" in str(told.value)


def test_drift_lines_name_the_operation(service: Documented) -> None:
    secured: dict[str, Any] = {"/api/devices": {"get": {"security": [{"own": []}], "responses": {}}}}
    service.serve(DOCUMENT | {"paths": DOCUMENT["paths"] | secured})
    routes = [{"path": "/api/devices/nowhere", "methods": ["PUT"]}, {"path": "/api/devices/{x}", "auth": "required"}]
    own = {
        "devices": {
            "prefix": "/api/devices",
            "targets": [service.upstream.url],
            "openapi_path": "/devices.json",
            "auth": "none",
            "routes": routes,
        }
    }
    printed = flask("drift", settings={"default_services": False, "services": own}, code=1)
    lines = printed.splitlines()
    assert any("GET /api/devices (policy devices): the service asks for credentials" in line for line in lines)
    assert any(
        "GET /api/devices/{id} (policy devices.x): the service asks for no credentials" in line for line in lines
    )
    assert any("PUT /api/devices/nowhere" in line and "no operation" in line for line in lines)
    assert "\x1b" not in printed
