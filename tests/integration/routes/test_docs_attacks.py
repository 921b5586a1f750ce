"""Documents from hostile services, and hostile contents of Redis."""

from __future__ import annotations

import json
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from gateway.api_documents.store import PREFIX
from tests.support.client import Connection, request_bytes
from tests.support.commands import flask
from tests.support.gateway import GatewayProcess, gateways
from tests.support.redis import RedisServer
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream

OPERATION = {"responses": {"200": {"description": "ok"}}}


def document_with(*paths: str, **more: Any) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "Devices", "version": "1"},
        "paths": {path: {"get": OPERATION} for path in ("/api/devices", *paths)},
    } | more


class Service:
    """Serves `document` with the configured headers at /NAME.json of the upstream."""

    def __init__(self, upstream: ScriptedUpstream, name: str = "devices") -> None:
        self.upstream = upstream
        self.name = name
        self.document: Callable[[], Any] = document_with
        self.fields: list[str] = []
        self.refuses: Callable[[Received], bool] = lambda _: False
        upstream.at[f"/{name}.json"] = self._answer

    def _answer(self, received: Received, connection: socket.socket) -> bool:
        body = b"" if self.refuses(received) else json.dumps(self.document()).encode()
        status = "400 Bad Request" if self.refuses(received) else "200 OK"
        head = "\r\n".join([f"HTTP/1.1 {status}", *self.fields, f"Content-Length: {len(body)}", "", ""])
        connection.sendall(head.encode("latin-1") + body)
        return True

    @property
    def fetches(self) -> list[Received]:
        return [one for one in self.upstream.requests if one.target == f"/{self.name}.json"]

    def settings(self, **more: Any) -> dict[str, Any]:
        own = {"prefix": f"/api/{self.name}", "targets": [self.upstream.url], "openapi_path": f"/{self.name}.json"}
        return {"default_services": False, "services": {self.name: own | more}}


TAGS = {"long": '"' + "a" * 9000 + '"', "not_ascii": '"\xe9\x85"'}


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, Service]]:
    """Services that always behave oddly, by the name of their behaviour."""
    upstream = ScriptedUpstream()
    found = {name: Service(upstream, name) for name in ("varying", *TAGS, "stumbling", "placeholders")}
    numbers = count()
    found["varying"].document = lambda: document_with(**{"x-made": next(numbers)})
    for name, tag in TAGS.items():
        found[name].fields = [f"ETag: {tag}"]
    found["stumbling"].fields = ['ETag: "one"']
    found["stumbling"].refuses = lambda received: bool(received.values("If-None-Match"))
    many = ("/api/placeholders/" + "{a}" * 20 + "!", "/api/placeholders/" + "{a}-" * 20 + "!")
    found["placeholders"].document = lambda: document_with(*many)
    yield found
    upstream.close()


@pytest.fixture(scope="module")
def lasting() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], services: dict[str, Service], lasting: RedisServer
) -> GatewayProcess:
    own: dict[str, Any] = {}
    for name, one in services.items():
        own |= one.settings(undocumented="refuse" if name == "placeholders" else "allow")["services"]
    settings = {"default_services": False, "services": own, "docs": {"refresh_seconds": 1}}
    return start_gateway(settings, workers=1, environ={"REDIS_URL": lasting.url})


@pytest.fixture
def service(upstream: ScriptedUpstream) -> Service:
    return Service(upstream)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def start(service: Service, server: RedisServer) -> Iterator[Callable[..., GatewayProcess]]:
    with gateways() as start_with:

        def start(docs: dict[str, Any] | None = None, **devices: Any) -> GatewayProcess:
            settings = service.settings(**devices) | {"docs": {"refresh_seconds": 1} | (docs or {})}
            return start_with(settings, workers=1, environ={"REDIS_URL": server.url})

        yield start


def state(gateway: GatewayProcess, name: str = "devices") -> str:
    return str(gateway.get("/openapi.json").json()["info"]["x-gateway-services"][name]["state"])


def keys(server: RedisServer, kind: str, name: str = "devices") -> list[str]:
    return [key.decode() for key in server.ask("KEYS", f"{PREFIX}{kind}:{name}:*")]


def only_key(gateway: GatewayProcess, server: RedisServer, kind: str, name: str = "devices") -> str:
    """Waits until the gateway has stored the fetched document in Redis. Returns the only key of this kind."""
    assert state(gateway, name) == "current"
    gateway.wait_until(lambda: bool(keys(server, kind, name)), "share the document")
    (key,) = keys(server, kind, name)
    return key


