"""What happens to quotas when Redis fails: count in the worker (`local`), let pass (`open`) or refuse (`closed`).

A breaker keeps a hung Redis cheap: after a failure the worker does not ask Redis again for a second, and then one
request tries while the others go straight to the fallback. It costs at most one timeout per worker and second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from redis import RedisError

from gateway.errors import LimiterUnavailable
from gateway.limits.redis_counters import RedisCounters
from gateway.limits.window import Ask, LocalCounters, Marks, Outcome

PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Ladder:
    """Takes from Redis while it answers, else as `on_failure` says. Without Redis configured: in the process.

    `workers` is how many processes share a limit when each counts for itself; `clock` is monotonic seconds."""

    def __init__(
        self,
        redis: RedisCounters | None,
        local: LocalCounters,
        on_failure: Literal["local", "open", "closed"],
        workers: int,
        clock: Callable[[], float],
    ) -> None:
        self._redis = redis
        self._local = local
        self._on_failure = on_failure
        self._workers = workers
        self._clock = clock
        self._failing = False
        self._next_try = 0.0

    @property
    def state(self) -> str:
        """`ok`, `down` or `not configured`, as this worker saw it last."""
        if self._redis is None:
            return "not configured"
        return "down" if self._failing else "ok"

    def take(self, asks: Sequence[Ask], consume: bool = True, marks: Marks | None = None) -> list[Outcome]:
        """The outcome of each limit; an empty list where nothing could be counted and the request may pass. `marks`
        are looked up in the same call, if there is one.

        Raises LimiterUnavailable where it may not pass."""
        if self._redis is None:
            return self._take_locally(asks, consume)
        if self._may_try():
            try:
                outcomes = self._redis.take(asks, consume, marks)
            except (RedisError, OSError) as error:
                self._failed(error)
            else:
                self._recovered()
                return outcomes
        if self._on_failure == "closed" and asks:
            raise LimiterUnavailable("try again in a moment")
        return self._take_locally(asks, consume) if self._on_failure == "local" else []

    def is_reachable(self) -> bool:
        """Whether Redis counts. Asks it, unless it has just failed."""
        if self._redis is None or not self._may_try():
            return False
        try:
            self._redis.probe()
        except (RedisError, OSError) as error:
            self._failed(error)
            return False
        self._recovered()
        return True

    def forget(self, key: str) -> None:
        self._local.forget(key)
        if self._redis is not None:
            self._redis.forget(key)

    def forget_all(self) -> int:
        count = self._local.forget_all()
        return count if self._redis is None else self._redis.forget_all()

    def _take_locally(self, asks: Sequence[Ask], consume: bool) -> list[Outcome]:
        shares = [replace(ask, amount=max(1, ask.amount // self._workers)) for ask in asks]
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

    def _recovered(self) -> None:
        if self._failing:
            log.warning("Redis answers again; quotas are shared again")
        self._failing = False
