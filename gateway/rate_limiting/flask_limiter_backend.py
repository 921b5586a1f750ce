"""The quota's counters as a storage and a strategy of limits, which Flask-Limiter finds in its registries.

Flask-Limiter asks limit by limit; one round trip needs all of a request's limits at once. So the gateway's own limits
come as one item, `WHOLE_BATCH`, whose `hit` takes from all limits in the request's batch. Other limits (of views,
blueprints and the like of whoever extends the gateway) are asked for one by one, in sliding windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from limits import RateLimitItem, RateLimitItemPerMinute, WindowStats
from limits.storage import Storage, StorageTypes
from limits.strategies import STRATEGIES, RateLimiter

from gateway.config import OnRedisFailure
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.redis.client import FAILURES

SCHEME = "gateway"
STRATEGY = "gateway"
# What a counter means depends on its limit's window, which these operations of limits' storages are not told.
COUNTED_BY_STRATEGY = f"{SCHEME}:// counts with the strategy {STRATEGY} only"
# Stands for all limits of the batch; its own numbers mean nothing.
WHOLE_BATCH = RateLimitItemPerMinute(1)


@dataclass(slots=True)
class Batch:
    """The limits that one request has to pass together, and what came of it once they were asked for.

    `names` are what the limits are told as, in their order. `marks` are looked up in the same call. `outcomes` is empty
    as long as nobody asked, and where nothing could be counted. With `observed`, a refusal is only told."""

    asks: list[LimitCheck] = field(default_factory=list)
    names: tuple[str, ...] = ()
    partition_by: str = ""
    observed: bool = False
    on_failure: OnRedisFailure | None = None
    marks: RevocationLookup | None = None
    outcomes: list[LimitResult] = field(default_factory=list)
    asked: bool = False
    # When, in monotonic seconds; 0 where it was not.
    asked_at: float = 0.0
    answered_at: float = 0.0

    def take_from(self, rate_limiter: FallbackLimiter) -> None:
        """Raises LimiterUnavailable."""
        self.asked = True
        self.asked_at = time.monotonic()
        try:
            self.outcomes = rate_limiter.take(
                self.asks, marks=self.marks, on_failure=self.on_failure, partition_by=self.partition_by
            )
        finally:
            self.answered_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it took to ask."""
        return self.answered_at - self.asked_at

    def add(self, name: str, ask: LimitCheck, outcomes: list[LimitResult]) -> None:
        """Another limit, of an application's own, that has been asked for by itself: the client is told of it too."""
        if outcomes:
            self.asks.append(ask)
            self.names = (*self.names, name)
            self.outcomes += outcomes

    @property
    def passed(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)


class LimitStorage(Storage):
    """limits' view of the rate_limiter. `batch` gives the current request's batch, None outside of requests."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - limits' registry reads this name as a plain list

    def __init__(
        self, uri: str, *, rate_limiter: FallbackLimiter, batch: Callable[[], Batch | None], **_: object
    ) -> None:
        super().__init__(uri)
        self.rate_limiter = rate_limiter
        self.batch = batch

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return FAILURES

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError(COUNTED_BY_STRATEGY)

    def get(self, key: str) -> int:
        raise NotImplementedError(COUNTED_BY_STRATEGY)

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError(COUNTED_BY_STRATEGY)

    def check(self) -> bool:
        return self.rate_limiter.is_reachable()

    def reset(self) -> int | None:
        return self.rate_limiter.forget_all()

    def clear(self, key: str) -> None:
        self.rate_limiter.forget(key)


class LimitStrategy(RateLimiter):
    """The gateway's way to count as a strategy of limits."""

    def __init__(self, storage: StorageTypes) -> None:
        super().__init__(storage)
        if not isinstance(storage, LimitStorage):
            raise TypeError(f"{STRATEGY} works with {SCHEME}:// only")
        self._rate_limiter = storage.rate_limiter
        self._batch = storage.batch

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        batch = self._batch()
        if batch is not None and item is WHOLE_BATCH:
            if not batch.asked:
                batch.take_from(self._rate_limiter)
            return batch.passed or batch.observed
        ask = ask_of(item, identifiers, cost)
        outcomes = self._take(ask)
        if batch is not None:
            batch.add(str(item), ask, outcomes)
        return all(outcome.passed for outcome in outcomes)

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return all(outcome.passed for outcome in self._take(ask_of(item, identifiers, cost), consume=False))

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        batch = self._batch() if item is WHOLE_BATCH else None
        outcomes = batch.outcomes if batch is not None else self._take(ask_of(item, identifiers, 0), consume=False)
        if not outcomes:
            return WindowStats(time.time(), item.amount)
        least = min(outcomes, key=lambda outcome: outcome.remaining)
        return WindowStats(time.time() + least.reset_seconds, least.remaining)

    def _take(self, ask: LimitCheck, consume: bool = True) -> list[LimitResult]:
        return self._rate_limiter.take([ask], consume, partition_by=ask.key)


def ask_of(item: RateLimitItem, identifiers: tuple[str, ...], cost: int) -> LimitCheck:
    return LimitCheck(item.key_for(*identifiers), item.amount, item.get_expiry(), cost)


# limits types its registry by its own three classes; it is where the extension looks strategies up by name.
STRATEGIES[STRATEGY] = LimitStrategy  # type: ignore[assignment]
