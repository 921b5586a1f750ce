"""Histograms of response times. Buckets can be added up over slots, workers and gateways; percentiles can't."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_SECONDS = 0.0005
# The ratio of a bucket's upper bound to the previous bucket's. It is also the largest error of a percentile.
GROWTH = 1.5
# The upper bounds, from 0.5 ms to 64 s. The last bucket has none.
BOUNDS = tuple(SMALLEST_SECONDS * GROWTH**power for power in range(30))
BUCKETS = len(BOUNDS) + 1


def percentile(buckets: Sequence[int], share: float) -> float | None:
    """Returns the time in seconds within which this share of the requests was answered; None without requests. If the
    time is beyond the last bound, returns the last bound."""
    total = sum(buckets)
    if not total:
        return None
    wanted, below = share * total, 0
    for index, count in enumerate(buckets):
        if count and below + count >= wanted:
            return interpolate(index, (wanted - below) / count)
        below += count
    return BOUNDS[-1]


def interpolate(index: int, part: float) -> float:
    """Returns the time below which this part of a bucket's requests lie, if the logarithms of their times are spread
    evenly."""
    if index == 0:
        return SMALLEST_SECONDS * part
    if index == len(BOUNDS):
        return BOUNDS[-1]
    return float(BOUNDS[index - 1] * GROWTH**part)
