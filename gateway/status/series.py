"""Slots of several workers added up, and the figures that are made of the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.status.latency import BUCKETS, percentile
from gateway.status.report_schema import Slot
from gateway.status.rolling_stats import SLOT_SECONDS, SLOTS

PERCENTILES = {"p50_seconds": 0.5, "p95_seconds": 0.95, "p99_seconds": 0.99}
# Figures of "now" are those of the running slot and of so many before it: less than a minute would jump about.
NOW_SLOTS = 5


@dataclass(slots=True)
class Sum:
    """What was seen in one or several slots, by one or several workers."""

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
        """Requests a second, the share of errors and the percentiles; None where there is nothing to make them of."""
        share = round(self.errors / self.requests, 4) if self.requests else None
        return {
            "requests_per_second": round(self.requests / seconds, 2),
            "error_share": share,
            **{name: rounded(percentile(self.buckets, part)) for name, part in PERCENTILES.items()},
        }


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds:.3g}")


NOTHING = Sum()


@dataclass(frozen=True, slots=True)
class Period:
    """Which slots are told. `running` is the one of this moment, of which `running_seconds` have been told so far (less
    than none, where not even the one before was told to its end); those before `told_until` have been, by everyone."""

    running: int
    running_seconds: float
    told_until: int

    @property
    def finished(self) -> range:
        return range(self.told_until - SLOTS, self.told_until)

    @property
    def now(self) -> range:
        return range(self.running - NOW_SLOTS, self.running + 1)

    @property
    def now_seconds(self) -> float:
        return NOW_SLOTS * SLOT_SECONDS + self.running_seconds


def added_up(slots: Iterable[Slot]) -> dict[int, Sum]:
    """The sums by the slots' numbers."""
    sums: dict[int, Sum] = {}
    for slot in slots:
        sums.setdefault(slot.number, Sum()).add(slot)
    return sums


def series(slots: Iterable[Slot], period: Period, age_seconds: float) -> dict[str, Any]:
    """A service's figures now, over the last 15 minutes, and slot by slot. `age_seconds` is since when anybody has
    counted: before that, no requests doesn't mean that there were none."""
    slots = [slot for slot in slots if period.running - SLOTS <= slot.number <= period.running]
    by_number, now, whole = added_up(slots), Sum(), Sum()
    for slot in slots:
        whole.add(slot)
        if slot.number in period.now:
            now.add(slot)
    points = [by_number.get(number, NOTHING).figures(SLOT_SECONDS) for number in period.finished]
    return {
        **now.figures(max(1.0, min(period.now_seconds, age_seconds))),
        "requests": whole.requests,
        "errors": whole.errors,
        "quota_refusals": whole.refusals,
        "codes": dict(whole.codes.most_common()),
        "history": {name: [point[name] for point in points] for name in points[0]},
    }
