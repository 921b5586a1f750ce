"""The sliding window counter: the algorithm of all quotas, here for counting in one process.

Time is cut into windows. What was used is the current window's count plus the previous window's, weighted with the
share of it that the sliding window still covers: `used = current + previous * (1 - elapsed / window)`. A request
passes if used + cost <= amount. Within one window no more than `amount` passes, exactly. Over any stretch of one
window's length, traffic that was uneven inside the previous window can reach up to 2 * amount in theory, and in
practice stays within some percent of `amount`; one who goes on at an even pace gets `amount`, or one less.
"""

from __future__ import annotations

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


@dataclass(slots=True)
class Marks:
    """Keys to be looked up in the call that takes from the limits. `values` is filled in by it: a number for each
    key, None where there is none; it stays None as a whole where the call could not be made."""

    keys: Sequence[str]
    values: list[int | None] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `remaining` is after this request; `reset_seconds` until the current window ends;
    `retry_after_seconds` until the same cost would pass, 0 where it did."""

    passed: bool
    remaining: int
    reset_seconds: float
    retry_after_seconds: float


def judge(ask: Ask, now: int, previous: int, current: int) -> Outcome:
    """The outcome for a limit with these counts at `now` (milliseconds); `remaining` is still before this request.

    In whole numbers: with fractions, a request that comes back just when it was told to could miss by one bit."""
    window = ask.window_seconds * 1000
    elapsed = now % window
    # What the sliding window still covers of the previous one, rounded up.
    covered = -(-previous * (window - elapsed) // window)
    left = ask.amount - current - covered
    remaining, reset_seconds = max(0, left), (window - elapsed) / 1000
    if ask.cost <= left:
        return Outcome(True, remaining, reset_seconds, 0)
    spare = ask.amount - ask.cost
    if spare < 0:
        wait = window
    elif current <= spare:
        # Enough of the previous window has to slide out.
        wait = window - (spare - current) * window // previous - elapsed
    else:
        # Not in this window; in the next one, enough of this window has to slide out.
        wait = (window - elapsed) + window - spare * window // current
    return Outcome(False, remaining, reset_seconds, wait / 1000)


class LocalCounters:
    """Counts in this process. `clock` gives seconds. Bounded: the keys least recently charged go first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[int, int, int]] = {}
        self._lock = Lock()

    def take(self, asks: Sequence[Ask], consume: bool = True) -> list[Outcome]:
        """The outcome of each limit; all are charged, or none where one refuses."""
        with self._lock:
            now = round(self._clock() * 1000)
            counts = [self._counts_at(ask, now) for ask in asks]
            outcomes = [judge(ask, now, *count[1:]) for ask, count in zip(asks, counts, strict=True)]
            if not consume or not all(outcome.passed for outcome in outcomes):
                return outcomes
            for ask, (at, previous, current) in zip(asks, counts, strict=True):
                self._counts.pop(ask.key, None)
                self._counts[ask.key] = (at, previous, current + ask.cost)
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

    def _counts_at(self, ask: Ask, now: int) -> tuple[int, int, int]:
        """(the current window's number, the previous window's count, its own) as known at `now` (milliseconds)."""
        index = now // (ask.window_seconds * 1000)
        at, previous, current = self._counts.get(ask.key, (index, 0, 0))
        if at in (index, index + 1):
            # In the next window: the clock was set back a little, and what is known stays the best guess.
            return at, previous, current
        return index, current if at == index - 1 else 0, 0
