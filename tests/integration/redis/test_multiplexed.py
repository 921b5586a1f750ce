"""Requests of a worker share one connection to Redis: each gets its own reply, however the replies arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from gateway.redis.client import FAILURES, SharedRedis
from tests.support.client import Connection, Reply, request_bytes
from tests.support.commands import python
from tests.support.gateway import GatewayProcess, four_services
from tests.support.redis import PASSWORD, RedisServer, while_redis_answers
from tests.support.relay import Relay
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

LIMIT = 1000
numbers = count(1)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(tcp=True) as server:
        yield server


@pytest.fixture(scope="module")
def relay(redis: RedisServer) -> Iterator[Relay]:
    with Relay(redis.port) as relay:
        yield relay


@pytest.fixture(scope="module")
def gateway(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream, relay: Relay
) -> GatewayProcess:
    """A gateway with one worker, which reaches Redis through the relay."""
    settings = four_services(module_upstream.url) | {
        "redis_url": f"redis://:{PASSWORD}@127.0.0.1:{relay.port}/0",
        "redis_timeout_seconds": 2,
        "ratelimit": {"default": f"{LIMIT}/day"},
    }
    return start_gateway(settings, workers=1)


@pytest.fixture(autouse=True)
def _restored(gateway: GatewayProcess, relay: Relay, upstream: ScriptedUpstream) -> Iterator[None]:
    yield
    relay.reply = lambda data: [data]
    relay.cut()
    gateway.wait_until(lambda: gateway.get("/readyz").json()["redis"] == "ok", "find Redis again")


def remaining(replies: list[Reply]) -> list[int]:
    assert {reply.status for reply in replies} == {200}
    return [int(reply.value("X-RateLimit-Remaining") or -1) for reply in replies]


def call(gateway: GatewayProcess, times: int) -> list[Reply]:
    """Sends requests of a new caller, one after the other on one client connection. Returns the replies."""
    data = request_bytes("GET", "/api/devices", [bearer(f"caller-{next(numbers)}@example.com")])
    replies = []
    with Connection(gateway.port) as connection:
        for _ in range(times):
            connection.send(data)
            replies.append(connection.reply())
    return replies


def call_together(gateway: GatewayProcess, callers: int, times: int) -> list[list[int]]:
    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(lambda _: remaining(call(gateway, times)), range(callers)))


def counted_down(times: int) -> list[int]:
    return list(range(LIMIT - 1, LIMIT - 1 - times, -1))


def failures(gateway: GatewayProcess) -> int:
    return gateway.output().count("Redis fails")


@while_redis_answers
def test_each_caller_gets_its_own_count(gateway: GatewayProcess, relay: Relay) -> None:
    taken = relay.taken
    assert call_together(gateway, 12, 40) == [counted_down(40)] * 12
    # At most two connections to Redis are opened: a new one for all requests, and one for the status page.
    assert relay.taken - taken <= 2


@while_redis_answers
def test_replies_may_arrive_in_small_pieces(gateway: GatewayProcess, relay: Relay) -> None:
    for size in (1, 7):
        relay.reply = lambda data, size=size: [data[at : at + size] for at in range(0, len(data), size)]  # type: ignore[misc]
        assert call_together(gateway, 6, 10) == [counted_down(10)] * 6


@while_redis_answers
def test_an_unexpected_reply_is_given_to_no_request(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    # This stray reply is a valid result of a limit check, so the next check could take it for its own.
    stray = b"*5\r\n:0\r\n:0\r\n:0\r\n:0\r\n:-1\r\n"
    relay.reply = lambda data: [data + stray]
    first = call(gateway, 1)
    relay.reply = lambda data: [data]
    assert remaining(first) == counted_down(1)
    assert remaining(call(gateway, 3)) == counted_down(3)


@while_redis_answers
def test_a_connection_that_closed_while_idle_is_replaced(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    before, taken = failures(gateway), relay.taken
    for _ in range(3):
        relay.cut()
        # Gives the worker time to notice the closed connection before the next request needs Redis.
        gateway.wait_until(lambda: gateway.get("/healthz").status == 200)
        assert call_together(gateway, 4, 2) == [counted_down(2)] * 4
    assert failures(gateway) == before
    assert relay.taken - taken >= 3


def test_waiting_requests_use_the_fallback_if_the_connection_closes(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    before = failures(gateway)

    def cut(data: bytes) -> list[bytes]:
        relay.cut()
        return [data[:5]]

    relay.reply = cut
    with ThreadPoolExecutor(8) as pool:
        replies = [reply for replies in pool.map(lambda _: call(gateway, 2), range(8)) for reply in replies]
    # While Redis fails, the worker counts: no request is refused, and no caller gets the count of another one.
    assert all(left >= LIMIT - 2 for left in remaining(replies))
    assert failures(gateway) == before + 1


def test_an_unparsable_error_closes_the_connection(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    relay.reply = lambda _: [b"-MOVED 1 nowhere:port\r\n"]
    with ThreadPoolExecutor(8) as pool:
        replies = [reply for replies in pool.map(lambda _: call(gateway, 2), range(8)) for reply in replies]
    assert all(left >= LIMIT - 2 for left in remaining(replies))
    relay.reply = lambda data: [data]
    gateway.wait_until(lambda: gateway.get("/readyz").json()["redis"] == "ok", "find Redis again")
    # If replies were shifted by one, callers would get the counts of others.
    assert call_together(gateway, 6, 5) == [counted_down(5)] * 6
    assert "Traceback" not in gateway.output()


def test_unparsable_errors_without_multiplexing(relay: Relay) -> None:
    shared = SharedRedis(f"redis://:{PASSWORD}@127.0.0.1:{relay.port}/0", 2)
    assert shared.run("a", "ECHO", "one") == b"one"
    for _ in range(2):
        relay.reply = lambda _: [b"-MOVED 1 nowhere:port\r\n"]
        with pytest.raises(FAILURES):
            # The first call fails at the reply to its command, the second one while it sets up a new connection.
            shared.run("a", "ECHO", "one")
    relay.reply = lambda data: [data]
    assert shared.run("a", "ECHO", "one") == b"one"
    shared.close()


# These scripts run in their own processes, because the tests' process is not patched by gevent.
SCRIPT = """
from gevent import monkey; monkey.patch_all()
import gevent, sys, time
from redis.exceptions import ConnectionError
from gateway.redis.client import SharedRedis
redis = SharedRedis(sys.argv[1], 0.1)
assert redis.run("a", "PING") == b"PONG"
"""
CLOSED = """
connection = redis._multiplexed._connection
connection.close("the test closes it")
try:
    connection.send(b"never sent")
