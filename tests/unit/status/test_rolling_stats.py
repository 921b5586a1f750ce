"""A worker's requests of the last 15 minutes, in slots."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.status.latency import BOUNDS, GROWTH, SMALLEST_SECONDS, percentile
from gateway.status.report_schema import Slot, read_history
from gateway.status.rolling_stats import RING, SLOT_SECONDS, SLOTS, RollingStats

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def worker() -> tuple[RollingStats, Clock]:
    clock = Clock()
    return RollingStats(["devices", "rules"], clock), clock


def finished(stats: RollingStats, service: str = "devices") -> list[Slot]:
    return list(read_history(stats.history()).get(service, ()))


def running(stats: RollingStats) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in stats.running().items()}


def test_the_duration_of_a_stream_is_in_no_percentile() -> None:
    stats, _ = worker()
    stats.count("devices", 200, "", 0.01)
    stats.count("devices", 200, "", None)
    number, requests, errors, _, _, buckets = running(stats)["devices"]
    assert (number, requests, errors) == (NOW // SLOT_SECONDS, 2, 0)
    assert sum(buckets.values()) == 1


@given(
    st.lists(st.floats(SMALLEST_SECONDS, BOUNDS[-1], exclude_min=True), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_percentiles_are_exact_within_a_bucket(times: list[float], share: float) -> None:
    stats, clock = worker()
    for seconds in times:
        stats.count("devices", 200, "", seconds)
    clock.now += SLOT_SECONDS
    (slot,) = finished(stats)
    buckets = [slot.buckets.get(index, 0) for index in range(len(BOUNDS) + 1)]
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    estimate = percentile(buckets, share)
    assert estimate is not None
    assert exact / GROWTH * 0.999 <= estimate <= exact * GROWTH * 1.001


def test_percentiles_of_the_first_and_the_last_bucket() -> None:
    nothing = [0] * (len(BOUNDS) + 1)
    assert percentile(nothing, 0.5) is None
    assert percentile([4, *nothing[1:]], 0.5) == SMALLEST_SECONDS / 2
    assert percentile([*nothing[1:], 1], 0.99) == BOUNDS[-1]


def test_each_bound_belongs_to_its_own_bucket() -> None:
    assert BOUNDS[0] == 0.0005
    assert 60 < BOUNDS[-1] < 65
    stats, clock = worker()
    for seconds in (0.0, *BOUNDS, 1e9):
        stats.count("devices", 200, "", seconds)
    clock.now += SLOT_SECONDS
    (slot,) = finished(stats)
    # The first bucket has two values: zero and the first bound. Each further bound, and the value beyond the last one,
    # has its own bucket.
    assert slot.buckets == {0: 2, **dict.fromkeys(range(1, len(BOUNDS) + 1), 1)}


def test_errors_refusals_and_codes() -> None:
    stats, clock = worker()
    for status, code in [
        (200, ""),
        (404, ""),
        (500, ""),
        (401, "missing_token"),
        (429, "quota_exceeded"),
        # A 429 that comes from the service has no error code.
        (429, ""),
        (502, "upstream_unreachable"),
        (200, "upstream_aborted"),
        (200, "client_disconnected"),
    ]:
        stats.count("devices", status, code, 0.001)
    number = int(NOW / SLOT_SECONDS)
    codes = dict.fromkeys(
        "missing_token quota_exceeded upstream_unreachable upstream_aborted client_disconnected".split(), 1
    )
    assert running(stats) == {"devices": [number, 9, 3, 1, codes, {"2": 9}]}
    assert finished(stats) == []
    clock.now += SLOT_SECONDS
    assert running(stats) == {}
    assert finished(stats) == [Slot(number, 9, 3, 1, codes, {2: 9})]
    assert finished(stats, "rules") == []


def test_old_slots_are_reused() -> None:
    stats, clock = worker()
    first = int(NOW / SLOT_SECONDS)
    for count in range(3 * RING):
        for _ in range(count % 3 + 1):
            stats.count("devices", 200, "", 0.001)
        # The history is not read in each slot. Slots are formatted when it is read.
        if count % 7 == 0:
            finished(stats)
        clock.now += SLOT_SECONDS
    last = first + 3 * RING
    assert [(slot.number, slot.requests) for slot in finished(stats)] == [
        (number, (number - first) % 3 + 1) for number in range(last - SLOTS, last)
    ]
    clock.now += SLOTS * SLOT_SECONDS - SLOT_SECONDS
    assert [slot.number for slot in finished(stats)] == [last - 1]
    clock.now += SLOT_SECONDS
    assert finished(stats) == []


def test_slots_without_requests_are_omitted() -> None:
    stats, clock = worker()
    first = int(NOW / SLOT_SECONDS)
    for pause in (1, 5, RING + 3):
        stats.count("rules", 200, "", 0.001)
        clock.now += pause * SLOT_SECONDS
    stats.count("rules", 200, "", 0.001)
    assert finished(stats, "rules") == []
    assert [slot[0] for slot in running(stats).values()] == [first + 6 + RING + 3]


def test_a_clock_that_is_set_back_loses_only_that_time() -> None:
    stats, clock = worker()
    stats.count("devices", 200, "", 0.001)
    clock.now += SLOT_SECONDS
    assert len(finished(stats)) == 1
    clock.now -= 3600
    assert finished(stats) == []
    stats.count("devices", 200, "", 0.001)
    clock.now += SLOT_SECONDS
    assert [slot.number for slot in finished(stats)] == [int((NOW - 3600) / SLOT_SECONDS) + 1]
