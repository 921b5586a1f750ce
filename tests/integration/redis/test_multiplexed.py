"""Requests of a worker share a connection to Redis: each gets its own reply, however replies come, and no other's."""

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
    """One worker; its way to Redis goes through the relay."""
    settings = four_services(module_upstream.url) | {
        "redis_url": f"redis://:{PASSWORD}@127.0.0.1:{relay.port}/0",
        "redis_timeout_seconds": 2,
        "ratelimit": {"default": f"{LIMIT}/day"},
    }
    return start_gateway(settings, workers=1)


@pytest.fixture(autouse=True)
def _as_usual(gateway: GatewayProcess, relay: Relay, upstream: ScriptedUpstream) -> Iterator[None]:
    yield
    relay.reply = lambda data: [data]
    relay.cut()
    gateway.wait_until(lambda: gateway.get("/readyz").json()["redis"] == "ok", "find Redis again")


def remaining(replies: list[Reply]) -> list[int]:
    assert {reply.status for reply in replies} == {200}
    return [int(reply.value("X-RateLimit-Remaining") or -1) for reply in replies]


def call(gateway: GatewayProcess, times: int) -> list[Reply]:
    """A new caller's requests, one after the other on one connection."""
    asked = request_bytes("GET", "/api/devices", [bearer(f"caller-{next(numbers)}@example.com")])
    replies = []
    with Connection(gateway.port) as connection:
        for _ in range(times):
            connection.send(asked)
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
def test_each_of_many_callers_sees_its_own_count_go_down(gateway: GatewayProcess, relay: Relay) -> None:
    taken = relay.taken
    assert call_together(gateway, 12, 40) == [counted_down(40)] * 12
    # One for all of them, which may have been made just now; and one for the operators' page.
    assert relay.taken - taken <= 2


@while_redis_answers
def test_replies_that_come_byte_by_byte_or_a_few_at_a_time(gateway: GatewayProcess, relay: Relay) -> None:
    for size in (1, 7):
        relay.reply = lambda data, size=size: [data[at : at + size] for at in range(0, len(data), size)]  # type: ignore[misc]
        assert call_together(gateway, 6, 10) == [counted_down(10)] * 6


@while_redis_answers
def test_a_reply_that_nobody_asked_for_is_nobodys(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    # An outcome of a limit, as it could be the next one's.
    stray = b"*5\r\n:0\r\n:0\r\n:0\r\n:0\r\n:-1\r\n"
    relay.reply = lambda data: [data + stray]
    first = call(gateway, 1)
    relay.reply = lambda data: [data]
    assert remaining(first) == counted_down(1)
    assert remaining(call(gateway, 3)) == counted_down(3)


@while_redis_answers
def test_a_connection_that_ended_while_nobody_asked_is_made_anew(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    before, taken = failures(gateway), relay.taken
    for _ in range(3):
        relay.cut()
        # The worker has to hear of it before the next request.
        gateway.wait_until(lambda: gateway.get("/healthz").status == 200)
        assert call_together(gateway, 4, 2) == [counted_down(2)] * 4
    assert failures(gateway) == before
    assert relay.taken - taken >= 3


def test_where_it_ends_in_the_middle_all_that_wait_go_on_without(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    before = failures(gateway)

    def cut(data: bytes) -> list[bytes]:
        relay.cut()
        return [data[:5]]

    relay.reply = cut
    with ThreadPoolExecutor(8) as pool:
        replies = [reply for replies in pool.map(lambda _: call(gateway, 2), range(8)) for reply in replies]
    # Counted in the worker: nobody is refused, and nobody is told another's count.
    assert all(left >= LIMIT - 2 for left in remaining(replies))
    assert failures(gateway) == before + 1


def test_an_error_that_is_none_of_rediss_ends_the_connection(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    relay.reply = lambda _: [b"-MOVED 1 nowhere:port\r\n"]
    with ThreadPoolExecutor(8) as pool:
        replies = [reply for replies in pool.map(lambda _: call(gateway, 2), range(8)) for reply in replies]
    assert all(left >= LIMIT - 2 for left in remaining(replies))
    relay.reply = lambda data: [data]
    gateway.wait_until(lambda: gateway.get("/readyz").json()["redis"] == "ok", "find Redis again")
    # A reply that went to the one before would be another's count.
    assert call_together(gateway, 6, 5) == [counted_down(5)] * 6
    assert "Traceback" not in gateway.output()


def test_with_a_connection_for_each_request_too(relay: Relay) -> None:
    shared = SharedRedis(f"redis://:{PASSWORD}@127.0.0.1:{relay.port}/0", 2)
    assert shared.run("a", "ECHO", "one") == b"one"
    for _ in range(2):
        relay.reply = lambda _: [b"-MOVED 1 nowhere:port\r\n"]
        with pytest.raises(FAILURES):
            # The first time a command, the second time the greeting of the new connection.
            shared.run("a", "ECHO", "one")
    relay.reply = lambda data: [data]
    assert shared.run("a", "ECHO", "one") == b"one"
    shared.close()


# In processes of their own, as the one of the tests is none of gevent's.
SCRIPT = """
from gevent import monkey; monkey.patch_all()
import gevent, sys, time
from redis.exceptions import ConnectionError
from gateway.redis.client import SharedRedis
redis = SharedRedis(sys.argv[1], 0.1)
assert redis.run("a", "PING") == b"PONG"
"""
ENDED = """
connection = redis._multiplexed._connection
connection.close("as it happens")
try:
    connection.send(b"never sent")
except ConnectionError:
    assert redis.run("a", "PING") == b"PONG"
else:
    raise SystemExit("nobody would ever be told")
"""
HELD_UP = """
def hold_up():
    end = time.perf_counter() + 0.25
    while time.perf_counter() < end:
        pass
for yields in (0, 1, 2) * 5:
    asking = gevent.spawn(redis.run, "a", "PING")
    for _ in range(yields):
        gevent.sleep(0)
    gevent.spawn(hold_up).join()
    assert asking.get() == b"PONG"
"""


@pytest.mark.parametrize("course", [ENDED, HELD_UP])
def test_nobody_waits_for_what_has_ended_or_takes_its_own_slowness_for_redis(redis: RedisServer, course: str) -> None:
    assert python("-c", SCRIPT + course, redis.url) == ""


def test_nobody_waits_longer_than_the_timeout_however_many_wait(gateway: GatewayProcess, relay: Relay) -> None:
    assert remaining(call(gateway, 1)) == counted_down(1)
    relay.reply = lambda _: []
    with ThreadPoolExecutor(8) as pool:
        replies = [reply for replies in pool.map(lambda _: call(gateway, 1), range(8)) for reply in replies]
    assert remaining(replies) == [LIMIT - 1] * 8
    lines = [line for line in gateway.access_log() if line["redis_seconds"] > 1]
    # A bound that a busy machine keeps, and one timeout after the other would not.
    assert all(line["redis_seconds"] < 4 for line in lines)