def test_a_document_that_changes_on_each_fetch_takes_the_memory_of_one(
    gateway: GatewayProcess,
    services: dict[str, Service],
    lasting: RedisServer,
    start_gateway: Callable[..., GatewayProcess],
) -> None:
    varying = services["varying"]
    assert state(gateway, "varying") == "current"
    assert varying.upstream.wait_until(lambda: len(varying.fetches) >= 3)
    assert len(keys(lasting, "content", "varying")) == 1
    # Another gateway uses the stored document.
    other = start_gateway(varying.settings(), workers=1, environ={"REDIS_URL": lasting.url})
    assert state(other, "varying") == "current"


def test_garbage_in_redis_is_ignored(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream, server: RedisServer
) -> None:
    garbage = {"text": '{"checked_at": "x"}', "deep": "[" * 100_000}
    services = {name: Service(upstream, name) for name in garbage}
    own = {name: one.settings()["services"][name] for name, one in services.items()}
    settings = {"default_services": False, "services": own, "docs": {"refresh_seconds": 1}}
    environ = {"REDIS_URL": server.url}
    gateway = start_gateway(settings, workers=1, environ=environ)
    places = {name: only_key(gateway, server, "state", name) for name in garbage}
    fetched = {name: len(one.fetches) for name, one in services.items()}
    for name, key in places.items():
        server.ask("SET", key, garbage[name])
    assert upstream.wait_until(lambda: all(len(one.fetches) > fetched[name] for name, one in services.items()))
    for name, key in places.items():
        server.ask("SET", key, garbage[name])
    other = start_gateway(settings, workers=1, environ=environ)
    assert {state(other, name) for name in garbage} == {"current"}
    for one in (gateway, other):
        assert "Traceback" not in one.output()
        one.stop()


def test_content_in_redis_that_is_not_its_versions_is_not_shown(
    start: Callable[..., GatewayProcess], service: Service, server: RedisServer
) -> None:
    key = only_key(start(docs={"refresh_seconds": 60}), server, "content")
    forged = zlib.compress(json.dumps(document_with("/api/devices/forged")).encode())
    with server.client() as client:
        client.set(key, forged)
    assert "forged" not in start(docs={"refresh_seconds": 60}).get("/openapi.json").body.decode()


def test_a_gateway_with_a_lower_size_limit_ignores_anothers_stored_document(
    start: Callable[..., GatewayProcess], service: Service
) -> None:
    service.document = lambda: document_with(**{"x-long": "x" * 5000})
    generous, strict = start(), start(docs={"max_bytes": 4096})
    assert (state(generous), state(strict)) == ("current", "unavailable")
    fetched = len(service.fetches)
    assert service.upstream.wait_until(lambda: len(service.fetches) > fetched + 3)
    assert (state(generous), state(strict)) == ("current", "unavailable")


@pytest.mark.parametrize("name", TAGS)
def test_an_odd_entity_tag_is_not_sent_back(gateway: GatewayProcess, services: dict[str, Service], name: str) -> None:
    assert state(gateway, name) == "current"
    assert services[name].upstream.wait_until(lambda: len(services[name].fetches) >= 2)
    assert [one.values("If-None-Match") for one in services[name].fetches[:2]] == [[], []]


def test_a_service_that_fails_on_if_none_match_is_fetched_without_it(gateway: GatewayProcess) -> None:
    gateway.wait_until(lambda: state(gateway, "stumbling") == "stale", "be refused")
    gateway.wait_until(lambda: state(gateway, "stumbling") == "current", "ask without it")


def test_many_placeholders_in_one_segment_do_not_slow_matching_down(gateway: GatewayProcess) -> None:
    gateway.wait_until(lambda: gateway.get("/api/placeholders/x", bearer()).status == 404, "know the document")
    for value in ("a" * 3000, "-" * 3000):
        with Connection(gateway.port, timeout=10) as connection:
            connection.send(request_bytes("GET", f"/api/placeholders/{value}", [bearer()]))
            assert connection.reply().status == 404
    assert gateway.get("/api/placeholders/" + "b" * 30 + "!", bearer()).status == 200


def test_drift_prints_no_terminal_escapes(service: Service) -> None:
    service.document = lambda: document_with("/api/devices/\x1b]0;x\x07\nforged: line")
    printed = flask("drift", settings=service.settings(), code=1)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", printed)
    assert "forged" in printed
    assert not any(line.startswith("forged") for line in printed.splitlines())
