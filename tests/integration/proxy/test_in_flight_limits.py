"""In-flight limits: slow uploads and busy callers don't take all slots."""

from __future__ import annotations

import itertools
import re
import select
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.client import Connection, Reply, request_bytes
from tests.support.gateway import GatewayProcess
from tests.support.redis import wait_until
from tests.support.tokens import bearer
from tests.support.upstream import OK, Received, ScriptedUpstream

CHUNKED, LONG = ("Transfer-Encoding", "chunked"), ("Content-Length", "1000000")
SLOTS = 20


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    services: dict[str, dict[str, Any]] = {
        "open": {"auth": "none", "max_in_flight": SLOTS},
        "narrow": {"auth": "none", "max_in_flight": 1},
        "fair": {"max_in_flight": 4, "max_in_flight_per_caller": 0.5},
    }
    for name, own in services.items():
        own |= {"prefix": f"/api/{name}", "targets": [module_upstream.url], "breaker": {"failures": 0}}
    settings = {"default_services": False, "services": services, "proxy": {"trusted_hops": 1}}
    return start_gateway(settings, workers=1)


@pytest.fixture
def uploads(gateway: GatewayProcess) -> Iterator[Callable[..., Connection]]:
    """A function that begins an upload by sending only its first bytes. At the end of the test all uploads are aborted,
    and the fixture waits until their slots are free."""
    with ExitStack() as stack:

        def begin(gateway: GatewayProcess, path: str, *fields: tuple[str, str]) -> Connection:
            connection = stack.enter_context(Connection(gateway.port))
            connection.send(request_bytes("POST", path, fields) + b"1\r\nx\r\n")
            return connection

        yield begin
    gateway.wait_until(lambda: not in_flight(gateway), "end all uploads")


def in_flight(gateway: GatewayProcess) -> float:
    """The sum of the requests in flight of all services, from the metrics."""
    metrics = gateway.get("/metrics").body.decode()
    return sum(map(float, re.findall(r"^gateway_requests_in_flight\{.*\} (.*)$", metrics, re.MULTILINE)))


def refusals(upstream: ScriptedUpstream, begun: Sequence[Connection], path: str = "/api/open") -> list[Reply]:
    """Waits until each upload was refused or has reached the service. Returns the replies to the refused ones."""
    refused: list[Connection] = []

    def are_settled() -> bool:
        poll = select.poll()
        by_descriptor = {one.socket.fileno(): one for one in begun}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        refused[:] = [by_descriptor[descriptor] for descriptor, _ in poll.poll(0)]
        uploads = sum((one.method, one.target) == ("POST", path) for one in upstream.requests)
        return len(refused) + uploads == len(begun)

    wait_until(are_settled, "each is refused or has reached the service")
    return [one.reply("POST") for one in refused]


def from_address(number: int) -> tuple[str, str]:
    return "X-Forwarded-For", f"192.0.2.{number}"


def check_refused(reply: Reply, why: str) -> None:
    assert (reply.status, reply.value("X-Gateway-Error"), reply.value("Retry-After")) == (503, "overloaded", "1")
    assert why in reply.json()["detail"]


def test_slow_uploads_leave_slots_to_other_requests(
    gateway: GatewayProcess, upstream: ScriptedUpstream, uploads: Callable[..., Connection]
) -> None:
    begun = []
    for number in range(410):
        framing = CHUNKED if number % 2 else LONG
        begun.append(uploads(gateway, "/api/open", from_address(number % 8), framing))
    # All uploads together may take half of the slots, those of one caller a quarter.
    replies = refusals(upstream, begun)
    assert len(replies) == len(begun) - SLOTS // 2
    for reply in replies:
        check_refused(reply, "uploads in flight")
    assert len(upstream.requests) == SLOTS // 2
    # The same callers can still send small requests.
    for number in range(8):
        assert gateway.request("GET", "/api/open", [from_address(number)]).status == 200
        assert gateway.request("POST", "/api/open", [from_address(number)], b"x" * 60_000).status == 200


