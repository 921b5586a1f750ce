"""RedisCounters gives the same results as LocalCounters, needs one round trip, and lets every key expire."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis, RedisError
from redis.exceptions import ReadOnlyError

from gateway.config.limit_syntax import Algorithm
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.rate_limiting.redis_counters import PREFIX, RedisCounters
from gateway.redis.client import MAX_CONNECTIONS, SharedRedis
from tests.support.redis import FalseRedis, RedisServer, calls_of

# This window is so long that no test reaches its end.
AGE = 10 * 365 * 86400
TIMEOUT_SECONDS = 0.1


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Redis]:
    with server.client() as client:
        client.flushall()
        client.script_flush()
        client.config_resetstat()
        yield client


def patient(url: str) -> RedisCounters:
    """Uses the gateway's own Redis client, but with a timeout that is long enough for a busy machine."""
    return RedisCounters(SharedRedis(url, 20))


@pytest.fixture
def counters(server: RedisServer, admin: Redis) -> RedisCounters:
    return patient(server.url)


def passed(results: Sequence[LimitResult]) -> bool:
    return all(result.passed for result in results)


def test_exactly_the_amount_passes(counters: RedisCounters) -> None:
    results = [counters.consume([LimitCheck("ada", 5, AGE)])[0] for _ in range(8)]
    assert [result.passed for result in results] == [True] * 5 + [False] * 3
    assert [result.remaining for result in results] == [4, 3, 2, 1, 0, 0, 0, 0]
    assert all(AGE < result.reset_seconds <= 2 * AGE for result in results)
    assert all(0 < result.retry_after_seconds <= 2 * AGE for result in results[5:])
    assert all(result.retry_after_seconds == 0 for result in results[:5])


random_limits = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(0, 4)),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one[0],
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(random_limits, st.booleans()), max_size=15))
def test_redis_and_process_agree(
    counters: RedisCounters, admin: Redis, sequence: Sequence[tuple[Sequence[tuple[str, int, int]], bool]]
) -> None:
    admin.flushall()
    local = LocalCounters(lambda: int(admin.time()[0]))
    for limits, consume in sequence:
        checks = [LimitCheck(f"{key}-{amount}", amount, AGE, cost) for key, amount, cost in limits]
        by_redis, by_process = (one.consume(checks, dry_run=not consume) for one in (counters, local))
        assert [(one.passed, one.remaining) for one in by_redis] == [(one.passed, one.remaining) for one in by_process]
        for one, other in zip(by_redis, by_process, strict=True):
            assert one.reset_seconds == pytest.approx(other.reset_seconds, abs=2)
            assert one.retry_after_seconds == pytest.approx(other.retry_after_seconds, abs=2)


