"""Adds up the slots of several workers, and calculates the figures of a service from the sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.status.latency import BUCKETS, percentile
from gateway.status.report_schema import Slot
from gateway.status.rolling_stats import SLOT_SECONDS, SLOTS

PERCENTILES = {"p50_seconds": 0.5, "p95_seconds": 0.95, "p99_seconds": 0.99}
# The present figures cover the running slot and this many slots before it. In a shorter time they would fluctuate too
# much.
PRESENT_SLOTS = 5


@dataclass(slots=True)
class Sum:
    """The sum of several slots."""

    requests: int = 0
    errors: int = 0
    refusals: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, slot: Slot) -> None:
        self.requests += slot.requests
        self.errors += slot.errors
        self.refusals += slot.refusals
        self.codes.update(slot.codes)
        for index, count in slot.buckets.items():
            self.buckets[index] += count

    def figures(self, seconds: float) -> dict[str, float | None]:
        """Returns requests per second, error share and percentiles. Without requests, error share and percentiles are
        None."""
        share = round(self.errors / self.requests, 4) if self.requests else None
        return {
            "requests_per_second": round(self.requests / seconds, 2),
            "error_share": share,
            **{name: rounded(percentile(self.buckets, part)) for name, part in PERCENTILES.items()},
        }


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds:.3g}")


EMPTY = Sum()


@dataclass(frozen=True, slots=True)
class Period:
    """The slots to show. `running` is the number of the running slot, and `running_seconds` is the part of it that the
    reports cover. It is negative if the reports are so old that they do not even cover the slot before. All reports
    cover the slots before `complete_until`."""

    running: int
    running_seconds: float
    complete_until: int

    @property
    def finished(self) -> range:
        return range(self.complete_until - SLOTS, self.complete_until)

    @property
    def present(self) -> range:
        return range(self.running - PRESENT_SLOTS, self.running + 1)

    @property
    def present_seconds(self) -> float:
        return PRESENT_SLOTS * SLOT_SECONDS + self.running_seconds


def series(slots: Iterable[Slot], period: Period, age_seconds: float) -> dict[str, Any]:
    """Returns the present figures of a service, the figures of the last 15 minutes, and the figures of each slot.
    `age_seconds` is the time for which the oldest worker has counted: the present rates are calculated over at most
    this time."""
    slots = [slot for slot in slots if period.running - SLOTS <= slot.number <= period.running]
    by_number: defaultdict[int, Sum] = defaultdict(Sum)
    present, total = Sum(), Sum()
    for slot in slots:
        by_number[slot.number].add(slot)
        total.add(slot)
        if slot.number in period.present:
            present.add(slot)
    points = [by_number.get(number, EMPTY).figures(SLOT_SECONDS) for number in period.finished]
    return {
        **present.figures(max(1.0, min(period.present_seconds, age_seconds))),
        "requests": total.requests,
        "errors": total.errors,
        "quota_refusals": total.refusals,
        "codes": dict(total.codes.most_common()),
        "history": {name: [point[name] for point in points] for name in points[0]},
    }
