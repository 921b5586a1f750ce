"""Services, and a Redis, that do with documents what they should not."""

from __future__ import annotations

import json
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from gateway.documents.store import PREFIX
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
    """Serves `document`, with these fields, at /devices.json of the upstream."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.upstream = upstream
        self.document: Callable[[], Any] = document_with
        self.fields: list[str] = []
        self.refuses: Callable[[Received], bool] = lambda _: False
        upstream.at["/devices.json"] = self._answer

    def _answer(self, received: Received, connection: socket.socket) -> bool:
        body = b"" if self.refuses(received) else json.dumps(self.document()).encode()
        status = "400 Bad Request" if self.refuses(received) else "200 OK"
        head = "\r\n".join([f"HTTP/1.1 {status}", *self.fields, f"Content-Length: {len(body)}", "", ""])
        connection.sendall(head.encode("latin-1") + body)
        return True

    @property
    def fetches(self) -> list[Received]:
        return [one for one in self.upstream.requests if one.target == "/devices.json"]

    def settings(self, **more: Any) -> dict[str, Any]:
        own = {"prefix": "/api/devices", "targets": [self.upstream.url], "openapi_path": "/devices.json"}
        return {"default_services": False, "services": {"devices": own | more}}


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


def state(gateway: GatewayProcess) -> str:
    return str(gateway.get("/openapi.json").json()["info"]["x-gateway-services"]["devices"]["state"])


def keys(server: RedisServer, kind: str) -> list[str]:
    return [key.decode() for key in server.ask("KEYS", f"{PREFIX}{kind}:*")]


def only_key(gateway: GatewayProcess, server: RedisServer, kind: str) -> str:
    """Once the gateway has shared what it fetched."""
    assert state(gateway) == "current"
    gateway.wait_until(lambda: bool(keys(server, kind)), "share the document")
    (key,) = keys(server, kind)
    return key


def test_a_document_that_is_another_one_each_time_takes_the_room_of_one(
    start: Callable[..., GatewayProcess], service: Service, server: RedisServer
) -> None:
    numbers = count()
    service.document = lambda: document_with(**{"x-made": next(numbers)})
    gateway = start()
    assert state(gateway) == "current"
    assert service.upstream.wait_until(lambda: len(service.fetches) >= 3)
    assert len(keys(server, "content")) == 1
    # Another gateway takes what is there.
    assert state(start(docs={"refresh_seconds": 60})) == "current"


@pytest.mark.parametrize("garbage", ['{"checked_at": "x"}', "[" * 100_000], ids=["text", "deep"])
def test_garbage_in_redis_is_as_nothing(
    start: Callable[..., GatewayProcess], service: Service, server: RedisServer, garbage: str
) -> None:
    gateway = start()
    key = only_key(gateway, server, "state")
    server.ask("SET", key, garbage)
    fetched = len(service.fetches)
    assert service.upstream.wait_until(lambda: len(service.fetches) > fetched)
    server.ask("SET", key, garbage)
    assert state(start()) == "current"
    assert "Traceback" not in gateway.output()


def test_content_in_redis_that_is_not_its_versions_is_not_shown(
    start: Callable[..., GatewayProcess], service: Service, server: RedisServer
) -> None:
    key = only_key(start(docs={"refresh_seconds": 60}), server, "content")
    forged = zlib.compress(json.dumps(document_with("/api/devices/forged")).encode())
    with server.client() as client:
        client.set(key, forged)
    assert "forged" not in start(docs={"refresh_seconds": 60}).get("/openapi.json").body.decode()


def test_of_two_gateways_the_stricter_one_does_not_take_the_others_document(
    start: Callable[..., GatewayProcess], service: Service
) -> None:
    service.document = lambda: document_with(**{"x-long": "x" * 5000})
    generous, strict = start(), start(docs={"max_bytes": 4096})
    assert (state(generous), state(strict)) == ("current", "unavailable")
    fetched = len(service.fetches)
    assert service.upstream.wait_until(lambda: len(service.fetches) > fetched + 3)
    assert (state(generous), state(strict)) == ("current", "unavailable")


@pytest.mark.parametrize("value", ['"' + "a" * 9000 + '"', '"\xe9\x85"'], ids=["long", "not ASCII"])
def test_an_odd_entity_tag_is_not_sent_back(start: Callable[..., GatewayProcess], service: Service, value: str) -> None:
    service.fields = [f"ETag: {value}"]
    gateway = start()
    assert state(gateway) == "current"
    assert service.upstream.wait_until(lambda: len(service.fetches) >= 2)
    assert [one.values("If-None-Match") for one in service.fetches[:2]] == [[], []]


def test_a_service_that_stumbles_over_its_own_entity_tag_is_asked_without(
    start: Callable[..., GatewayProcess], service: Service
) -> None:
    service.fields = ['ETag: "one"']
    service.refuses = lambda received: bool(received.values("If-None-Match"))
    gateway = start()
    assert state(gateway) == "current"
    gateway.wait_until(lambda: state(gateway) == "stale", "be refused")
    gateway.wait_until(lambda: state(gateway) == "current", "ask without it")


def test_many_placeholders_in_one_segment_hold_nobody_up(
    start: Callable[..., GatewayProcess], service: Service
) -> None:
    service.document = lambda: document_with("/api/devices/" + "{a}" * 20 + "!", "/api/devices/" + "{a}-" * 20 + "!")
    gateway = start(undocumented="refuse")
    gateway.wait_until(lambda: gateway.get("/api/devices/x", bearer()).status == 404, "know the document")
    for value in ("a" * 3000, "-" * 3000):
        with Connection(gateway.port, timeout=10) as connection:
            connection.send(request_bytes("GET", f"/api/devices/{value}", [bearer()]))
            assert connection.reply().status == 404
    assert gateway.get("/api/devices/" + "b" * 30 + "!", bearer()).status == 200


def test_drift_prints_nothing_that_a_terminal_obeys(service: Service) -> None:
    service.document = lambda: document_with("/api/devices/\x1b]0;x\x07\nforged: line")
    printed = flask("drift", settings=service.settings(), code=1)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", printed)
    assert "forged" in printed
    assert not any(line.startswith("forged") for line in printed.splitlines())
