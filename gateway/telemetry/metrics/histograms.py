"""Histograms that are observed for every request. Each `Histogram.observe` takes two locks, so values are collected
first and counted in batches."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence

from prometheus_client import Histogram

MAX_VALUES = 100_000


class DeferredHistogram:
    """Collects values for a histogram without labels until `flush` counts them."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        # The length is limited, as a process without the thread for records never flushes.
        self._values: deque[float] = deque(maxlen=MAX_VALUES)

    def observe(self, value: float) -> None:
        self._values.append(value)

    def flush(self) -> None:
        observe_all(self._histogram, [self._values.popleft() for _ in range(len(self._values))])


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Has the same result as `histogram.observe(value)` for each value."""
    if values:
        for bucket, count in Counter(bisect_left(histogram._upper_bounds, value) for value in values).items():
            histogram._buckets[bucket].inc(count)
        histogram._sum.inc(sum(values))
