"""Rate limits while Redis fails: requests are counted in the worker (`local`), pass (`open`) or are refused (`closed`).

A breaker keeps a hung Redis from slowing down every request. In a cluster each node has its own breaker, so that a dead
node affects only the callers whose counters it has.

A Redis that replies but refuses to count (out of memory, a read-only replica, too few replicas) can still be read:
revocations are looked up even then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.config import OnRedisFailure
from gateway.errors import LimiterUnavailable
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.rate_limiting.redis_breaker import RedisBreaker
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.addresses import Address
from gateway.redis.client import FAILURES
from gateway.telemetry.metrics.registry import Metrics

log = logging.getLogger(__name__)


class FallbackLimiter:
    """Counts in Redis. While Redis fails, `on_failure` decides what happens. If no Redis is configured, counts in this
    process.

    `workers` is how many processes share a limit while each counts for itself; `clock` gives monotonic seconds."""

    def __init__(
        self,
        redis: RedisCounters | None,
        local: LocalCounters,
        on_failure: OnRedisFailure,
        workers: int,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._redis = redis
        self._local = local
        self._on_failure = on_failure
        self._workers = workers
        self._clock = clock
        self._metrics = metrics
        # The breaker of each cluster node. The key is None for a single server, and for counters whose node is unknown.
        self._breakers: dict[Address | None, RedisBreaker] = {}
        self._is_failing = False

    @property
    def state(self) -> str:
        """`ok`, `down` or `not configured`, as this worker last saw Redis; `down` also if only one cluster node is."""
        if self._redis is None:
            return "not configured"
        return "down" if self._is_failing else "ok"

    def consume(
        self,
        checks: Sequence[LimitCheck],
        *,
        dry_run: bool = False,
        lookup: RevocationLookup | None = None,
        on_failure: OnRedisFailure | None = None,
        partition_key: str = "",
    ) -> list[LimitResult]:
        """Charges all limits, or none if one refuses or with `dry_run`; sends `lookup` in the same call. Returns the
        result of each check, or an empty list if nothing could be counted and the request may pass. `on_failure`
        overrides the setting for this request.

        Raises LimiterUnavailable if the request must not pass."""
        redis = self._redis
        if redis is None:
            return self._consume_locally(checks, dry_run=dry_run)
        breaker = self._breaker_for(redis, partition_key)
        if not breaker.is_failing or ((checks or not breaker.can_read) and breaker.may_try(self._clock())):
            started = self._clock()
            try:
                results = redis.consume(checks, lookup, partition_key, dry_run=dry_run)
            except FAILURES as error:
                breaker = self._failed(redis, error, partition_key)
            else:
                if self._is_failing:
                    has_written = not dry_run and all(result.passed for result in results)
                    self._succeeded(redis, breaker, has_written=has_written)
                return results
            finally:
                self._metrics.redis_seconds.observe(self._clock() - started)
        if lookup is not None and breaker.can_read:
            try:
                redis.consume([], lookup, partition_key)
            except FAILURES:
                # Redis refused to count before, and now it can't be read either. If `can_read` stayed True, each
                # request would wait for a timeout.
                breaker.can_read = False
        if not checks:
            return []
        on_failure = on_failure or self._on_failure
        self._metrics.quota_fallbacks.labels(on_failure).inc()
        if on_failure == "closed":
            raise LimiterUnavailable("try again in a moment")
        return self._consume_locally(checks, dry_run=dry_run) if on_failure == "local" else []

    def is_reachable(self) -> bool:
        """Calls Redis, and returns whether it counts. If Redis has just failed, returns False without a call. In a
        cluster only one node is called: a failing one whose pause is over, if any node fails."""
        redis = self._redis
        if redis is None:
            return False
        now = self._clock()
        breakers = self._failing_breakers() or [self._breaker_for(redis, "")]
        breaker = next((one for one in breakers if one.may_try(now)), None)
        if breaker is None:
            return False
        try:
            redis.probe(breaker.partition_key)
        except FAILURES as error:
            self._failed(redis, error, breaker.partition_key)
        else:
            if self._is_failing:
                self._succeeded(redis, breaker, has_written=True)
        return not self._is_failing

    def clear(self, key: str) -> None:
        self._local.clear(key)
        if self._redis is not None:
            self._redis.clear(key, key)

    def clear_all(self) -> int:
        """Removes every counter; returns how many there were."""
        count = self._local.clear_all()
        return count if self._redis is None else self._redis.clear_all()

    def _consume_locally(self, checks: Sequence[LimitCheck], *, dry_run: bool) -> list[LimitResult]:
        # Each worker counts against its share of the limit. A share is never so small that no request could pass.
        shares = [
            replace(
                check,
                # A bucket's `amount` is how fast it fills; its `burst` has to cover the cost.
                amount=max(1, 0 if check.burst else check.cost, check.amount // self._workers),
                burst=max(check.cost, check.burst // self._workers) if check.burst else 0,
            )
            for check in checks
        ]
        return self._local.consume(shares, dry_run=dry_run)

    def _breaker_for(self, redis: RedisCounters, partition_key: str) -> RedisBreaker:
        """The breaker of the server that has this partition's counters."""
        node = redis.node_of(partition_key)
        breaker = self._breakers.get(node)
        if breaker is None:
            breaker = self._breakers[node] = RedisBreaker()
        return breaker

    def _failing_breakers(self) -> list[RedisBreaker]:
        return [breaker for breaker in list(self._breakers.values()) if breaker.is_failing]

    def _failed(self, redis: RedisCounters, error: Exception, partition_key: str) -> RedisBreaker:
        """Opens the breaker of the server that failed, and returns it."""
        # The breaker is looked up again: the client may have learned during the call that another node has the
        # partition.
        breaker = self._breaker_for(redis, partition_key)
        if not breaker.is_failing:
            log.error("Redis fails (%s); rate limits continue with on_redis_failure = %s", error, self._on_failure)
        breaker.open(error, self._clock(), partition_key)
        self._is_failing = True
        self._metrics.redis_failures.inc()
        self._metrics.redis_down.set(1)
        return breaker

    def _succeeded(self, redis: RedisCounters, breaker: RedisBreaker, *, has_written: bool) -> None:
        """Closes the breaker after a successful call, and the breakers of nodes that have no slots any more. If a
        server refused to count, a call that only reads does not show that the server has recovered."""
        if breaker.is_failing and (has_written or not breaker.can_read):
            self._close(breaker)
        for node, other in list(self._breakers.items()):
            if not redis.has_node(node):
                del self._breakers[node]
                if other.is_failing:
                    self._close(other)

    def _close(self, breaker: RedisBreaker) -> None:
        log.warning("Redis works again; all workers share their counters again")
        breaker.close()
        self._is_failing = bool(self._failing_breakers())
        if not self._is_failing:
            self._metrics.redis_down.set(0)