def test_redis_and_process_agree_on_what_is_left_of_the_previous_window(counters: RedisCounters, admin: Redis) -> None:
    # Writes a counter whose previous window had 40 requests. The window is so long that the time of the test hardly
    # matters.
    seconds = int(admin.time()[0])
    check = LimitCheck("ada", 50, AGE)
    counters.consume([check])
    (key,) = admin.keys(PREFIX + "*")
    admin.set(key, f"{seconds // AGE - 1}:7:40")
    result = counters.consume([check], dry_run=True)[0]
    local = LocalCounters(lambda: seconds)
    local._states["ada"] = (seconds // AGE - 1, 7, 40)
    expected = local.consume([check], dry_run=True)[0]
    assert (result.passed, result.remaining) == (expected.passed, expected.remaining)
    assert 50 - 40 <= result.remaining < 50
    refused, expected = (
        counters.consume([LimitCheck("ada", 50, AGE, 50)])[0],
        local.consume([LimitCheck("ada", 50, AGE, 50)])[0],
    )
    assert not refused.passed
    assert refused.retry_after_seconds == pytest.approx(expected.retry_after_seconds, abs=2)


def test_requests_pass_again_after_retry_after_seconds(counters: RedisCounters, server: RedisServer) -> None:
    check = LimitCheck("ada", 3, 1)
    while passed(counters.consume([check])):
        pass
    wait = counters.consume([check])[0].retry_after_seconds
    assert 0 < wait <= 2
    # The script uses the clock of Redis, so the test waits by a blocking command of Redis with a timeout.
    server.ask("BLPOP", "nothing", f"{wait + 0.001:.3f}")
    assert passed(counters.consume([check]))


def test_no_limit_is_charged_if_one_refuses(counters: RedisCounters) -> None:
    small, large = LimitCheck("small", 2, AGE), LimitCheck("large", 10, AGE)
    assert [passed(counters.consume([large, small])) for _ in range(5)] == [True, True, False, False, False]
    refused = counters.consume([large, small])
    assert [(one.passed, one.remaining) for one in refused] == [(True, 8), (False, 0)]
    assert counters.consume([large])[0].remaining == 7


def test_a_dry_run_charges_and_writes_nothing(counters: RedisCounters, admin: Redis) -> None:
    assert [counters.consume([LimitCheck("ada", 1, AGE)], dry_run=True)[0].remaining for _ in range(3)] == [1, 1, 1]
    assert admin.dbsize() == 0


def test_refused_requests_write_nothing(counters: RedisCounters, admin: Redis) -> None:
    counters.consume([LimitCheck("ada", 1, AGE, cost=2), LimitCheck("bob", 5, AGE)])
    assert admin.dbsize() == 0


def test_every_key_expires_after_two_windows(counters: RedisCounters, admin: Redis) -> None:
    for window_seconds in (1, 60, 3600, 86400):
        counters.consume([LimitCheck(f"{window_seconds}", 5, window_seconds), LimitCheck("other", 5, window_seconds)])
        counters.consume([LimitCheck(f"{window_seconds}", 5, window_seconds)])
        counters.consume([LimitCheck(f"{window_seconds}", 5, window_seconds)], dry_run=True)
        left = [admin.pttl(key) for key in admin.keys(PREFIX + "*")]
        assert len(left) == 2
        assert all(0 < one <= 2000 * window_seconds for one in left)
        # A key must not expire while the sliding window still covers the requests that it counts.
        assert all(one > 2000 * window_seconds - 1000 for one in left)
        admin.flushall()


def test_any_number_of_limits_is_one_command(counters: RedisCounters, admin: Redis) -> None:
    counters.consume([LimitCheck("first", 5, 60)])
    admin.config_resetstat()
    for number in (1, 2, 5, 20):
        counters.consume([LimitCheck(f"{number}-{at}", 100, 60) for at in range(number)])
    counters.consume([LimitCheck("first", 5, 60)], dry_run=True)
    assert calls_of(admin, ["evalsha", "eval", "script|load", "get", "ping", "hello", "auth"]) == {
        "evalsha": 5,
        "eval": 0,
        "script|load": 0,
        # GET is called by the script.
        "get": 29,
        "ping": 0,
        "hello": 0,
        "auth": 0,
    }
    # No connection was opened and the script was not sent.
    assert admin.info("commandstats").keys() <= {
        "cmdstat_evalsha",
        "cmdstat_get",
        "cmdstat_set",
        "cmdstat_time",
        "cmdstat_info",
        "cmdstat_config|resetstat",
    }


def test_the_script_is_loaded_again_after_a_flush(counters: RedisCounters, admin: Redis) -> None:
    check = LimitCheck("ada", 3, AGE)
    assert passed(counters.consume([check]))
    admin.script_flush()
    assert counters.consume([check])[0].remaining == 1
    assert counters.consume([check])[0].remaining == 0
    admin.flushall()
    admin.script_flush()
    assert counters.consume([check])[0].remaining == 2


def test_keys_are_hashed_and_short(counters: RedisCounters, admin: Redis) -> None:
    subjects = ["ada@example.com", "a/b", "a%2Fb", "x" * 100_000, "\0\r\n*", "caf\u00e9", "cafe\u0301", "\ud800", ""]
    for subject in subjects:
        assert counters.consume([LimitCheck(subject, 1, AGE)])[0].passed
    keys = [str(key, "ascii") if isinstance(key, bytes) else key for key in admin.keys("*")]
    assert len(keys) == len(subjects)
    assert all(re.fullmatch(r"gateway:quota:[0-9a-f]{32}", key) for key in keys)
    assert not any(counters.consume([LimitCheck(subject, 1, AGE)])[0].passed for subject in subjects)


def test_an_invalid_counter_counts_as_nothing(counters: RedisCounters, admin: Redis) -> None:
    counters.consume([LimitCheck("ada", 2, AGE)])
    (key,) = admin.keys("*")
    for junk in ("", "junk", "1:2", "-1:-1:-1", "1e9:1:1", "9" * 400 + ":1:1"):
        admin.set(key, junk)
        assert counters.consume([LimitCheck("ada", 2, AGE)])[0].remaining == 1
        assert admin.pttl(key) > 0


@pytest.mark.parametrize("algorithm", ["sliding", "fixed", "bucket"])
def test_a_key_of_another_type_fails_no_limit(counters: RedisCounters, admin: Redis, algorithm: Algorithm) -> None:
    checks = [LimitCheck("ada", 2, AGE, 1, algorithm, 2), LimitCheck("bob", 3, AGE)]
    counters.consume(checks[:1])
    (key,) = admin.keys("*")
    admin.delete(key)
    admin.lpush(key, "of another program")
    lookup = RevocationLookup(["gateway:revoked:sub:ada", "gateway:revoked:jti:1", "gateway:revoked:jti:2"])
    admin.set(lookup.keys[0], "7 about")
    # Any value at the key of a revocation revokes the token.
    admin.sadd(lookup.keys[1], "x")
    results = [counters.consume(checks, lookup=lookup) for _ in range(3)]
    assert [[one.passed for one in results] for results in results] == [[True, True], [True, True], [False, True]]
    assert [results[1].remaining for results in results] == [2, 1, 1]
    assert lookup.values == [7, 0, None]
    assert admin.type(key) == b"string"


def test_a_clock_set_back_far_refuses_nobody(counters: RedisCounters, admin: Redis) -> None:
    window_seconds = 3600
    counters.consume([LimitCheck("ada", 2, window_seconds)])
    (key,) = admin.keys("*")
    index = int(admin.time()[0]) // window_seconds
    admin.set(key, f"{index + 1}:0:2")
    assert not counters.consume([LimitCheck("ada", 2, window_seconds)])[0].passed
    admin.set(key, f"{index + 24}:0:2")
    assert counters.consume([LimitCheck("ada", 2, window_seconds)])[0].passed


def test_counters_are_cleared(counters: RedisCounters, admin: Redis) -> None:
    admin.set("someone-elses", 1)
    for key in ("ada", "bob", "eve"):
        counters.consume([LimitCheck(key, 1, AGE)])
    counters.clear("ada")
    assert [passed(counters.consume([LimitCheck(key, 1, AGE)])) for key in ("ada", "bob")] == [True, False]
    assert counters.clear_all() == 3
    assert counters.clear_all() == 0
    assert admin.keys("*") == [b"someone-elses"]


def test_several_gateways_share_exactly_the_amount(server: RedisServer, admin: Redis) -> None:
    gateways = [patient(server.url) for _ in range(4)]

    def consume_many(number: int) -> int:
        checks = [LimitCheck("ada", 500, AGE), LimitCheck("bob", 10_000, AGE)]
        return sum(passed(gateways[number % 4].consume(checks)) for _ in range(50))

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(consume_many, range(32))) == 500
    assert gateways[0].consume([LimitCheck("bob", 10_000, AGE)], dry_run=True)[0].remaining == 9_500