except ConnectionError:
    assert redis.run("a", "PING") == b"PONG"
else:
    raise SystemExit("no waiter would ever get a reply")
"""
BUSY = """
def be_busy():
    end = time.perf_counter() + 0.25
    while time.perf_counter() < end:
        pass
for yields in (0, 1, 2) * 5:
    asking = gevent.spawn(redis.run, "a", "PING")
    for _ in range(yields):
        gevent.sleep(0)
    gevent.spawn(be_busy).join()
    assert asking.get() == b"PONG"
"""


@pytest.mark.parametrize("course", [CLOSED, BUSY])
def test_a_closed_connection_and_a_busy_worker(redis: RedisServer, course: str) -> None:
    assert python("-c", SCRIPT + course, redis.url) == ""


def test_no_request_waits_longer_than_the_timeout(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    relay.reply = lambda _: []
    with ThreadPoolExecutor(8) as pool:
        replies = [reply for replies in pool.map(lambda _: call(gateway, 1), range(8)) for reply in replies]
    assert remaining(replies) == [LIMIT - 1] * 8
    lines = [line for line in gateway.access_log() if line["redis_seconds"] > 1]
    # Each request waits for one timeout of 2 s. The bound leaves room for a busy machine, but would be exceeded if
    # requests waited for one timeout after the other.
    assert all(line["redis_seconds"] < 4 for line in lines)
