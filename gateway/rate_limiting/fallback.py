"""What happens to quotas when Redis fails: count in the worker (`local`), let pass (`open`) or refuse (`closed`).

A breaker keeps a hung Redis cheap: it costs at most one timeout per worker and second. In a cluster each node has its
own breaker, so that a dead node concerns only the callers whose counters it has.

A Redis that answers but refuses to count (out of memory, a replica, too few replicas) can still be read, so revocations
are looked up all the same.
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
from gateway.redis.client import FAILURES
from gateway.redis.first_response import Address
from gateway.telemetry.metrics.registry import Metrics

log = logging.getLogger(__name__)


class FallbackLimiter:
    """Takes from Redis while it answers, else as `on_failure` says. Without Redis configured: in the process.

    `workers` is how many processes share a limit when each counts for itself; `clock` is monotonic seconds."""

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
        self._breaker = RedisBreaker()
        self._is_cluster = redis is not None and redis.is_cluster
        # By node; under None what failed while no node was known.
        self._breakers_of_nodes: dict[Address | None, RedisBreaker] = {}
        self._is_failing = False

    @property
    def state(self) -> str:
        """`ok`, `down` or `not configured`, as this worker saw it last; `down` also where one node of a cluster is."""
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
        """The result of each limit; an empty list where nothing could be counted and the request may pass. `lookup`
        is looked up in the same call, if there is one. `on_failure` is the request's own way, where it has one.

        Raises LimiterUnavailable where it may not pass."""
        if self._redis is None:
            return self._consume_locally(checks, dry_run=dry_run)
        breaker = self._breaker_for(partition_key) if self._is_cluster else self._breaker
        if not breaker.is_failing or ((checks or not breaker.can_read) and breaker.may_try(self._clock())):
            started = self._clock()
            try:
                results = self._redis.consume(checks, lookup, partition_key, dry_run=dry_run)
            except FAILURES as error:
                breaker = self._failed(error, partition_key)
            else:
                if self._is_failing:
                    self._answered(breaker, has_written=not dry_run and all(one.passed for one in results))
                return results
            finally:
                self._metrics.redis_seconds.observe(self._clock() - started)
        if lookup is not None and breaker.can_read:
            self._look_up(breaker, lookup, partition_key)
        if not checks:
            return []
        way = on_failure or self._on_failure
        self._metrics.quota_fallbacks.labels(way).inc()
        if way == "closed":
            raise LimiterUnavailable("try again in a moment")
        return self._consume_locally(checks, dry_run=dry_run) if way == "local" else []

    def is_reachable(self) -> bool:
        """Whether Redis counts. Asks it, unless it has just failed; in a cluster one node, of those that fail the one
        whose turn it is."""
        if self._redis is None:
            return False
        now = self._clock()
        breaker = next((one for one in self._failing() or [self._breaker] if one.may_try(now)), None)
        if breaker is None:
            return False
        try:
            self._redis.probe(breaker.partition_key)
        except FAILURES as error:
            self._failed(error, breaker.partition_key)
        else:
            if self._is_failing:
                self._answered(breaker, has_written=True)
        return not self._is_failing

    def forget(self, key: str) -> None:
        self._local.forget(key)
        if self._redis is not None:
            self._redis.forget(key, key)

    def forget_all(self) -> int:
        count = self._local.forget_all()
        return count if self._redis is None else self._redis.forget_all()

    def _consume_locally(self, checks: Sequence[LimitCheck], *, dry_run: bool) -> list[LimitResult]:
        # A share that could never pass would be no share.
        shares = [
            replace(
                check,
                # Of a bucket this is how fast it fills, and nothing has to pass at once.
                amount=max(1, 0 if check.burst else check.cost, check.amount // self._workers),
                burst=max(check.cost, check.burst // self._workers) if check.burst else 0,
            )
            for check in checks
        ]
        return self._local.consume(shares, dry_run=dry_run)

    def _look_up(self, breaker: RedisBreaker, lookup: RevocationLookup, partition_key: str) -> None:
        """Reads the marks of a request whose limits can't be counted. They stay unknown where that fails, too."""
        assert self._redis is not None  # noqa: S101 - it has failed
        try:
            self._redis.consume([], lookup=lookup, partition_key=partition_key)
        except FAILURES:
            # Or each request would wait for a Redis that has stopped to answer since.
            breaker.can_read = False

    def _breaker_for(self, partition_key: str) -> RedisBreaker:
        """The breaker of the node that has the partition."""
        assert self._redis is not None  # noqa: S101 - there are no nodes without
        node = self._redis.node_of(partition_key)
        breaker = self._breakers_of_nodes.get(node)
        if breaker is None:
            breaker = self._breakers_of_nodes[node] = RedisBreaker()
        return breaker

    def _failing(self) -> list[RedisBreaker]:
        breakers = self._breakers_of_nodes.values() if self._is_cluster else [self._breaker]
        return [breaker for breaker in breakers if breaker.is_failing]

    def _failed(self, error: Exception, partition_key: str) -> RedisBreaker:
        """Opens the breaker of the server that failed, and returns it."""
        # Another node may be known to have the partition by now: the one that was asked last.
        breaker = self._breaker_for(partition_key) if self._is_cluster else self._breaker
        if not breaker.is_failing:
            log.error("Redis fails (%s); quotas go on as on_redis_failure = %s", error, self._on_failure)
        breaker.open(error, self._clock(), partition_key)
        self._is_failing = True
        self._metrics.redis_failures.inc()
        self._metrics.redis_down.set(1)
        return breaker

    def _answered(self, breaker: RedisBreaker, *, has_written: bool) -> None:
        """Closes the breaker of a server that answered, and those of nodes that have no slots any more. A server that
        refused to count is well again when it has counted; to be read, it always could."""
        if breaker.is_failing and (has_written or not breaker.can_read):
            self._close(breaker)
        for node, other in list(self._breakers_of_nodes.items()):
            if self._redis is not None and not self._redis.has_node(node):
                del self._breakers_of_nodes[node]
                if other.is_failing:
                    self._close(other)

    def _close(self, breaker: RedisBreaker) -> None:
        log.warning("Redis answers again; quotas are shared again")
        breaker.close()
        self._is_failing = bool(self._failing())
        if not self._is_failing:
            self._metrics.redis_down.set(0)
