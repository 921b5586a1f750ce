"""What a worker remembers of the last 15 minutes."""

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


def finished(recent: RollingStats, service: str = "devices") -> list[Slot]:
    return list(read_history(recent.finished()).get(service, ()))


def running(recent: RollingStats) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in recent.running().items()}


def test_how_long_a_stream_takes_is_in_no_percentile() -> None:
    recent, _ = worker()
    recent.count("devices", 200, "", 0.01)
    recent.count("devices", 200, "", None)
    number, requests, errors, _, _, buckets = running(recent)["devices"]
    assert (number, requests, errors) == (NOW // SLOT_SECONDS, 2, 0)
    assert sum(buckets.values()) == 1


@given(
    st.lists(st.floats(SMALLEST_SECONDS, BOUNDS[-1], exclude_min=True), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_percentiles_are_right_within_a_bucket(times: list[float], share: float) -> None:
    recent, clock = worker()
    for seconds in times:
        recent.count("devices", 200, "", seconds)
    clock.now += SLOT_SECONDS
    (slot,) = finished(recent)
    buckets = [slot.buckets.get(index, 0) for index in range(len(BOUNDS) + 1)]
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    estimate = percentile(buckets, share)
    assert estimate is not None
    assert exact / GROWTH * 0.999 <= estimate <= exact * GROWTH * 1.001


def test_percentiles_at_the_ends() -> None:
    nothing = [0] * (len(BOUNDS) + 1)
    assert percentile(nothing, 0.5) is None
    assert percentile([4, *nothing[1:]], 0.5) == SMALLEST_SECONDS / 2
    assert percentile([*nothing[1:], 1], 0.99) == BOUNDS[-1]


def test_the_bounds_are_where_they_are_said_to_be() -> None:
    assert BOUNDS[0] == 0.0005
    assert 60 < BOUNDS[-1] < 65
    recent, clock = worker()
    for seconds in (0.0, *BOUNDS, 1e9):
        recent.count("devices", 200, "", seconds)
    clock.now += SLOT_SECONDS
    (slot,) = finished(recent)
    # Nothing and the first bound, then each bound in its own bucket, then what is beyond.
    assert slot.buckets == {0: 2, **dict.fromkeys(range(1, len(BOUNDS) + 1), 1)}


def test_what_is_counted_as_what() -> None:
    recent, clock = worker()
    for status, code in [
        (200, ""),
        (404, ""),
        (500, ""),
        (401, "missing_token"),
        (429, "quota_exceeded"),
        # A service's own.
        (429, ""),
        (502, "upstream_unreachable"),
        (200, "upstream_aborted"),
        (200, "client_disconnected"),
    ]:
        recent.count("devices", status, code, 0.001)
    number = int(NOW / SLOT_SECONDS)
    codes = dict.fromkeys(
        "missing_token quota_exceeded upstream_unreachable upstream_aborted client_disconnected".split(), 1
    )
    assert running(recent) == {"devices": [number, 9, 3, 1, codes, {"2": 9}]}
    assert finished(recent) == []
    clock.now += SLOT_SECONDS
    assert running(recent) == {}
    assert finished(recent) == [Slot(number, 9, 3, 1, codes, {2: 9})]
    assert finished(recent, "rules") == []


def test_slots_age_and_their_places_are_taken_again() -> None:
    recent, clock = worker()
    first = int(NOW / SLOT_SECONDS)
    for count in range(3 * RING):
        for _ in range(count % 3 + 1):
            recent.count("devices", 200, "", 0.001)
        # Not at each of them, as slots are written when they are wanted.
        if count % 7 == 0:
            finished(recent)
        clock.now += SLOT_SECONDS
    last = first + 3 * RING
    assert [(slot.number, slot.requests) for slot in finished(recent)] == [
        (number, (number - first) % 3 + 1) for number in range(last - SLOTS, last)
    ]
    clock.now += SLOTS * SLOT_SECONDS - SLOT_SECONDS
    assert [slot.number for slot in finished(recent)] == [last - 1]
    clock.now += SLOT_SECONDS
    assert finished(recent) == []


def test_slots_without_requests_are_left_out() -> None:
    recent, clock = worker()
    first = int(NOW / SLOT_SECONDS)
    for pause in (1, 5, RING + 3):
        recent.count("rules", 200, "", 0.001)
        clock.now += pause * SLOT_SECONDS
    recent.count("rules", 200, "", 0.001)
    assert finished(recent, "rules") == []
    assert [slot[0] for slot in running(recent).values()] == [first + 6 + RING + 3]


def test_a_clock_that_is_set_back_loses_no_more_than_that_time() -> None:
    recent, clock = worker()
    recent.count("devices", 200, "", 0.001)
    clock.now += SLOT_SECONDS
    assert len(finished(recent)) == 1
    clock.now -= 3600
    assert finished(recent) == []
    recent.count("devices", 200, "", 0.001)
    clock.now += SLOT_SECONDS
    assert [slot.number for slot in finished(recent)] == [int((NOW - 3600) / SLOT_SECONDS) + 1]
