"""Histograms whose values are counted later, and for many at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from gateway.telemetry.metrics.histograms import Gathered, observe_all

BOUNDS = (0.1, 1.0, 10.0)


def histogram() -> tuple[Histogram, CollectorRegistry]:
    registry = CollectorRegistry()
    return Histogram("seconds", "Of a test.", buckets=BOUNDS, registry=registry), registry


def told(registry: CollectorRegistry) -> bytes:
    return b"\n".join(line for line in generate_latest(registry).splitlines() if b"_created" not in line)


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0, 2.0, 10.0, 16.0, 1024.0])))
def test_many_at_once_count_as_one_after_the_other(values: list[float]) -> None:
    at_once, registry_at_once = histogram()
    one_by_one, registry_one_by_one = histogram()
    observe_all(at_once, values)
    for value in values:
        one_by_one.observe(value)
    assert told(registry_at_once) == told(registry_one_by_one)


def test_what_was_gathered_is_counted_once() -> None:
    counted, registry = histogram()
    gathered = Gathered(counted)
    gathered.observe(0.5)
    gathered.observe(5)
    assert b"seconds_count 0.0" in told(registry)
    gathered.count()
    gathered.count()
    assert b"seconds_count 2.0" in told(registry)
    assert b"seconds_sum 5.5" in told(registry)
