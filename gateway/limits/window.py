"""The sliding window counter: the algorithm of all quotas, here for counting in one process.

Time is cut into windows. What was used is the current window's count plus the previous window's, weighted with the
share of it that the sliding window still covers: `used = current + previous * (1 - elapsed / window)`. A request
passes if used + cost <= amount. Within one window no more than `amount` passes, exactly. Over any stretch of one
window's length, traffic that was uneven inside the previous window can reach up to 2 * amount in theory, and in
practice stays within some percent of `amount`; one who goes on at an even pace gets exactly `amount`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

MAX_LOCAL_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class Ask:
    """One limit that a request wants to pass: `cost` of `amount` per `window_seconds`, counted under `key`."""

    key: str
    amount: int
    window_seconds: int
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `remaining` is after this request; `reset_seconds` until the current window ends;
    `retry_after_seconds` until the same cost would pass, 0 where it did."""

    passed: bool
    remaining: int
    reset_seconds: float
    retry_after_seconds: float


def judge(ask: Ask, now: float, previous: int, current: int) -> Outcome:
    """The outcome for a limit with these counts at `now` (seconds); `remaining` is still before this request."""
    window = ask.window_seconds
    elapsed = now % window
    used = current + previous * (1 - elapsed / window)
    remaining = max(0, math.floor(ask.amount - used))
    if used + ask.cost <= ask.amount:
        return Outcome(True, remaining, window - elapsed, 0)
    if ask.cost > ask.amount:
        wait = float(window)
    elif current + ask.cost <= ask.amount:
        # Enough of the previous window has to slide out.
        wait = window * (1 - (ask.amount - ask.cost - current) / previous) - elapsed
    else:
        # Not in this window; in the next one, enough of this window has to slide out.
        wait = (window - elapsed) + window * (1 - (ask.amount - ask.cost) / current)
    return Outcome(False, remaining, window - elapsed, wait)


class LocalCounters:
    """Counts in this process. `clock` gives seconds since 1970. Bounded: the keys least recently made go first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[int, int, int]] = {}
        self._lock = Lock()

    def take(self, asks: Sequence[Ask], consume: bool = True) -> list[Outcome]:
        """The outcome of each limit; all are charged, or none where one refuses."""
        with self._lock:
            now = self._clock()
            counts = [self._counts_at(ask, now) for ask in asks]
            outcomes = [judge(ask, now, *count) for ask, count in zip(asks, counts, strict=True)]
            if not consume or not all(outcome.passed for outcome in outcomes):
                return outcomes
            for ask, (previous, current) in zip(asks, counts, strict=True):
                self._counts.pop(ask.key, None)
                self._counts[ask.key] = (int(now // ask.window_seconds), previous, current + ask.cost)
            while len(self._counts) > MAX_LOCAL_KEYS:
                del self._counts[next(iter(self._counts))]
            return [
                Outcome(True, max(0, outcome.remaining - ask.cost), outcome.reset_seconds, 0)
                for ask, outcome in zip(asks, outcomes, strict=True)
            ]

    def forget(self, key: str) -> None:
        with self._lock:
            self._counts.pop(key, None)

    def forget_all(self) -> int:
        with self._lock:
            count = len(self._counts)
            self._counts.clear()
            return count

    def _counts_at(self, ask: Ask, now: float) -> tuple[int, int]:
        """(previous, current) window's counts."""
        at, previous, current = self._counts.get(ask.key, (0, 0, 0))
        age = int(now // ask.window_seconds) - at
        if age <= 0:
            return previous, current
        return (current, 0) if age == 1 else (0, 0)
