"""The quota's counters as a storage and a strategy of limits, which Flask-Limiter finds in its registries.

Flask-Limiter checks limit by limit; one round trip needs all of a request's limits at once. So the gateway's own limits
come as one item, `ALL_LIMITS`, whose `hit` takes from all limits of the request. Other limits (of views,
blueprints and the like of whoever extends the gateway) are asked for one by one, in sliding windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from limits import RateLimitItem, RateLimitItemPerMinute, WindowStats
from limits.storage import Storage, StorageTypes
from limits.strategies import STRATEGIES, RateLimiter

from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.models import LimitCheck, LimitResult, RateLimitState
from gateway.redis.client import FAILURES

SCHEME = "gateway"
STRATEGY = "gateway"
# What a counter means depends on its limit's window, which these operations of limits' storages are not told.
COUNTED_BY_STRATEGY = f"{SCHEME}:// counts with the strategy {STRATEGY} only"
# Stands for all limits of the request; its own numbers mean nothing.
ALL_LIMITS = RateLimitItemPerMinute(1)


class LimitStorage(Storage):
    """limits' view of the rate_limiter. `state` gives the current request's, None outside of requests."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - limits' registry reads this name as a plain list

    def __init__(
        self, uri: str, *, rate_limiter: FallbackLimiter, state: Callable[[], RateLimitState | None], **_: object
    ) -> None:
        super().__init__(uri)
        self.rate_limiter = rate_limiter
        self.state = state

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
        self._state = storage.state

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        state = self._state()
        if state is not None and item is ALL_LIMITS:
            if not state.is_checked:
                self._consume_all(state)
            return state.passed or state.observed
        check = check_of(item, identifiers, cost)
        results = self._consume(check)
        if state is not None and results:
            # The client is shown these limits as well.
            state.checks.append(check)
            state.names = (*state.names, str(item))
            state.results += results
        return all(result.passed for result in results)

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return all(result.passed for result in self._consume(check_of(item, identifiers, cost), dry_run=True))

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        state = self._state() if item is ALL_LIMITS else None
        results = state.results if state is not None else self._consume(check_of(item, identifiers, 0), dry_run=True)
        if not results:
            return WindowStats(time.time(), item.amount)
        least = min(results, key=lambda result: result.remaining)
        return WindowStats(time.time() + least.reset_seconds, least.remaining)

    def _consume_all(self, state: RateLimitState) -> None:
        state.is_checked = True
        state.started_at = time.monotonic()
        try:
            state.results = self._rate_limiter.consume(
                state.checks,
                lookup=state.revocation_lookup,
                on_failure=state.on_failure,
                partition_key=state.partition_key,
            )
        finally:
            state.ended_at = time.monotonic()

    def _consume(self, check: LimitCheck, *, dry_run: bool = False) -> list[LimitResult]:
        return self._rate_limiter.consume([check], dry_run=dry_run, partition_key=check.key)


def check_of(item: RateLimitItem, identifiers: tuple[str, ...], cost: int) -> LimitCheck:
    return LimitCheck(item.key_for(*identifiers), item.amount, item.get_expiry(), cost)


# limits types its registry by its own three classes; it is where the extension looks strategies up by name.
STRATEGIES[STRATEGY] = LimitStrategy  # type: ignore[assignment]
