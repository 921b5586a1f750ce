"""What happens to quotas when Redis fails: count in the worker (`local`), let pass (`open`) or refuse (`closed`).

A breaker keeps a hung Redis cheap: after a failure the worker does not ask Redis again for a second, and then one
request tries while the others go straight to the fallback. It costs at most one timeout per worker and second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.config import OnRedisFailure
from gateway.errors import LimiterUnavailable
from gateway.limits.asks import Ask, Marks, Outcome
from gateway.limits.local_counters import LocalCounters
from gateway.limits.redis_counters import RedisCounters
from gateway.metrics.registry import Metrics
from gateway.redis.client import FAILURES

PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Ladder:
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
        self._failing = False
        self._next_try = 0.0

    @property
    def state(self) -> str:
        """`ok`, `down` or `not configured`, as this worker saw it last."""
        if self._redis is None:
            return "not configured"
        return "down" if self._failing else "ok"

    def take(
        self,
        asks: Sequence[Ask],
        consume: bool = True,
        marks: Marks | None = None,
        *,
        on_failure: OnRedisFailure | None = None,
        partition_by: str = "",
    ) -> list[Outcome]:
        """The outcome of each limit; an empty list where nothing could be counted and the request may pass. `marks`
        are looked up in the same call, if there is one. `on_failure` is the request's own way, where it has one.

        Raises LimiterUnavailable where it may not pass."""
        if self._redis is None:
            return self._take_locally(asks, consume)
        if self._may_try():
            started = self._clock()
            try:
                outcomes = self._redis.take(asks, consume, marks, partition_by)
            except FAILURES as error:
                self._failed(error)
            else:
                if self._failing:
                    self._recovered()
                return outcomes
            finally:
                self._metrics.redis_seconds.observe(self._clock() - started)
        if not asks:
            return []
        way = on_failure or self._on_failure
        self._metrics.quota_fallbacks.labels(way).inc()
        if way == "closed":
            raise LimiterUnavailable("try again in a moment")
        return self._take_locally(asks, consume) if way == "local" else []

    def is_reachable(self) -> bool:
        """Whether Redis counts. Asks it, unless it has just failed."""
        if self._redis is None or not self._may_try():
            return False
        try:
            self._redis.probe()
        except FAILURES as error:
            self._failed(error)
            return False
        if self._failing:
            self._recovered()
        return True

    def forget(self, key: str) -> None:
        self._local.forget(key)
        if self._redis is not None:
            self._redis.forget(key, key)

    def forget_all(self) -> int:
        count = self._local.forget_all()
        return count if self._redis is None else self._redis.forget_all()

    def _take_locally(self, asks: Sequence[Ask], consume: bool) -> list[Outcome]:
        # A share that could never pass would be no share.
        shares = [
            replace(
                ask,
                # Of a bucket this is how fast it fills, and nothing has to pass at once.
                amount=max(1, 0 if ask.burst else ask.cost, ask.amount // self._workers),
                burst=max(ask.cost, ask.burst // self._workers) if ask.burst else 0,
            )
            for ask in asks
        ]
        return self._local.take(shares, consume)

    def _may_try(self) -> bool:
        if not self._failing:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + PAUSE_SECONDS
        return True

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            log.error("Redis fails (%s); quotas go on as on_redis_failure = %s", error, self._on_failure)
        self._failing = True
        self._next_try = self._clock() + PAUSE_SECONDS
        self._metrics.redis_failures.inc()
        self._metrics.redis_down.set(1)

    def _recovered(self) -> None:
        log.warning("Redis answers again; quotas are shared again")
        self._failing = False
        self._metrics.redis_down.set(0)
