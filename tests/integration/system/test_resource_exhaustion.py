"""If a worker runs out of descriptors during requests, this does not count as a failure of its services."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.upstream import Received, ScriptedUpstream

BEGINNING = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc"


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway whose breaker opens after a single failure."""
    service = {
        "prefix": "/api/slow",
        "targets": [module_upstream.url],
        "auth": "none",
        "keepalive_idle_seconds": 60,
        "breaker": {"failures": 1, "open_seconds": 60, "max_open_seconds": 60},
    }
    tree = {"default_services": False, "ratelimit": {"enabled": False}, "services": {"slow": service}}
    return start_gateway(tree, workers=1)


@contextmanager
def descriptors(pid: int, free: int) -> Iterator[None]:
    """Limits how many more descriptors the process can open until the `with` block ends."""
    taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    limit = next(islice((number for number in count() if number not in taken), free, None))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_waiting_without_a_descriptor_is_no_failure_of_the_service(
    gateway: GatewayProcess, module_upstream: ScriptedUpstream
) -> None:
    upstream = module_upstream
    upstream.reset()
    [worker], go_on = gateway.worker_pids(), threading.Event()

    def slow(_: Received, __: socket.socket) -> bool:
        go_on.wait(20)
        return False

    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/slow"))
        # This opens the connection to the upstream, which the next request reuses.
        assert connection.reply().status == 200
        upstream.script = slow
        with descriptors(worker, 0):
            # To wait for the upstream and for the end of the client's connection takes a descriptor.
            connection.send(request_bytes("GET", "/api/slow"))
            reply = connection.reply()
        go_on.set()
    assert (reply.status, reply.value("X-Gateway-Error")) == (503, "overloaded")
    upstream.reset()
    assert gateway.get("/api/slow").status == 200


def test_an_upload_needs_no_further_descriptor(gateway: GatewayProcess, module_upstream: ScriptedUpstream) -> None:
    upstream = module_upstream
    upstream.reset()
    [worker] = gateway.worker_pids()
    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/slow"))
        assert connection.reply().status == 200
        upstream.reads_bodies = False
        with descriptors(worker, 0):
            # The service responds although the body has not arrived.
            connection.send(request_bytes("PUT", "/api/slow", [("Content-Length", "100000")]))
            assert connection.reply().status == 200


def test_a_response_is_cut_if_no_descriptor_is_left_for_its_rest(
    gateway: GatewayProcess, module_upstream: ScriptedUpstream
) -> None:
    upstream = module_upstream
    upstream.reset()
    [worker], go_on = gateway.worker_pids(), threading.Event()

    def pauses(_: Received, connection: socket.socket) -> bool:
        connection.sendall(BEGINNING)
        go_on.wait(20)
        return False

    with Connection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/slow"))
        assert connection.reply().status == 200
        upstream.script = pauses
        with descriptors(worker, 0):
            connection.send(request_bytes("GET", "/api/slow", [("X-Request-Id", "paused")]))
            assert connection.rest().endswith(b"\r\n\r\nabc")
        go_on.set()
    line = gateway.wait_for_log(lambda line: line["request_id"] == "paused")
    assert (line["status"], line["error"]) == (200, "upstream_aborted")
    assert line["cause"].startswith("Overloaded")
    # The truncated response is not counted as a failure of the service, so the breaker stays closed.
    upstream.reset()
    assert gateway.get("/api/slow").status == 200
