"""The quota's counters as a storage and a strategy of limits, which Flask-Limiter finds in its registries.

Flask-Limiter asks limit by limit; one round trip needs all of a request's limits at once. So the first `hit` of a
request takes from all limits in its batch, and the others find their outcome there. Limits that are in no batch (a
decorated view of an application's own) are asked for one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from limits import RateLimitItem, WindowStats
from limits.storage import Storage, StorageTypes
from limits.strategies import STRATEGIES, RateLimiter
from redis import RedisError

from gateway.limits.ladder import Ladder
from gateway.limits.window import Ask, Marks, Outcome

SCHEME = "gateway"
STRATEGY = "gateway-sliding-window"
# What a counter means depends on its limit's window, which these operations of limits' storages are not told.
COUNTED_BY_STRATEGY = f"{SCHEME}:// counts with the strategy {STRATEGY} only"


@dataclass(slots=True)
class Batch:
    """The limits that one request has to pass together, and what came of it once they were asked for.

    `marks` are looked up in the same call. `outcomes` is empty as long as nobody asked, and where nothing could be
    counted."""

    asks: dict[str, Ask] = field(default_factory=dict)
    marks: Marks | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    asked: bool = False


class QuotaStorage(Storage):
    """limits' view of the ladder. `batch` gives the current request's batch, None outside of requests."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - limits' registry reads this name as a plain list

    def __init__(self, uri: str, *, ladder: Ladder, batch: Callable[[], Batch | None], **_: object) -> None:
        super().__init__(uri)
        self.ladder = ladder
        self.batch = batch

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return RedisError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError(COUNTED_BY_STRATEGY)

    def get(self, key: str) -> int:
        raise NotImplementedError(COUNTED_BY_STRATEGY)

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError(COUNTED_BY_STRATEGY)

    def check(self) -> bool:
        return self.ladder.is_reachable()

    def reset(self) -> int | None:
        return self.ladder.forget_all()

    def clear(self, key: str) -> None:
        self.ladder.forget(key)


class QuotaStrategy(RateLimiter):
    """The sliding window counter as a strategy of limits."""

    def __init__(self, storage: StorageTypes) -> None:
        super().__init__(storage)
        if not isinstance(storage, QuotaStorage):
            raise TypeError(f"{STRATEGY} works with {SCHEME}:// only")
        self._ladder = storage.ladder
        self._batch = storage.batch

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        key = item.key_for(*identifiers)
        batch = self._batch()
        if batch is None or key not in batch.asks:
            outcomes = self._ladder.take([ask_for(item, key, cost)])
            return not outcomes or outcomes[0].passed
        if not batch.asked:
            batch.asked = True
            outcomes = self._ladder.take(list(batch.asks.values()), marks=batch.marks)
            batch.outcomes = dict(zip(batch.asks, outcomes, strict=False))
        outcome = batch.outcomes.get(key)
        return outcome is None or outcome.passed

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        outcomes = self._ladder.take([ask_for(item, item.key_for(*identifiers), cost)], consume=False)
        return not outcomes or outcomes[0].passed

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        key = item.key_for(*identifiers)
        batch = self._batch()
        outcome = batch.outcomes.get(key) if batch is not None else None
        if outcome is None:
            outcomes = self._ladder.take([ask_for(item, key, 0)], consume=False)
            outcome = outcomes[0] if outcomes else Outcome(True, item.amount, 0, 0)
        return WindowStats(time.time() + outcome.reset_seconds, outcome.remaining)


def ask_for(item: RateLimitItem, key: str, cost: int) -> Ask:
    return Ask(key, item.amount, item.get_expiry(), cost)


# limits types its registry by its own three classes; it is where the extension looks strategies up by name.
STRATEGIES[STRATEGY] = QuotaStrategy  # type: ignore[assignment]
