"""The services' documents are fetched on demand, by one worker for all, shared through Redis, and refreshed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import slow_merge
from tests.support.client import Reply
from tests.support.documented import DOCUMENT, Documented, document, settings_for, states
from tests.support.gateway import GatewayProcess, gateways
from tests.support.redis import RedisServer, free_port
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream


@pytest.fixture
def service(upstream: ScriptedUpstream) -> Documented:
    return Documented(upstream)


@pytest.fixture(autouse=True)
def empty_redis(server: RedisServer) -> None:
    server.ask("FLUSHALL")


@pytest.fixture
def start(service: Documented, server: RedisServer) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways that are stopped at the end of the test. In Redis they would share their documents with the
    gateways of the next test."""
    with gateways() as start_with:

        def start(
            workers: int = 1,
            docs: dict[str, Any] | None = None,
            url: str = "",
            **devices: Any,
        ) -> GatewayProcess:
            settings = settings_for(service, docs, **devices)
            return start_with(settings, workers=workers, environ={"REDIS_URL": url or server.url})

        yield start


def test_documents_are_not_fetched_before_one_is_requested(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    gateway = start()
    assert gateway.get("/api/devices", bearer()).status == 200
    assert gateway.get("/docs").status == 200
    assert [one.target for one in service.upstream.requests] == ["/api/devices"]


def test_one_worker_fetches_for_all_workers_and_gateways(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    gateways = [start(workers=2) for _ in range(2)]
    replies: list[Reply] = []

    def ask(gateway: GatewayProcess) -> None:
        replies.extend(gateway.get("/openapi/devices.json") for _ in range(10))

    threads = [threading.Thread(target=ask, args=(gateway,)) for gateway in gateways for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The requests to the other workers waited for the result of this fetch.
    assert {reply.status for reply in replies} == {200}
    assert len(service.fetches()) == 1
    assert {reply.value("ETag") for reply in replies} == {gateways[0].get("/openapi/devices.json").value("ETag")}


def test_document_is_refreshed_by_age_with_validators(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    gateway = start(docs={"refresh_seconds": 1})
    before = gateway.get("/openapi/devices.json").value("ETag")
    assert service.upstream.wait_until(lambda: len(service.fetches()) >= 2)
    first, second = service.fetches()[:2]
    assert (first.values("If-None-Match"), second.values("If-None-Match")) == ([], ['"one"'])
    assert gateway.get("/openapi/devices.json").value("ETag") == before
    service.serve(DOCUMENT | {"info": {"title": "New", "version": "8"}}, "Last-Modified: Tue, 24 Nov 2026 00:00:00 GMT")
    gateway.wait_until(lambda: document(gateway, "/openapi/devices.json")["info"]["title"] == "New", "refresh it")
    count = len(service.fetches())
    assert service.upstream.wait_until(lambda: len(service.fetches()) > count)
    assert service.fetches()[-1].values("If-Modified-Since") == ["Tue, 24 Nov 2026 00:00:00 GMT"]


def test_document_of_a_service_that_is_down_stays_and_is_marked_stale(
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
    # Another gateway, which starts while the service is down, reads the document and its age from Redis.
    other = start()
    assert document(other)["info"]["x-gateway-services"]["devices"]["x-gateway-stale-since"] == since
    service.serve(DOCUMENT)
    gateway.wait_until(lambda: states(gateway)["devices"] == "current", "have it again")


def test_service_that_hangs_does_not_delay_other_documents(
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


def test_endless_document_in_tiny_chunks_does_not_delay_other_requests(
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
        # The fetch was still running when the gateway responded to this request.
        assert not ended.is_set()
    finally:
        released.set()
        asking.join()


def test_new_operation_of_a_service_is_not_refused(start: Callable[..., GatewayProcess], service: Documented) -> None:
    operation = {"responses": {"200": {"description": "ok"}}}
    with_post = DOCUMENT | {"paths": DOCUMENT["paths"] | {"/api/devices": {"post": operation}}}
    gateway = start(workers=2, docs={"refresh_seconds": 3600}, undocumented="refuse")
    assert {gateway.get("/openapi/devices.json").status for _ in range(20)} == {200}
    assert len(service.fetches()) == 1
    service.serve(with_post, "X-Any: tag")
    # Both workers use the new document, although only one of them has fetched it.
    replies = [gateway.request("POST", "/api/devices", [bearer()]) for _ in range(20)]
    assert {reply.status for reply in replies} == {200}
    assert len(service.fetches()) == 2


def test_requests_wait_only_briefly_for_an_early_refresh_that_hangs(
    start: Callable[..., GatewayProcess], service: Documented
) -> None:
    released = threading.Event()

    def hang(_: Received, __: socket.socket) -> bool:
        released.wait(60)
        return False

    # The gateway runs without Redis: the wait must be short in this case, too.
    url = f"redis://127.0.0.1:{free_port()}/0"
    gateway = start(docs={"refresh_seconds": 3600}, url=url, undocumented="refuse")
    assert gateway.get("/openapi/devices.json").status == 200
    service.upstream.at["/devices.json"] = hang
    try:
        for _ in range(3):
            reply = gateway.request("PATCH", "/api/devices", [bearer()])
            assert (reply.status, reply.value("X-Gateway-Error")) == (404, "undocumented")
    finally:
        released.set()


def test_without_redis_each_worker_fetches_for_itself(start: Callable[..., GatewayProcess]) -> None:
    gateway = start(url=f"redis://127.0.0.1:{free_port()}/0")
    assert states(gateway)["devices"] == "current"


def test_documents_are_503_and_not_404_before_the_first_merge(
    start_gateway: Callable[..., GatewayProcess], service: Documented, tmp_path: Path
) -> None:
    released = tmp_path / "released"
    settings = settings_for(service)
    settings["services"]["livestreams"]["in_docs"] = False
    gateway = start_gateway(
        settings,
        workers=1,
        application="tests.support.slow_merge:app",
        environ={slow_merge.RELEASED_BY: str(released)},
    )
    merged = ["/openapi.json", "/openapi/devices.json", "/openapi/rules.json", "/docs/services.json"]
    for path in merged * 2:
        reply = gateway.get(path)
        assert (reply.status, reply.value("X-Gateway-Error")) == (503, "document_unavailable")
        assert (reply.value("Content-Type"), reply.value("Retry-After")) == ("application/problem+json", "1")
    # A service whose document is not shown gets the same status as a service that does not exist.
    assert [gateway.get(f"/openapi/{name}.json").status for name in ("nobody", "livestreams")] == [404, 404]
    assert gateway.get("/docs").status == 200
    released.touch()
    gateway.wait_until(lambda: {gateway.get(path).status for path in merged} == {200}, "merge the documents")
