"""The gateway's counters as a storage and a strategy of the limits library, registered where Flask-Limiter finds them.

Flask-Limiter checks one limit at a time, but one round trip has to check all limits of a request. So the gateway passes
its own limits to Flask-Limiter as one item, `ALL_LIMITS`, whose `hit` checks all limits of the request's
`RateLimitState`. Limits that an application adds (of its views and blueprints) are checked one by one, with sliding
windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from limits import RateLimitItem, RateLimitItemPerMinute, WindowStats
from limits.storage import Storage, StorageTypes
from limits.strategies import STRATEGIES, RateLimiter

from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.models import LimitCheck, LimitResult, RateLimitState
from gateway.redis.client import FAILURES

SCHEME = "gateway"
STRATEGY = "gateway"
# Stands for all limits of the request; the amount and time of this item are not used.
ALL_LIMITS = RateLimitItemPerMinute(1)


class LimitStorage(Storage):
    """Passes to LimitStrategy what it needs: the limiter, and `state`, a function that returns the RateLimitState of
    the current request, or None outside of requests."""

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

    def check(self) -> bool:
        return self.rate_limiter.is_reachable()

    def reset(self) -> int | None:
        return self.rate_limiter.clear_all()

    def clear(self, key: str) -> None:
        self.rate_limiter.clear(key)

    def _not_supported(self, *_: object, **__: object) -> NoReturn:
        # These operations don't receive the limit, without which the gateway's counters can't be read.
        raise NotImplementedError(f"{SCHEME}:// counts with the strategy {STRATEGY} only")

    incr = get = get_expiry = _not_supported


class LimitStrategy(RateLimiter):
    """Checks limits with a FallbackLimiter."""

    def __init__(self, storage: StorageTypes) -> None:
        super().__init__(storage)
        if not isinstance(storage, LimitStorage):
            raise TypeError(f"the strategy {STRATEGY} needs the storage {SCHEME}://")
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
            # The response headers show this limit, too.
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


# Flask-Limiter finds strategies by name in this registry of the limits library. The type of the registry
# allows only the library's own three classes.
STRATEGIES[STRATEGY] = LimitStrategy  # type: ignore[assignment]