@pytest.mark.parametrize(
    ("addresses", "taken"),
    [
        (["192.0.2.1"], SLOTS // 4),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"], SLOTS // 4),
        (["2001:db8::1", "2001:db8:0:1::1"], SLOTS // 2),
    ],
)
def test_uploads_of_one_caller_leave_slots_to_other_callers(
    gateway: GatewayProcess,
    upstream: ScriptedUpstream,
    uploads: Callable[..., Connection],
    addresses: list[str],
    taken: int,
) -> None:
    begun = [
        uploads(gateway, "/api/open", ("X-Forwarded-For", addresses[number % len(addresses)]), CHUNKED)
        for number in range(SLOTS)
    ]
    replies = refusals(upstream, begun)
    assert len(replies) == SLOTS - taken
    if len(replies) > SLOTS // 2:
        for reply in replies:
            check_refused(reply, "this caller has reached its limit of uploads in flight")
        large = b"x" * 100_000
        assert gateway.request("POST", "/api/open", [from_address(9)], large).status == 200


def test_a_completed_upload_no_longer_counts_as_upload(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    released = threading.Event()

    def wait(_: Received, connection: Any) -> bool:
        assert released.wait(30)
        connection.sendall(OK)
        return True

    upstream.script = wait
    with ThreadPoolExecutor(SLOTS) as pool:
        large = b"x" * 100_000
        sent: list[Future[Reply]] = []
        while len(sent) < SLOTS:
            sent.append(pool.submit(gateway.request, "POST", "/api/open", [from_address(1)], large))
            assert upstream.wait_until(lambda: sum(one.is_whole for one in upstream.requests) == len(sent))
        check_refused(gateway.get("/api/open"), "requests in flight")
        released.set()
        assert Counter(one.result().status for one in sent) == {200: SLOTS}
    assert gateway.get("/api/open").status == 200


def test_max_in_flight_of_one_allows_uploads(
    gateway: GatewayProcess, upstream: ScriptedUpstream, uploads: Callable[..., Connection]
) -> None:
    assert gateway.request("POST", "/api/narrow", (), b"x" * 100_000).status == 200
    slow = uploads(gateway, "/api/narrow", CHUNKED)
    assert upstream.wait_until(lambda: len(upstream.requests) == 2)
    check_refused(gateway.get("/api/narrow"), "requests in flight")
    slow.send(b"0\r\n\r\n")
    assert slow.reply("POST").status == 200
    assert gateway.get("/api/narrow").status == 200


def test_aborted_uploads_release_their_slots(
    gateway: GatewayProcess, upstream: ScriptedUpstream, uploads: Callable[..., Connection]
) -> None:
    attempts = itertools.count()

    def fit() -> bool:
        path = f"/api/open/{next(attempts)}"
        begun = [uploads(gateway, path, from_address(number), CHUNKED) for number in range(SLOTS // 2)]
        refused = refusals(upstream, begun, path)
        for one in begun:
            one.socket.close()
        return not refused

    # Each round takes all upload slots. That succeeds only once the slots of the round before are free.
    for _ in range(5):
        gateway.wait_until(fit, "have all slots again")


def test_max_in_flight_per_caller(gateway: GatewayProcess, upstream: ScriptedUpstream) -> None:
    released = threading.Event()

    def wait(_: Received, connection: Any) -> bool:
        assert released.wait(30)
        connection.sendall(OK)
        return True

    upstream.at["/api/fair/slow"] = wait
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(gateway.get, "/api/fair/slow", bearer("ada")) for _ in range(2)]
        assert upstream.wait_until(lambda: len(upstream.requests) == 2)
        check_refused(
            gateway.get("/api/fair", bearer("ada")), "this caller has reached its limit of requests in flight"
        )
        assert gateway.get("/api/fair", bearer("bob")).status == 200
        released.set()
        assert [one.result().status for one in sent] == [200] * 2
    assert gateway.get("/api/fair", bearer("ada")).status == 200