def test_requests_wait_for_a_free_connection(counters: RedisCounters, admin: Redis) -> None:
    check = LimitCheck("ada", 1000, AGE)
    counters.consume([check])
    # Redis is paused for a moment, so that all requests are in flight at once.
    admin.client_pause(500)
    with ThreadPoolExecutor(300) as pool:
        assert all(pool.map(lambda _: passed(counters.consume([check])), range(300)))
    assert counters.consume([check])[0].remaining == 698
    # Ten more connections may be open: the test's own one, and those of earlier tests that are not garbage collected
    # yet.
    assert admin.info("clients")["connected_clients"] <= MAX_CONNECTIONS + 10


def echo_of_false_integers(_: bytes) -> bytes:
    return b"*4\r\n" + b"$1\r\n1\r\n" * 4


GARBAGE: dict[str, Callable[[bytes], bytes] | bytes | None] = {
    "hangs up": None,
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "ok to everything": b"+OK\r\n",
    "an integer": b":1\r\n",
    "null": b"$-1\r\n",
    "an empty list": b"*0\r\n",
    "a null list": b"*-1\r\n",
    "too short a list": b"*3\r\n:1\r\n:1\r\n:1\r\n",
    "a list of nulls": b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
    "a list of texts": echo_of_false_integers,
    "a list with an error": b"*4\r\n:1\r\n-ERR no\r\n:1\r\n:1\r\n",
    "nested lists": b"*1\r\n" * 100 + b":1\r\n",
    "a map": b"%1\r\n:1\r\n:1\r\n",
    "an error": b"-ERR what?\r\n",
    "no script": b"-NOSCRIPT never heard of it\r\n",
    "half an answer": b"*4\r\n:1\r\n:1\r\n",
    "a huge length": b"$99999999999999999999\r\n",
    "bytes": b"\x00\xff\x16\x03\x01" * 1000,
    "nothing": b"",
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "busy": b"-BUSY a script is running\r\n",
    "no auth": b"-NOAUTH Authentication required.\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
def test_replies_of_another_server_are_redis_errors(answer: Callable[[bytes], bytes] | bytes | None) -> None:
    with FalseRedis(0, answer) as false:
        counters = RedisCounters(SharedRedis(f"redis://127.0.0.1:{false.port}/0", TIMEOUT_SECONDS))
        for _ in range(2):
            with pytest.raises((RedisError, OSError)):
                counters.consume([LimitCheck("ada", 5, 60)])


def test_the_client_works_again_after_replies_of_another_server() -> None:
    with RedisServer(tcp=True) as server:
        counters = patient(server.url)
        assert passed(counters.consume([LimitCheck("ada", 5, 60)]))
        server.kill()
        for answer in (b"*1\r\n:1\r\n", b"-NOSCRIPT no\r\n", b"+OK\r\n"):

            def odd(received: bytes, answer: bytes = answer) -> bytes:
                return b"+OK\r\n" if b"AUTH" in received or b"CLIENT" in received else answer

            with FalseRedis(server.port, odd), pytest.raises(RedisError):
                counters.consume([LimitCheck("ada", 5, 60)])

        def without_script(received: bytes) -> bytes:
            if b"EVALSHA" in received:
                return b"-NOSCRIPT no\r\n"
            return b"*1\r\n:1\r\n" if b"SCRIPT" in received or b"EVAL" in received else b"+OK\r\n"

        with FalseRedis(server.port, without_script), pytest.raises(RedisError):
            counters.consume([LimitCheck("ada", 5, 60)])
        server.start()
        assert passed(counters.consume([LimitCheck("ada", 5, 60)]))


def test_a_read_only_redis_is_an_error_and_counts_nothing(counters: RedisCounters, admin: Redis) -> None:
    assert passed(counters.consume([LimitCheck("ada", 5, AGE)]))
    admin.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(ReadOnlyError):
            counters.consume([LimitCheck("ada", 5, AGE), LimitCheck("bob", 5, AGE)])
        # A replica replies to PING, but the probe must find that it does not accept writes.
        with pytest.raises(ReadOnlyError):
            counters.probe()
    finally:
        admin.replicaof("NO", "ONE")
    assert counters.consume([LimitCheck("ada", 5, AGE)])[0].remaining == 3
    counters.probe()


def test_urls_with_database_and_password() -> None:
    with RedisServer(tcp=True) as server:
        counters = patient(server.url.removesuffix("/0") + "/3")
        assert passed(counters.consume([LimitCheck("ada", 1, AGE)]))
        assert server.ask("DBSIZE") == 0
        with pytest.raises(RedisError):
            patient(f"redis://:wrong@127.0.0.1:{server.port}/0").consume([LimitCheck("ada", 1, AGE)])
