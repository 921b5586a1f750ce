"""How long requests took, in buckets: these can be added up over slots, workers and gateways, percentiles can't."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_SECONDS = 0.0005
# Each bucket reaches half as far again as the one before: so far a percentile may be off, and mostly is by less.
GROWTH = 1.5
# The upper end of each bucket but the last, which has no end: 0.5 ms to 64 s.
BOUNDS = tuple(SMALLEST_SECONDS * GROWTH**power for power in range(30))
BUCKETS = len(BOUNDS) + 1


def percentile(buckets: Sequence[int], share: float) -> float | None:
    """The seconds within which that share of the requests was answered, None where there were none. Of what took
    longer than all bounds it is only known that it did: the last bound."""
    total = sum(buckets)
    if not total:
        return None
    wanted, below = share * total, 0
    for index, count in enumerate(buckets):
        if count and below + count >= wanted:
            return within(index, (wanted - below) / count)
        below += count
    return BOUNDS[-1]


def within(index: int, part: float) -> float:
    """A point of a bucket; its requests are taken to be spread evenly over the logarithm of their time."""
    if index == 0:
        return SMALLEST_SECONDS * part
    if index == len(BOUNDS):
        return BOUNDS[-1]
    lower = BOUNDS[index - 1]
    return float(lower * GROWTH**part)
