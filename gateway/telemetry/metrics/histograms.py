"""Histograms of what happens with every request: their values are gathered, and counted for many at once."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence

from prometheus_client import Histogram

MOST_VALUES = 100_000


class Gathered:
    """Takes values of a histogram that has no labels; `count` comes later."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        # Where nobody counts, they must not become more and more.
        self._values: deque[float] = deque(maxlen=MOST_VALUES)

    def observe(self, value: float) -> None:
        self._values.append(value)

    def count(self) -> None:
        """Counts what has come by now."""
        observe_all(self._histogram, [self._values.popleft() for _ in range(len(self._values))])


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """As if each were observed; one by one, each would take the locks of its bucket and of the sum."""
    if values:
        for bucket, count in Counter(bisect_left(histogram._upper_bounds, value) for value in values).items():
            histogram._buckets[bucket].inc(count)
        histogram._sum.inc(sum(values))
