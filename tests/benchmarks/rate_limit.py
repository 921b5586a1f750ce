"""CPU and wall time of a rate limit check with one and three limits, relative to one bare EVALSHA of redis-py.

Run it with `.venv/bin/python -m tests.benchmarks.rate_limit`. The ratio depends less on the machine than the figures.
"""

# ruff: noqa: E402 - gevent's patches come first, as in a worker

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import statistics
import time
from collections.abc import Callable
from hashlib import sha1

from redis import Redis

from gateway.config import load_settings
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.limit_sets import Caller, make_limit_set
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.client import SharedRedis
from gateway.redis.private_server import PrivateRedis
from gateway.telemetry.metrics.registry import Metrics
from gateway.tokens.principal import Principal
from tests.benchmarks.load import counted_rounds

ROUNDS, CALLS = 9, 2000
BARE = "return redis.call('GET', KEYS[1])"


def microseconds(call: Callable[[], object]) -> tuple[float, float]:
    """CPU time and wall time of a call in this process, in microseconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.process_time() - cpu) / CALLS * 1e6, (time.perf_counter() - wall) / CALLS * 1e6


def checks(url: str) -> dict[str, Callable[[], object]]:
    settings = load_settings({})
    rate_limiter = FallbackLimiter(
        RedisCounters(SharedRedis(url, 5)),
        LocalCounters(time.monotonic),
        settings.ratelimit.on_redis_failure,
        2,
        time.monotonic,
        Metrics(),
    )
    principal = Principal("ada", "", None, None, frozenset(), 2e9, {"sub": "ada"}, ())
    caller = Caller(principal, "127.0.0.1", (), "devices", "devices")
    one = make_limit_set("one", ["1000000000/day"])
    three = make_limit_set("three", ["1000000000/day", "1000000000/hour", "1000000000/minute burst 1000000000"])
    client, sha = Redis.from_url(url, protocol=2), sha1(BARE.encode(), usedforsecurity=False).hexdigest()
    client.script_load(BARE)
    return {
        "bare EVALSHA": lambda: client.evalsha(sha, 1, "key"),
        "one limit": lambda: rate_limiter.consume(one.checks_for(caller, 1), partition_key=one.partition_key(caller)),
        "three limits": lambda: rate_limiter.consume(
            three.checks_for(caller, 1), partition_key=three.partition_key(caller)
        ),
    }


def main() -> None:
    server = PrivateRedis.start()
    try:
        named = checks(server.url)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in named}
        for _ in counted_rounds(ROUNDS):
            for name, call in named.items():
                found[name].append(microseconds(call))
    finally:
        server.stop()
    print(
        f"{'':14}{'CPU µs':>8}{'wall µs':>9}{'to bare':>9}   (medians of {ROUNDS} interleaved rounds of {CALLS} calls)"
    )
    for name, rounds in found.items():
        ratio = statistics.median(own[1] / bare[1] for own, bare in zip(rounds, found["bare EVALSHA"], strict=True))
        cpu, wall = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name:14}{cpu:8.0f}{wall:9.0f}{ratio:8.2f} x")


if __name__ == "__main__":
    main()
