"""`/status` of real gateways: the figures of all workers and gateways on one Redis, for operators only."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from gateway.redis.client import SharedRedis
from gateway.status.publisher import PREFIX, StatusStore
from tests.support.client import Connection, Reply, request_bytes
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import PASSWORD, RedisServer, free_port
from tests.support.tokens import SECRET, bearer
from tests.support.upstream import Received, ScriptedUpstream, answering

StartGateway = Callable[..., GatewayProcess]
HTML = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
FAILURE = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
# This text is part of every setting that may be secret, so /status must not contain it.
HIDDEN = "hunter2-hunter2-hunter2-hunter2-hunter2"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as running:
        yield running


def start_with(start: StartGateway, url: str, redis: RedisServer, workers: int = 2, **more: Any) -> GatewayProcess:
    services = four_services(url)["services"]
    services["devices"] |= more.pop("devices", {})
    return start({"services": services, **more}, workers=workers, environ={"REDIS_URL": redis.url})


@pytest.fixture(scope="module")
def shared(start_gateway: StartGateway, module_upstream: ScriptedUpstream, server: RedisServer) -> GatewayProcess:
    return start_with(start_gateway, module_upstream.url, server)


@pytest.fixture(scope="module")
def second(start_gateway: StartGateway, module_upstream: ScriptedUpstream, server: RedisServer) -> GatewayProcess:
    return start_with(start_gateway, module_upstream.url, server, workers=1)


def status(gateway: GatewayProcess) -> dict[str, Any]:
    reply = gateway.get("/status")
    assert reply.status == 200
    return dict(reply.json())


def service(gateway: GatewayProcess, name: str = "devices") -> dict[str, Any]:
    (found,) = [one for one in status(gateway)["services"] if one["name"] == name]
    return dict(found)


def pids(gateway: GatewayProcess) -> set[int]:
    return {worker["pid"] for one in status(gateway)["gateways"] for worker in one["workers"]}


def wait_for(gateway: GatewayProcess, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
    """Waits until the service's figures on the status page fulfil the condition. Other workers publish their figures
    every few seconds."""
    gateway.wait_until(lambda: condition(service(gateway)), what)


def test_workers_are_listed_before_their_first_request(shared: GatewayProcess) -> None:
    seen: list[dict[str, Any]] = []

    def has_all_workers() -> bool:
        seen[:] = [status(shared)]
        return any(pids_of(one) == set(shared.worker_pids()) for one in seen[0]["gateways"])

    shared.wait_until(has_all_workers, "show its workers")
    (found,) = seen
    (gateway,) = found["gateways"]
    assert gateway["host"] == socket.gethostname()
    for worker in gateway["workers"]:
        assert worker["redis"] == "ok"
        assert 10 << 20 < worker["rss_bytes"] < 1 << 30
        assert worker["uptime_seconds"] < 600
    assert found["is_whole"]
    assert found["note"] == ""
    assert found["redis"]["state"] == "ok"
    assert found["keys"][0]["state"] == "fixed"


def pids_of(gateway: dict[str, Any]) -> set[int]:
    return {worker["pid"] for worker in gateway["workers"]}


def test_the_figures_add_up_all_workers_and_gateways(
    shared: GatewayProcess, second: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    before = service(shared)
    upstream.at["/api/devices/broken"] = answering(FAILURE)
    both = (shared, second)
    for _ in range(10):
        for gateway in both:
            assert gateway.get("/api/devices", bearer()).status == 200
    for gateway in both:
        assert gateway.get("/api/devices/broken", bearer()).status == 500
        assert gateway.get("/api/devices").status == 401
        # No service has this path.
        assert gateway.get("/elsewhere").status == 404
    for gateway in both:
        wait_for(gateway, lambda found: found["requests"] == before["requests"] + 24, "count all requests")
    found = service(second)
    assert found["requests"] == before["requests"] + 24
    assert found["errors"] == before["errors"] + 2
    assert found["codes"]["missing_token"] >= 2
    assert found["quota_refusals"] == before["quota_refusals"]
    assert 0 < found["p50_seconds"] <= found["p95_seconds"] <= found["p99_seconds"] < 60
    assert found["targets"][0]["workers"] == 3
    assert len(found["history"]["p50_seconds"]) == 90
    assert pids(second) >= set(shared.worker_pids()) | set(second.worker_pids())


def test_what_is_in_flight_is_counted_until_it_ends(
    shared: GatewayProcess, second: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    goes_on = threading.Event()

    def wait(received: Received, connection: socket.socket) -> bool:
        goes_on.wait(60)
        return answering(FAILURE)(received, connection)

    upstream.at["/api/devices/slow"] = wait
    with Connection(shared.port, 60) as connection:
        connection.send(request_bytes("GET", "/api/devices/slow", [bearer()]))
        wait_for(second, lambda found: found["in_flight"] == 1 and found["targets"][0]["in_flight"] == 1, "see it")
        goes_on.set()
        assert connection.reply().status == 500
    wait_for(second, lambda found: found["in_flight"] == found["targets"][0]["in_flight"] == 0, "see its end")


def test_a_breaker_shows_how_many_workers_have_it_open(
    start_gateway: StartGateway, upstream: ScriptedUpstream, server: RedisServer, shared: GatewayProcess
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    settings = {"breaker": {"failures": 1, "open_seconds": 600, "max_open_seconds": 600}, "targets": [dead]}
    gateway = start_with(start_gateway, upstream.url, server, workers=1, devices=settings | {"limits": ["2/day"]})
    statuses = [gateway.get("/api/devices", bearer("breaker")).status for _ in range(3)]
    assert statuses == [502, 503, 429]

    def target(gateway: GatewayProcess) -> dict[str, Any]:
        return dict(next((one for one in service(gateway)["targets"] if one["url"] == dead), {}))

    assert (target(gateway)["breaker"], target(gateway)["open_in"]) == ("open", 1)
    assert 500 < target(gateway)["open_seconds"] <= 600
    shared.wait_until(lambda: target(shared).get("open_in") == 1, "hear of the other gateway's breaker")
    wait_for(gateway, lambda found: found["quota_refusals"] == 1, "count the refusal")
    found = service(gateway)
    assert found["codes"] == found["codes"] | {"quota_exceeded": 1, "upstream_open": 1, "upstream_unreachable": 1}
    # The two gateways have different configurations, so their tags differ.
    everybody = status(gateway)["gateways"]
    assert len({one["configuration"] for one in everybody}) == 2
    assert len({one["build"] for one in everybody}) == 1
    gateway.stop()


def test_a_killed_worker_disappears_and_its_counts_stay(
    start_gateway: StartGateway, module_upstream: ScriptedUpstream
) -> None:
    with RedisServer() as redis:
        gateway = start_with(start_gateway, module_upstream.url, redis, workers=1)
        for _ in range(5):
            assert gateway.get("/api/devices", bearer()).status == 200
        # Waits until the time slot of these requests has ended and is published.
        gateway.wait_until(lambda: bool(redis.ask("KEYS", f"{PREFIX}slots:*")) and history(redis) == 5, "share it")
        (pid,) = gateway.worker_pids()
        os.kill(pid, signal.SIGKILL)
        gateway.wait_until(lambda: gateway.output().count("Booting worker") == 2, "start another worker")
        gateway.wait_until(lambda: pid not in pids(gateway), "forget the dead worker")
        assert pids(gateway) == set(gateway.worker_pids())
        gateway.wait_until(lambda: service(gateway)["requests"] == 5, "show its requests")
        # All keys expire.
        assert {redis.ask("TTL", key.decode()) > 0 for key in redis.ask("KEYS", f"{PREFIX}*")} == {True}


def history(redis: RedisServer) -> int:
    """The number of requests that the workers have published."""
    texts = [redis.ask("GET", key.decode()) for key in redis.ask("KEYS", f"{PREFIX}slots:*")]
    return sum(slot[1] for text in texts for slots in json.loads(text).values() for slot in slots)


def test_without_redis_a_worker_shows_its_own_figures(
    start_gateway: StartGateway, module_upstream: ScriptedUpstream
) -> None:
    with RedisServer() as redis:
        gateway = start_with(start_gateway, module_upstream.url, redis, workers=2)
        gateway.wait_until(lambda: len(pids(gateway)) == 2, "show both workers")
        redis.pause()
        # The status is cached for a second, so the next response may still be from before the pause.
        seen: list[dict[str, Any]] = []

        def is_partial() -> bool:
            seen[:] = [status(gateway)]
            return not seen[0]["is_whole"]

        gateway.wait_until(is_partial, "notice")
        (found,) = seen
        assert found["note"].startswith("Redis does not answer")
        assert found["redis"]["state"] == "down"
        assert [len(one["workers"]) for one in found["gateways"]] == [1]
        assert gateway.get("/status", HTML).status == 200
        redis.resume()
        gateway.wait_until(lambda: len(pids(gateway)) == 2, "show both workers again")
        redis.kill()
        gateway.wait_until(lambda: not status(gateway)["is_whole"], "notice")
        redis.start()
        gateway.wait_until(lambda: len(pids(gateway)) == 2, "share with a Redis that knows of nothing")


def test_garbage_in_redis_is_ignored(shared: GatewayProcess, server: RedisServer) -> None:
    shared.wait_until(lambda: pids(shared) >= set(shared.worker_pids()), "show its workers")
    with server.client() as client:
        for number, garbage in enumerate(["", "[" * 100_000, '{"gateway": "x"}', "\xff", '{"devices": [[1]]}', "null"]):
            client.zadd(f"{PREFIX}workers", {f"garbage:{number}": 2e9})
            client.set(f"{PREFIX}now:garbage:{number}", garbage)
            client.set(f"{PREFIX}slots:garbage:{number}", garbage)
        assert pids(shared) >= set(shared.worker_pids())
        assert status(shared)["is_whole"]
        wrong_type(client, f"{PREFIX}now:garbage:0")
        assert status(shared)["is_whole"]
        # Now the key of the index has another type.
        wrong_type(client, f"{PREFIX}workers")
        shared.wait_until(lambda: not status(shared)["is_whole"], "notice")
        assert status(shared)["redis"]["state"] == "ok"
        client.flushall()
    shared.wait_until(lambda: status(shared)["is_whole"] and pids(shared) >= set(shared.worker_pids()), "come back")
    assert "Traceback" not in shared.output()


def wrong_type(client: Redis, key: str) -> None:
    client.delete(key)
    client.lpush(key, "x")


@pytest.mark.parametrize(
    ("fields", "content_type"),
    [
        ([], "application/json"),
        ([("Accept", "*/*")], "application/json"),
        ([("Accept", "application/json")], "application/json"),
        ([("Accept", "application/json, text/plain;q=0.5")], "application/json"),
        ([("Accept", "image/png")], "application/json"),
        ([HTML], "text/html; charset=utf-8"),
        ([("Accept", "text/html")], "text/html; charset=utf-8"),
    ],
)
def test_accept_chooses_json_or_the_page(
    shared: GatewayProcess, fields: list[tuple[str, str]], content_type: str
) -> None:
    reply = shared.get("/status", *fields)
    assert (reply.status, reply.value("Content-Type")) == (200, content_type)
    assert reply.value("Cache-Control") == "no-store"
    assert reply.value("Vary") == "Accept"
    assert reply.value("X-Content-Type-Options") == "nosniff"
    if content_type.startswith("text/html"):
        policy = reply.value("Content-Security-Policy") or ""
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert b"<script src=" in reply.body
        assert b"<script>" not in reply.body


def test_only_the_files_of_the_page_are_served(shared: GatewayProcess) -> None:
    for name in ("page.css", "page.js", "draw.js", "icon.svg"):
        assert shared.get(f"/status/{name}").status == 200
    for name in ("page.html", "__init__.py", "x", "page.js/x"):
        assert shared.get(f"/status/{name}").status == 404
    moved = shared.get("/status/")
    assert (moved.status, moved.value("Location")) == (308, "../status")
    assert shared.request("POST", "/status").status == 405
    assert shared.request("HEAD", "/status").status == 200


def test_only_operators_can_read_the_status(
    start_gateway: StartGateway, shared: GatewayProcess, module_upstream: ScriptedUpstream
) -> None:
    paths = ("/status", "/status/", "/status/page.js", "/metrics")

    def refusals(gateway: GatewayProcess, *fields: tuple[str, str]) -> list[Reply]:
        return [gateway.get(path, *fields) for path in paths]

    others = start_gateway({"admin": {"allow": ["10.0.0.0/8"]}}, workers=1)
    replies = refusals(others) + refusals(others, HTML)
    for field in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
        # A page of another origin in the browser of an operator sends this header.
        ("Origin", "https://app.example.com"),
    ]:
        replies += refusals(shared, field)
    assert {(reply.status, reply.value("X-Gateway-Error")) for reply in replies} == {(404, "no_route")}


def test_the_status_contains_no_secret(start_gateway: StartGateway, module_upstream: ScriptedUpstream) -> None:
    with RedisServer(tcp=True) as redis:
        redis.ask("ACL", "SETUSER", "gateway", "on", f">{HIDDEN}", "~*", "+@all")
        issuers = [
            {"issuer": "https://one", "secret": HIDDEN},
            {"issuer": "https://two", "jwks_url": f"{module_upstream.url}/keys?key={HIDDEN}"},
        ]
        gateway = start_gateway(
            {
                **four_services(module_upstream.url),
                "jwt": {"issuers": issuers},
                "redis_url": f"redis://gateway:{HIDDEN}@127.0.0.1:{redis.port}/0",
                "docs": {"enabled": False},
            },
            workers=1,
            environ={"GATEWAY_JWT__SECRET": None},
        )
        gateway.get("/api/devices", bearer(key=HIDDEN, iss="https://one"))
        text = gateway.get("/status").body.decode()
        for word in (HIDDEN, "hunter2", SECRET, PASSWORD, "ada@example.com"):
            assert word not in text
        configuration = json.loads(text)["configuration"]
        assert configuration["redis_url"] == f"redis://**********@127.0.0.1:{redis.port}/0"
        assert configuration["services"]["devices"]["targets"] == [module_upstream.url]
        # The reports that workers publish in Redis don't contain it, either.
        for key in redis.ask("KEYS", f"{PREFIX}now:*"):
            assert "hunter2" not in redis.ask("GET", key.decode()).decode()
        # Without docs.enabled, no documents are fetched.
        assert {one["state"] for one in json.loads(text)["documents"]["services"]} == {"not fetched"}


def test_documents_and_drift(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    operation = {"responses": {"200": {"description": "ok"}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Devices", "version": "1"},
        "paths": {"/api/devices": {"get": operation}},
    }
    body = json.dumps(document).encode()
    upstream.at["/devices.json"] = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    upstream.at["/openapi.json"] = answering(FAILURE)
    settings = four_services(upstream.url)
    settings["services"]["devices"]["openapi_path"] = "/devices.json"
    gateway = start_gateway(settings, workers=1)
    # This request is the first one that needs documents.
    gateway.wait_until(
        lambda: all(one["state"] != "not fetched" for one in status(gateway)["documents"]["services"]), "fetch them"
    )
    gateway.wait_until(lambda: status(gateway)["documents"]["drift"]["count"] == 1, "find the drift")
    documents = status(gateway)["documents"]
    states = {one["service"]: one["state"] for one in documents["services"]}
    assert states == {"auth": "unavailable", "livestreams": "unavailable", "rules": "unavailable", "devices": "current"}
    assert all(one["checked_seconds_ago"] < 60 for one in documents["services"])
    assert documents["drift"] == {
        "compared": 1,
        "count": 1,
        "first": [
            {
                "service": "devices",
                "policy": "devices",
                "method": "GET",
                "path": "/api/devices",
                "what": "the service requires no credentials, but the gateway requires a token",
            }
        ],
    }


def test_of_very_many_workers_the_latest_are_shown() -> None:
    with RedisServer() as redis:
        store = StatusStore(SharedRedis(redis.url, 10), lambda: 1e9)
        with redis.client() as client:
            client.zadd(f"{PREFIX}workers", {f"dead:{number}": 1e9 - 10 - number for number in range(3000)})
            client.zadd(f"{PREFIX}workers", {"ancient:1": 1e9 - 90_000})
        store.write_report("one:1", "{}")
        found = store.read()
        assert len(found) == 1000
        assert found["one:1"] == (b"{}", None)
        assert redis.ask("ZSCORE", f"{PREFIX}workers", "ancient:1") is None
